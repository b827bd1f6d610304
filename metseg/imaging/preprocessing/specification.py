"""Specification of the preprocessing: stored with the records, and built into the served graph."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path

from metseg.imaging.preprocessing.clahe import CLIP_LIMIT, TILES


@dataclass(frozen=True)
class PreprocessingSpecification:
    """All settings of the conversion from raw intensities to a network's input.

    Attributes:
        channels: names of the channels, in order.
        image_size: side in pixels of the square that slices are fitted into.
        head_fraction: the head is where a voxel exceeds `floor + head_fraction * (bright - floor)`, `floor` being
            the minimum of the channel and `bright` its 99th percentile.
        lower_percentile: intensity inside the head that becomes 0.
        upper_percentile: intensity inside the head that becomes 255.
        clahe: whether contrast-limited adaptive histogram equalisation is applied.
        clahe_clip_limit: OpenCV's `clipLimit`.
        clahe_tiles: OpenCV's `tileGridSize`, `(tiles_x, tiles_y)`.
        context_slices: neighbours on either side that are stacked onto a slice's channels.
    """

    channels: tuple[str, ...]
    image_size: int = 144
    head_fraction: float = 0.1
    lower_percentile: float = 1.0
    upper_percentile: float = 99.8
    clahe: bool = True
    clahe_clip_limit: float = CLIP_LIMIT
    clahe_tiles: tuple[int, int] = TILES
    context_slices: int = 0

    @property
    def network_channels(self) -> int:
        """Number of the network's input channels: the image's own and those of the context slices."""
        return len(self.channels) * (2 * self.context_slices + 1)

    def to_json(self) -> str:
        """Return JSON with sorted keys, the form that is stored and hashed."""
        return json.dumps(asdict(self), sort_keys=True, indent=1)

    def digest(self) -> str:
        """Return the SHA-256 of the JSON form."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()

    @classmethod
    def from_json(cls, text: str) -> PreprocessingSpecification:
        """Parse the output of `to_json`.

        >>> specification = PreprocessingSpecification(("t1c",), clahe_clip_limit=3.0)
        >>> PreprocessingSpecification.from_json(specification.to_json()) == specification
        True
        """
        fields = json.loads(text)
        fields["channels"] = tuple(fields["channels"])
        fields["clahe_tiles"] = tuple(fields["clahe_tiles"])
        return cls(**fields)

    def write(self, path: Path) -> None:
        """Write the JSON form to `path`."""
        path.write_text(self.to_json() + "\n", encoding="utf-8")

    @classmethod
    def read(cls, path: Path) -> PreprocessingSpecification:
        """Read the JSON form from `path`."""
        return cls.from_json(path.read_text(encoding="utf-8"))
