"""nnU-Net's raw data sets: `imagesTr/<case>_<4 digits>.nii.gz` with `labelsTr/<case>.nii.gz` and `dataset.json`."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from metseg.errors import DataError, UsageError
from metseg.imaging.io import bare_stem
from metseg.imaging.layouts.base import (
    Layout,
    LayoutOptions,
    SourceCohort,
    listed,
    patient_and_timepoint,
    visible,
)
from metseg.imaging.layouts.masks import labels_note, lesion_labels
from metseg.imaging.layouts.volumes import Labelling, VolumeCase, labelling_of, volume_cohort, volumes_by_name

NUMBERED = re.compile(r"(?P<case>.+)_(?P<channel>\d{4})")
DESCRIPTION = "dataset.json"


class NnUnet(Layout[VolumeCase]):
    """Two folders of volumes; channels are numbered, and `dataset.json` names channels and labels."""

    name = "nnunet"
    looks_for = "imagesTr/x_0000.nii.gz, x_0001.nii.gz, … with labelsTr/x.nii.gz, and dataset.json"

    def recognise(self, root: Path) -> bool:
        """Return True if both folders exist and the first contains a numbered volume."""
        folders = (root / "imagesTr", root / "labelsTr")
        return all(folder.is_dir() for folder in folders) and bool(volumes_by_name(folders[0], _numbered))

    def find(self, root: Path) -> Iterator[VolumeCase]:
        """Yield the cases with an image or a label file."""
        names = _channel_names(_description(root), root / DESCRIPTION)
        images: dict[str, dict[str, Path]] = {}
        for stem, path in volumes_by_name(root / "imagesTr", _numbered).items():
            case, _, number = stem.rpartition("_")
            images.setdefault(case, {})[names.get(int(number), f"channel{int(number)}")] = path
        labels = volumes_by_name(root / "labelsTr", bare_stem) if images else {}
        for case in sorted({*images, *labels}):
            yield VolumeCase(
                case, *patient_and_timepoint(case), root / "imagesTr", images.get(case, {}), labels.get(case)
            )

    def cohort(self, root: Path, cases: Sequence[VolumeCase], options: LayoutOptions) -> SourceCohort:
        """Describe the cases as a cohort; every one needs its label file and the chosen channels."""
        description = _description(root)
        names = _channel_names(description, root / DESCRIPTION)
        numbers = {name: number for number, name in names.items()}
        others = [path.name for path in visible(root) if path.name not in ("imagesTr", "labelsTr", DESCRIPTION)]
        return volume_cohort(
            root,
            self.name,
            cases,
            options,
            lambda masks: (
                _labelling(description, options.labels, root / DESCRIPTION)
                or labelling_of(options.labels, masks, self.name)
            ),
            lambda case, channel: f"{case}_{numbers.get(channel, 0):04d}.nii.gz",
            default=tuple(name for _, name in sorted(names.items())),
            notes=[f"{len(others)} entries are not for training and were passed over: {listed(others)}"] * bool(others),
        )


def _numbered(path: Path) -> str | None:
    return bare_stem(path) if NUMBERED.fullmatch(bare_stem(path)) else None


def _description(root: Path) -> dict[str, object]:
    """Read `dataset.json`; empty if it does not exist."""
    path = root / DESCRIPTION
    if not path.is_file():
        return {}
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: is no JSON ({error}). Write it anew, or remove it.") from error
    if not isinstance(content, dict):
        raise DataError(f"{path}: an object is expected. Write it anew, or remove it.")
    return content


def _channel_names(description: dict[str, object], path: Path) -> dict[int, str]:
    """Return names by number, from `channel_names` or, in the first version of the format, `modality`."""
    given = description.get("channel_names", description.get("modality", {}))
    if not isinstance(given, dict) or not all(str(number).isdecimal() for number in given):
        raise DataError(f"{path}: channel_names should name each number, such as {{'0': 't1c'}}; found {given}.")
    # A comma separates names in data_channels=…, and a name ends a file's name when predicting.
    names = {int(number): re.sub(r"[^A-Za-z0-9]+", "", str(name)) for number, name in given.items()}
    if len(set(names.values())) != len(names) or not all(names.values()):
        raise DataError(f"{path}: channel_names {given} should all differ in their letters and digits; correct them.")
    return names


def _labelling(description: dict[str, object], labels: str, path: Path) -> tuple[Labelling, list[str]] | None:
    """Return the labelling of `dataset.json`, and notes on it; None if it has no labels."""
    given = description.get("labels")
    if not isinstance(given, dict):
        return None
    # The first version of the format has the number first: {"1": "tumour"}; regions name several numbers.
    pairs = [(value, key) if isinstance(value, str) else (str(key), value) for key, value in given.items()]
    try:
        named = {
            int(number): name for name, value in pairs for number in (value if isinstance(value, list) else [value])
        }
    except (TypeError, ValueError) as error:
        raise DataError(f"{path}: labels {given} should give each name a number ({error}); correct them.") from error
    foreground = sorted(number for number in named if number > 0 and named[number] != "ignore")
    if len(foreground) == 1:
        return Labelling(()), labels_note(labels, NnUnet.name)
    lesion = lesion_labels(labels or "core")
    if not set(lesion) <= set(foreground):
        raise UsageError(
            f"data_labels={labels or 'core'} means {', '.join(map(str, lesion))}, but {path} names {named}. Name those "
            "of them that are lesion, such as data_labels=1,2."
        )
    chosen = ", ".join(f"{number} ({named[number]})" for number in lesion)
    return Labelling(lesion, tuple(named)), [f"lesion is label {chosen} of those that {DESCRIPTION} names: {named}"]
