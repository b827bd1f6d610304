"""UCSF-BMSR: `100101A/100101A_{T1pre,T1post,FLAIR,subtraction,T2Synth,seg}.nii.gz` (Rudie et al. 2024)."""

from __future__ import annotations

import re
from pathlib import Path

from metseg.errors import DataError
from metseg.imaging.io import bare_stem
from metseg.imaging.layouts.source import LayoutOptions, SourceCohort, listed, visible
from metseg.imaging.layouts.volumes import DEFAULT_CHANNELS, VolumeCase, volume_cohort, volumes_by_name

CASE = re.compile(r"(?P<patient>\d{6})(?P<timepoint>[A-Z])")
CHANNELS = {"T1pre": "t1n", "T1post": "t1c", "FLAIR": "t2f", "T2Synth": "t2w", "subtraction": "subtraction"}
SEGMENTATION = "seg"


class UcsfBmsr:
    """One folder a scan, named by six digits for the patient and a letter for the timepoint."""

    name = "ucsf-bmsr"
    looks_for = "folders such as 100101A with 100101A_{T1pre,T1post,FLAIR,subtraction,T2Synth,seg}.nii.gz"

    def recognise(self, root: Path) -> bool:
        """Whether a folder is named as a scan and holds a volume of its name."""
        return any(CASE.fullmatch(path.name) and path.is_dir() and _files(path) for path in visible(root))

    def open(self, root: Path, options: LayoutOptions) -> SourceCohort:
        """Find the cases; every one needs `seg` and the chosen channels."""
        entries = [path for path in visible(root) if path.is_dir()]
        cases = [_case(path) for path in entries if CASE.fullmatch(path.name) and _files(path)]
        if not cases:
            raise DataError(f"{root}: no case of the layout {self.name} in it; expected {self.looks_for}.")
        names = {case.case for case in cases}
        passed_over = [path.name for path in entries if path.name not in names]
        notes = [f"{len(passed_over)} folders are no cases and were passed over: {listed(passed_over)}"]
        stems = {channel: stem for stem, channel in CHANNELS.items()}
        return volume_cohort(
            root,
            self.name,
            cases,
            options,
            file_of=lambda case, channel: f"{case}_{stems.get(channel, channel)}.nii.gz",
            default=DEFAULT_CHANNELS,
            notes=notes if passed_over else [],
        )


def _files(folder: Path) -> dict[str, Path]:
    """Volumes of a scan by channel, and `seg`; files of other names are passed over."""
    names = {f"{folder.name}_{stem}": channel for stem, channel in (*CHANNELS.items(), (SEGMENTATION, SEGMENTATION))}
    return volumes_by_name(folder, lambda path: names.get(bare_stem(path)))


def _case(folder: Path) -> VolumeCase:
    match = CASE.fullmatch(folder.name)
    assert match is not None
    files = _files(folder)
    mask = files.pop(SEGMENTATION, None)
    return VolumeCase(folder.name, match["patient"], match["timepoint"], folder, files, mask)
