"""A study in memory, in canonical axes, under a title without the patient's name."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from metseg.errors import DataError
from metseg.imaging.geometry import Geometry
from metseg.imaging.io import Original
from metseg.imaging.preprocessing.specification import PreprocessingSpecification
from metseg.imaging.preprocessing.window import channel_window
from metseg.serving.viewer.slices import Shape


@dataclass(frozen=True, eq=False)
class Study:
    """One study.

    Attributes:
        title: shown on the page; never a file name.
        image: `(slices, height, width, channels)`, raw intensities.
        channels: their names in order.
        geometry: in patient coordinates.
        truth: bool `(slices, height, width)`, if the study came with a mask.
        original: template for masks, if the study is one NIfTI, NRRD or picture.
        notes: for the user, on how the study was read.
    """

    title: str
    image: NDArray[np.generic] = field(repr=False)
    channels: tuple[str, ...]
    geometry: Geometry
    truth: NDArray[np.bool_] | None = field(default=None, repr=False)
    original: Original | None = field(default=None, repr=False)
    notes: tuple[str, ...] = ()

    @cached_property
    def digest(self) -> str:
        """SHA-256 of voxels, channels and geometry: the key of cached predictions."""
        digest = hashlib.sha256(repr((self.image.shape, self.image.dtype.str, self.channels, self.geometry)).encode())
        digest.update(np.ascontiguousarray(self.image).data)
        return digest.hexdigest()

    @property
    def shape(self) -> Shape:
        """`(slices, height, width)`."""
        slices, height, width = self.image.shape[:3]
        return slices, height, width

    @property
    def flat(self) -> bool:
        """True for a single picture, with one plane."""
        return self.shape[0] == 1

    def channel(self, name: str) -> NDArray[Any]:
        """Return the intensities `(slices, height, width)` of one channel."""
        return self.image[..., self.channels.index(name)]

    @cached_property
    def windows(self) -> dict[str, tuple[float, float]]:
        """The model's default window of each channel: percentiles inside the head."""
        specification = PreprocessingSpecification(channels=self.channels)
        return {
            name: channel_window(np.asarray(self.channel(name), dtype=np.float32), specification)
            for name in self.channels
        }

    @cached_property
    def ranges(self) -> dict[str, tuple[float, float]]:
        """Least and greatest intensity of each channel."""
        return {name: (float(self.channel(name).min()), float(self.channel(name).max())) for name in self.channels}

    def for_model(self, wanted: Sequence[str]) -> NDArray[np.generic]:
        """Return the channels that a model takes, in its order.

        Raises:
            DataError: the study lacks one.
        """
        missing = [name for name in wanted if name not in self.channels]
        if missing:
            raise DataError(
                f"The model takes the channels {', '.join(wanted)}; the study has {', '.join(self.channels)} and lacks "
                f"{', '.join(missing)}. Open it with that channel, or choose another model."
            )
        if tuple(wanted) == self.channels:
            return self.image
        return self.image[..., [self.channels.index(name) for name in wanted]]
