"""nnU-Net's raw data sets: `imagesTr/<case>_<4 digits>.nii.gz` with `labelsTr/<case>.nii.gz` and `dataset.json`."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from metseg.errors import DataError, UsageError
from metseg.imaging.io import bare_stem
from metseg.imaging.layouts.masks import labels_note, lesion_labels
from metseg.imaging.layouts.names import patient_and_timepoint
from metseg.imaging.layouts.source import LayoutOptions, SourceCohort, listed, visible
from metseg.imaging.layouts.volumes import Labelling, VolumeCase, volume_cohort, volumes_by_name

NUMBERED = re.compile(r"(?P<case>.+)_(?P<channel>\d{4})")
DESCRIPTION = "dataset.json"


class NnUnet:
    """Two folders of volumes; channels are numbered, and `dataset.json` names channels and labels."""

    name = "nnunet"
    looks_for = "imagesTr/x_0000.nii.gz, x_0001.nii.gz, … with labelsTr/x.nii.gz, and dataset.json"

    def recognise(self, root: Path) -> bool:
        """Whether both folders are there and a numbered volume lies in the first."""
        folders = (root / "imagesTr", root / "labelsTr")
        return all(folder.is_dir() for folder in folders) and any(
            NUMBERED.fullmatch(bare_stem(path)) for path in volumes_by_name(folders[0], lambda path: path.name).values()
        )

    def open(self, root: Path, options: LayoutOptions) -> SourceCohort:
        """Find the cases; every one needs its label file and the chosen channels."""
        description = _description(root / DESCRIPTION)
        channel_names = _channel_names(description, root / DESCRIPTION)
        images: dict[str, dict[str, Path]] = {}
        for path in volumes_by_name(root / "imagesTr", bare_stem).values():
            match = NUMBERED.fullmatch(bare_stem(path))
            if match:
                number = int(match["channel"])
                images.setdefault(match["case"], {})[channel_names.get(number, f"channel{number}")] = path
        labels = volumes_by_name(root / "labelsTr", bare_stem)
        if not images:
            raise DataError(f"{root}: no case of the layout {self.name} in it; expected {self.looks_for}.")
        cases = [
            VolumeCase(case, *patient_and_timepoint(case), root / "imagesTr", images.get(case, {}), labels.get(case))
            for case in sorted({*images, *labels})
        ]
        numbers = {name: number for number, name in channel_names.items()}
        in_order = tuple(name for _, name in sorted(channel_names.items()))
        labelling, notes = _labelling(description, options.labels, root / DESCRIPTION)
        others = [path.name for path in visible(root) if path.name not in ("imagesTr", "labelsTr", DESCRIPTION)]
        if others:
            notes.append(f"{len(others)} entries are not for training and were passed over: {listed(others)}")
        return volume_cohort(
            root,
            self.name,
            cases,
            options,
            file_of=lambda case, channel: f"{case}_{numbers.get(channel, 0):04d}.nii.gz",
            labelling=labelling,
            default=in_order,
            notes=notes,
        )


def _description(path: Path) -> dict[str, Any]:
    """Content of `dataset.json`; nothing where there is none."""
    if not path.is_file():
        return {}
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: is no JSON ({error}). Write it anew, or remove it.") from error
    if not isinstance(content, dict):
        raise DataError(f"{path}: an object is expected. Write it anew, or remove it.")
    return content


def _channel_names(description: dict[str, Any], path: Path) -> dict[int, str]:
    """Names by number, from `channel_names` or, in the first version of the format, `modality`."""
    given = description.get("channel_names", description.get("modality", {}))
    try:
        # A comma parts names in channels=…, and a name ends a file's name when predicting.
        names = {int(number): re.sub(r"[^A-Za-z0-9]+", "", str(name)) for number, name in given.items()}
    except (AttributeError, ValueError) as error:
        raise DataError(f"{path}: channel_names should name each number, such as {{'0': 't1c'}} ({error}).") from error
    if len(set(names.values())) != len(names) or not all(names.values()):
        raise DataError(f"{path}: channel_names {given} should all differ in their letters and digits; correct them.")
    return names


def _labelling(description: dict[str, Any], labels: str, path: Path) -> tuple[Labelling | None, list[str]]:
    """What `dataset.json` says of the labels; None where it says nothing."""
    given = description.get("labels")
    if not isinstance(given, dict):
        return None, []
    # The first version of the format has the number first: {"1": "tumour"}; regions name several numbers.
    pairs = [(value, key) if isinstance(value, str) else (str(key), value) for key, value in given.items()]
    numbers = [value if isinstance(value, list) else [value] for _, value in pairs]
    try:
        named = {int(number): name for (name, _), group in zip(pairs, numbers, strict=True) for number in group}
    except (TypeError, ValueError) as error:
        raise DataError(f"{path}: labels {given} should give each name a number ({error}); correct them.") from error
    foreground = sorted(number for number in named if number > 0 and named[number] != "ignore")
    if len(foreground) == 1:
        return Labelling(()), labels_note(labels, NnUnet.name)
    lesion = lesion_labels(labels or "core")
    missing = [number for number in lesion if number not in foreground]
    if missing:
        raise UsageError(
            f"data_labels={labels or 'core'} means {', '.join(map(str, lesion))}, but {path} names {named}. Say which "
            "of them are lesion, such as data_labels=1,2."
        )
    told = ", ".join(f"{number} ({named[number]})" for number in lesion)
    return Labelling(lesion, tuple(named)), [f"lesion is label {told} of those that {DESCRIPTION} names: {named}"]
