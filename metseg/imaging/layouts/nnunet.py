"""nnU-Net's raw data sets: `imagesTr/<case>_<4 digits>.nii.gz` with `labelsTr/<case>.nii.gz` and `dataset.json`."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from metseg.errors import DataError, UsageError
from metseg.files import read_json_of_others
from metseg.imaging.io import bare_stem
from metseg.imaging.layouts.base import passed_over_note, patient_and_timepoint, visible
from metseg.imaging.layouts.base_volumes import VolumeCase, VolumeLayout, volumes_by_name
from metseg.imaging.layouts.mask_values import Labelling, labels_note, lesion_labels

NUMBERED = re.compile(r"(?P<case>.+)_(?P<channel>\d{4})")
DESCRIPTION = "dataset.json"
MAX_LABEL = 65535
MAX_SHOWN = 300
"""Characters of a wrong value in a message."""


class NnUnet(VolumeLayout):
    """Two folders of volumes; channels are numbered, and `dataset.json` names channels and labels."""

    name = "nnunet"
    looks_for = "imagesTr/x_0000.nii.gz, x_0001.nii.gz, … with labelsTr/x.nii.gz, and dataset.json"

    def recognise(self, root: Path) -> bool:
        """Return True if both folders exist and the first contains a numbered volume."""
        return (root / "labelsTr").is_dir() and bool(volumes_by_name(root / "imagesTr", _numbered))

    def find(self, root: Path) -> Iterator[VolumeCase]:
        """Yield the cases with an image or a label file."""
        names = _channel_names(root)
        images: dict[str, dict[str, Path]] = {}
        for stem, path in volumes_by_name(root / "imagesTr", _numbered).items():
            case, _, number = stem.rpartition("_")
            images.setdefault(case, {})[names.get(int(number), f"channel{int(number)}")] = path
        labels = volumes_by_name(root / "labelsTr", bare_stem) if images else {}
        for case in sorted({*images, *labels}):
            yield VolumeCase(
                case, *patient_and_timepoint(case), root / "imagesTr", images.get(case, {}), labels.get(case)
            )

    def defaults(self, root: Path) -> tuple[str, ...]:
        """Return the channels of `dataset.json`, in the order of their numbers."""
        return tuple(name for _, name in sorted(_channel_names(root).items()))

    def file_of(self, case: VolumeCase, channel: str) -> str:
        """Return the expected name of a channel's file, for messages."""
        numbers = {name: number for number, name in _channel_names(case.folder.parent).items()}
        return f"{case.case}_{numbers.get(channel, 0):04d}.nii.gz"

    def labelling(self, root: Path, masks: Iterable[Path], labels: str) -> tuple[Labelling, list[str]]:
        """Return the labels of `dataset.json`; without them, see `labelling_of`."""
        return _labelling(root, labels) or super().labelling(root, masks, labels)

    def notes(self, root: Path, cases: Sequence[VolumeCase]) -> list[str]:
        """Return a note on the other entries."""
        used = ("imagesTr", "labelsTr", DESCRIPTION)
        others = [path.name for path in visible(root) if path.name not in used]
        return passed_over_note("entries are not for training", others)


def _numbered(path: Path) -> str | None:
    return bare_stem(path) if NUMBERED.fullmatch(bare_stem(path)) else None


def _description(root: Path) -> dict[str, object]:
    """Read `dataset.json`; empty if it does not exist."""
    path = root / DESCRIPTION
    if not path.is_file():
        return {}
    try:
        content = read_json_of_others(path)
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: is no JSON that can be read ({error}). Write it again, or remove it.") from error
    if not isinstance(content, dict):
        raise DataError(f"{path}: an object is expected. Write it again, or remove it.")
    return content


def _channel_names(root: Path) -> dict[int, str]:
    """Return names by number, from `channel_names` or, in the first version of the format, `modality`."""
    path, description = root / DESCRIPTION, _description(root)
    given = description.get("channel_names", description.get("modality", {}))
    if not isinstance(given, dict) or not all(re.fullmatch("[0-9]{1,4}", number) for number in given):
        raise DataError(
            f"{path}: channel_names should name each number, such as {{'0': 't1c'}}; found {_shown(given)}."
        )
    # A comma separates names in data_channels=…, and a name ends a file's name when predicting.
    names = {int(number): re.sub(r"[^A-Za-z0-9]+", "", str(name)) for number, name in given.items()}
    if len(set(names.values())) != len(names) or not all(names.values()):
        raise DataError(
            f"{path}: channel_names {_shown(given)} should all differ in their letters and digits; correct them."
        )
    return names


def _label(number: object) -> int:
    """Return a label as a number; raises ValueError for a value that no mask holds."""
    label = int(str(number))
    if not -MAX_LABEL <= label <= MAX_LABEL:
        raise ValueError(f"{label} is no label of a mask")
    return label


def _shown(value: object) -> str:
    text = str(value)
    return text if len(text) <= MAX_SHOWN else f"{text[:MAX_SHOWN]} …"


def _labelling(root: Path, labels: str) -> tuple[Labelling, list[str]] | None:
    """Return the labelling of `dataset.json`, and notes on it; None if it has no labels."""
    path, given = root / DESCRIPTION, _description(root).get("labels")
    if not isinstance(given, dict):
        return None
    # The first version of the format has the number first: {"1": "tumour"}; regions name several numbers.
    pairs = [(value, key) if isinstance(value, str) else (str(key), value) for key, value in given.items()]
    try:
        named = {
            _label(number): name for name, value in pairs for number in (value if isinstance(value, list) else [value])
        }
    except ValueError as error:
        raise DataError(
            f"{path}: labels {_shown(given)} should give each name a number ({error}); correct them."
        ) from error
    foreground = sorted(number for number in named if number > 0 and named[number] != "ignore")
    if len(foreground) == 1:
        return Labelling(), labels_note(labels, NnUnet.name)
    lesion = lesion_labels(labels or "core")
    if not set(lesion) <= set(foreground):
        raise UsageError(
            f"data_labels={labels or 'core'} means {', '.join(map(str, lesion))}, but {path} names {_shown(named)}. "
            "Name those of them that are lesion, such as data_labels=1,2."
        )
    chosen = ", ".join(f"{number} ({named[number]})" for number in lesion)
    return Labelling(lesion, tuple(named)), [
        f"lesion is label {chosen} of those that {DESCRIPTION} names: {_shown(named)}"
    ]
