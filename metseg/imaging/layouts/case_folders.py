"""Any cohort of volumes with one folder a case: `<case>/<channel>.nii.gz` or `.nrrd`, with its mask beside."""

from __future__ import annotations

import re
from pathlib import Path

from metseg.errors import DataError
from metseg.imaging.io import bare_stem, is_volume
from metseg.imaging.layouts.names import patient_and_timepoint
from metseg.imaging.layouts.source import LayoutOptions, SourceCohort, listed, visible
from metseg.imaging.layouts.volumes import VolumeCase, volume_cohort, volumes_by_name

_WORDS = r"(masks?|seg|segmentations?|labels?|labelmap|lesions?|tumou?rs?|gt|ground[-_]?truth)"
MASK = re.compile(rf"((lesions?|tumou?rs?|mets?|metastas[ei]s|segmentation)[-_. ]?)?{_WORDS}", re.IGNORECASE)
"""Whole names alone: a `brain_mask` marks no lesion."""


class CaseFolders:
    """One folder a case; a channel is named by its file, less the case's name in front of it."""

    name = "case-folders"
    looks_for = "one folder a case with a volume a channel, such as t1c.nii.gz or t1c.nrrd, and mask or seg beside"

    def recognise(self, root: Path) -> bool:
        """Whether a folder holds a mask and another volume."""
        for folder in (path for path in visible(root) if path.is_dir()):
            masks = [bool(MASK.fullmatch(_channel(path))) for path in visible(folder) if is_volume(path)]
            if any(masks) and not all(masks):
                return True
        return False

    def open(self, root: Path, options: LayoutOptions) -> SourceCohort:
        """Find the cases; every one needs a mask, and the chosen channels or at least one that all of them have."""
        found = [_case(path) for path in visible(root) if path.is_dir()]
        cases = [case for case in found if case.files or case.mask]
        if not cases:
            raise DataError(f"{root}: no case of the layout {self.name} in it; expected {self.looks_for}.")
        passed_over = [case.case for case in found if case not in cases]
        notes = [f"{len(passed_over)} folders hold no volumes and were passed over: {listed(passed_over)}"]
        return volume_cohort(
            root,
            self.name,
            cases,
            options,
            file_of=lambda _, channel: f"{channel}.nii.gz or .nrrd",
            notes=notes if passed_over else [],
        )


def _channel(path: Path) -> str:
    """What the file is named after: its stem, less the name of its folder in front of it."""
    stem = bare_stem(path)
    match = re.match(re.escape(path.parent.name) + r"[-_. ]+(?=.)", stem)
    return stem[match.end() :] if match else stem


def _case(folder: Path) -> VolumeCase:
    """Volumes of a folder by the name of their channel; the one that is named as a mask is the mask."""
    files = volumes_by_name(folder, _channel)
    masks = [name for name in files if MASK.fullmatch(name)]
    if len(masks) > 1:
        raise DataError(
            f"{folder}: {' and '.join(files[name].name for name in masks)} are all named as masks; keep the one that "
            "is meant."
        )
    mask = files.pop(masks[0]) if masks else None
    return VolumeCase(folder.name, *patient_and_timepoint(folder.name), folder, files, mask)
