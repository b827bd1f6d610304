"""`metseg predict`: image files in, masks in each image's own geometry and a table of lesions out."""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from metseg.errors import DataError, UsageError
from metseg.files import write_json
from metseg.imaging.contours import write_outlines
from metseg.imaging.formats import Original, is_image, is_volume, mask_suffix, read_image, write_mask_like
from metseg.imaging.grids import require_same_grid
from metseg.imaging.specification import PreprocessingSpecification
from metseg.imaging.volume import Geometry
from metseg.imaging.window import apply_window, volume_window
from metseg.progress import track
from metseg.scoring.lesion_table import lesion_table
from metseg.scoring.operating_point import apply
from metseg.serving.client import SegmentationClient

logger = logging.getLogger(__name__)

MASK_NAME = re.compile(r"([-_](seg|mask)|\bmask)$", re.IGNORECASE)


@dataclass(frozen=True)
class PredictCase:
    """The files of one case by channel; `""` stands for one file that holds all channels."""

    name: str
    files: dict[str, Path] = field(default_factory=dict)


@dataclass(frozen=True)
class ReadCase:
    """A case in memory: image `(slices, height, width, channels)`, geometry, and what its mask is written like."""

    image: NDArray[np.generic]
    geometry: Geometry
    original: Original


def bare_name(path: Path) -> str:
    """The file's name without the suffixes of its format."""
    return re.sub(r"(\.nii)?\.[A-Za-z0-9]+$", "", path.name)


def _expand(paths: Sequence[Path]) -> list[Path]:
    """Image files among `paths` and, for folders, in them; masks beside images are left out."""
    found: list[Path] = []
    for path in paths:
        if path.is_dir():
            inside = [item for item in sorted(path.rglob("*")) if is_image(item)]
            images = [item for item in inside if not MASK_NAME.search(bare_name(item))]
            if not images:
                raise UsageError(f"{path}: the folder holds no image (.nii, .nii.gz, .nrrd, .png, .jpg, .tif)")
            found += images
        elif path.is_file():
            found.append(path)
        else:
            raise UsageError(f"{path}: there is no such file or folder")
    return found


def group_files(files: Sequence[Path], wanted: Sequence[str], given: Sequence[str]) -> list[PredictCase]:
    """Gather files into cases by the channel that their names end in.

    Args:
        files: image files.
        wanted: channels that the model takes, in order.
        given: channel of each file in order; then all files are one case.

    Raises:
        UsageError: names and channels do not fit.
    """
    if given:
        if len(given) != len(files) or set(given) != set(wanted):
            raise UsageError(
                f"--channels {','.join(given)}: expected one name for each of the {len(files)} files, "
                f"and together the model's channels {','.join(wanted)}"
            )
        return [PredictCase(bare_name(files[0]), dict(zip(given, files, strict=True)))]
    cases: dict[tuple[Path, str], PredictCase] = {}
    for path in files:
        name = bare_name(path)
        match = re.fullmatch(r"(.+)[-_.]([A-Za-z][A-Za-z0-9]*)", name)
        if match and match[2] in wanted:
            case = cases.setdefault((path.parent, match[1]), PredictCase(match[1]))
            case.files[match[2]] = path
        elif match and is_volume(path) and len(wanted) > 1:
            logger.info("%s: %s is no channel of the model (%s); left out", path, match[2], ",".join(wanted))
        else:
            cases[path.parent, name] = PredictCase(name, {"": path})
    if not cases:
        raise UsageError(
            f"no file is named after a channel of the model ({', '.join(wanted)}), as in case-{wanted[0]}.nii.gz: "
            "rename them, or name the channels with --channels"
        )
    return list(cases.values())


def read_case(case: PredictCase, wanted: Sequence[str]) -> ReadCase:
    """Read the channels of a case in the model's order.

    Raises:
        DataError: a channel is missing, or sizes or places differ.
    """
    if "" in case.files:
        path = case.files[""]
        array, geometry, original = read_image(path)
        image = array if array.ndim == 4 else array[..., None]
        if image.shape[-1] != len(wanted):
            raise DataError(
                f"{path}: the file has {image.shape[-1]} channel(s), but the model takes {len(wanted)} "
                f"({', '.join(wanted)}): give one file a channel, named like {case.name}-{wanted[0]}.nii.gz"
            )
        return ReadCase(image, geometry, original)
    missing = [channel for channel in wanted if channel not in case.files]
    if missing:
        have = next(iter(case.files.values()))
        expected = have.name.replace(next(iter(case.files)), missing[0])
        raise DataError(
            f"{have.parent / case.name}: channel {', '.join(missing)} is missing; the model takes "
            f"{', '.join(wanted)}. Expected a file such as {expected} beside {have.name}"
        )
    planes = []
    first: tuple[Path, NDArray[np.generic], Geometry, Original] | None = None
    for channel in wanted:
        path = case.files[channel]
        array, geometry, original = read_image(path)
        if first is None:
            first = (path, array, geometry, original)
        else:
            remedy = "Files on different grids are not stacked: resample one onto the other."
            require_same_grid(first[0], first[1].shape, first[2], path, array.shape, geometry, remedy)
        planes.append(array)
    if first is None:
        raise DataError(f"{case.name}: no channel was given")
    return ReadCase(np.stack(planes, axis=-1), first[2], first[3])


def _predict_case(
    client: SegmentationClient, case: PredictCase, description: dict[str, Any], out: Path
) -> dict[str, Any]:
    """Segment one case and write its mask and overlay."""
    read = read_case(case, description["channels"])
    answer = client.predict(read.image)
    spacing = read.geometry.spacing
    mask = apply(answer.probability, description["threshold"], description["minimum_volume_mm3"], spacing)
    mask_path = out / f"{case.name}-mask{mask_suffix(read.original)}"
    write_mask_like(mask_path, mask.astype(np.uint8), read.original)
    raw = np.asarray(read.image, dtype=np.float32)
    specification = PreprocessingSpecification(channels=tuple(description["channels"]))
    windowed = apply_window(raw, volume_window(raw, specification))
    overlay_path = out / f"{case.name}-overlay.png"
    write_outlines(overlay_path, windowed[..., -1], mask)
    rows = lesion_table(mask, answer.probability, read.geometry)
    logger.info("%s: %d lesions, %s", case.name, len(rows), mask_path)
    return {
        "case": case.name,
        "files": {channel or "all": str(path) for channel, path in case.files.items()},
        "mask": mask_path.name,
        "overlay": overlay_path.name,
        "version": answer.version,
        "units": "mm" if read.geometry.spacing_known else "voxels",
        "voxels_at_threshold": int(answer.mask.sum()),
        "voxels_kept": int(mask.sum()),
        "lesions": [asdict(row) for row in rows],
    }


def predict_files(
    paths: Sequence[Path], out: Path, server: str, model_name: str, label: str, channels: Sequence[str]
) -> Path:
    """Segment image files through a model server.

    Args:
        paths: files, or folders of files, of one or more cases.
        out: folder for `<case>-mask.*`, `<case>-overlay.png` and `lesions.json`.
        server: `host:port`.
        model_name: model to ask.
        label: version label, or empty for the latest version.
        channels: channel of each file in order, where names do not tell.

    Returns:
        Path of `lesions.json`.
    """
    files = _expand(paths)
    with SegmentationClient(server, model_name, label=label or None) as client:
        description = client.describe()
        cases = group_files(files, description["channels"], channels)
        out.mkdir(parents=True, exist_ok=True)
        results = [_predict_case(client, case, description, out) for case in track(cases, "segmenting")]
    table = out / "lesions.json"
    model = {name: description[name] for name in ("architecture", "channels", "threshold", "minimum_volume_mm3")}
    write_json(table, {"model": {"name": model_name, **model}, "cases": results})
    total = sum(len(result["lesions"]) for result in results)
    print(f"{len(results)} case(s), {total} lesion(s): masks, overlays and lesions.json in {out}")
    return table
