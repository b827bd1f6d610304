"""The anatomical template, read once a process and sampled exactly.

The tissue maps are those of the ICBM 152 nonlinear symmetric 2009a template (Fonov et al., NeuroImage 54, 2011)
as they come inside the `nilearn` wheel. They hold the brain alone; skull, scalp and face are layers by distance
from it.
"""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage as ndi

from metseg.errors import DataError
from metseg.phantom.random_draws import Floats

_TEMPLATE_ORIGIN = (-98.0, -134.0, -72.0)
_TEMPLATE_SHAPE = (197, 233, 189)
_COARSE = 2
_FRACTIONS = 16  # trilinear weights are sixteenths of a mm: weights of a point are integers that sum to 16³
_LANE = np.uint64(32)


@dataclass(frozen=True)
class Template:
    """Template maps in MNI space, made for fast exact sampling.

    Attributes:
        tissue: uint64, flat over `(197, 233, 189)` at 1 mm; grey matter 0–255 in the low, white in the high 32 bits.
        brain_distance: float32 `(99, 117, 95)` at 2 mm; mm outside (negative: inside) the inner surface of the skull.
        head_distance: the same, where below the forehead the brain is replaced by the outline of the head.
    """

    tissue: NDArray[np.uint64]
    brain_distance: Floats
    head_distance: Floats


@lru_cache(maxsize=1)
def load_template() -> Template:
    """Read the template from the installed `nilearn`; about two seconds, once a process.

    Raises:
        DataError: `nilearn` or its template is not installed.
    """
    grey = _read_map("gm").astype(np.uint64)
    white = _read_map("wm").astype(np.uint64)
    brain = (grey + white)[::_COARSE, ::_COARSE, ::_COARSE] >= 100
    skull = _distance(_closed(brain, 10.0))
    forehead = round((-6.0 - _TEMPLATE_ORIGIN[2]) / _COARSE)
    head = skull <= 0
    head[:, :, :forehead] |= head[:, :, forehead : forehead + 1]
    return Template((grey | (white << _LANE)).ravel(), _smoothed(skull, 3), _smoothed(_distance(head), 3))


def _read_map(tissue: str) -> NDArray[np.uint8]:
    import nibabel

    name = f"mni_icbm152_{tissue}_tal_nlin_sym_09a_converted.nii.gz"
    spec = importlib.util.find_spec("nilearn")
    path = Path(spec.origin).parent / "datasets" / "data" / name if spec and spec.origin else None
    if path is None or not path.is_file():
        raise DataError(
            f"The phantom is grown from {name} of the package nilearn, which is not installed here. "
            "Install the extra `data`: pip install 'metseg[data]'."
        )
    data = np.asarray(nibabel.load(path).dataobj)  # type: ignore[attr-defined]
    if data.shape != _TEMPLATE_SHAPE or data.dtype != np.uint8:
        raise DataError(
            f"{path} holds {data.dtype} {data.shape}; the phantom is defined on uint8 {_TEMPLATE_SHAPE}. "
            "Install the version of nilearn that stands in requirements.lock."
        )
    return data


def _closed(mask: NDArray[np.bool_], radius: float) -> NDArray[np.bool_]:
    grown = ndi.distance_transform_edt(~mask) * _COARSE <= radius
    # The cistern around the pituitary would else become a bony column in mid-brain.
    filled = [ndi.binary_fill_holes(grown[:, :, level]) for level in range(mask.shape[2])]
    return np.asarray(ndi.distance_transform_edt(np.stack(filled, axis=2)) * _COARSE > radius, dtype=np.bool_)


def _distance(mask: NDArray[np.bool_]) -> Floats:
    half = _COARSE / 2
    return np.asarray(
        np.where(
            mask, half - ndi.distance_transform_edt(mask) * _COARSE, ndi.distance_transform_edt(~mask) * _COARSE - half
        ),
        dtype=np.float32,
    )


def _smoothed(values: Floats, rounds: int) -> Floats:
    for _ in range(rounds):
        for axis in range(3):
            moved = np.moveaxis(values, axis, 0)
            inner = (moved[:-2] + moved[2:] + moved[1:-1] * np.float32(2.0)) * np.float32(0.25)
            moved[1:-1] = inner
    return values


def sample_tissue(tissue: NDArray[np.uint64], where: list[Floats]) -> tuple[Floats, Floats]:
    """Return grey and white matter from 0 to 1 at template positions in mm.

    Trilinear interpolation in integers.
    """
    low: list[NDArray[np.int64]] = []
    part: list[NDArray[np.uint64]] = []
    for axis in range(3):
        steps = np.rint((where[axis] - np.float32(_TEMPLATE_ORIGIN[axis])) * np.float32(_FRACTIONS)).astype(np.int64)
        np.clip(steps, 0, (_TEMPLATE_SHAPE[axis] - 1) * _FRACTIONS - 1, out=steps)
        low.append(steps // _FRACTIONS)
        part.append((steps % _FRACTIONS).astype(np.uint64))
    strides = (_TEMPLATE_SHAPE[1] * _TEMPLATE_SHAPE[2], _TEMPLATE_SHAPE[2], 1)
    index = low[0] * strides[0] + low[1] * strides[1] + low[2]
    whole = np.uint64(_FRACTIONS)

    def lines(offset: int) -> NDArray[np.uint64]:
        start = index + offset
        line: NDArray[np.uint64] = tissue[start] * (whole - part[2]) + tissue[start + 1] * part[2]
        return line

    def plane(offset: int) -> NDArray[np.uint64]:
        square: NDArray[np.uint64] = lines(offset) * (whole - part[1]) + lines(offset + strides[1]) * part[1]
        return square

    total: NDArray[np.uint64] = plane(0) * (whole - part[0]) + plane(strides[0]) * part[0]
    full = np.float32(255 * _FRACTIONS * _FRACTIONS * _FRACTIONS)
    return (total & np.uint64(0xFFFFFFFF)).astype(np.float32) / full, (total >> _LANE).astype(np.float32) / full


def sample_distance(values: Floats, where: list[Floats]) -> Floats:
    """Return one of the template's distance maps at template positions in mm."""
    low: list[NDArray[np.int64]] = []
    part: list[Floats] = []
    for axis in range(3):
        position = (where[axis] - np.float32(_TEMPLATE_ORIGIN[axis])) / np.float32(_COARSE)
        position = np.clip(position, np.float32(0.0), np.float32(values.shape[axis] - 1.001))
        cell = position.astype(np.int64)
        low.append(cell)
        part.append(position - cell.astype(np.float32))
    flat = values.ravel()
    strides = (values.shape[1] * values.shape[2], values.shape[2], 1)
    index = low[0] * strides[0] + low[1] * strides[1] + low[2]

    def lines(offset: int) -> Floats:
        start = index + offset
        first = flat[start]
        line: Floats = first + (flat[start + 1] - first) * part[2]
        return line

    def plane(offset: int) -> Floats:
        first = lines(offset)
        return first + (lines(offset + strides[1]) - first) * part[1]

    first = plane(0)
    return first + (plane(strides[0]) - first) * part[0]
