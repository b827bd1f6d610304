"""BraTS-METS: `<prefix>-<5 digits>-<3 digits>/<the same>-{t1n,t1c,t2w,t2f,seg}.nii[.gz]`."""

from __future__ import annotations

from pathlib import Path

from metseg.errors import DataError
from metseg.imaging.io import bare_stem, is_nifti
from metseg.imaging.layouts.masks import lesion_labels
from metseg.imaging.layouts.names import BRATS, patient_and_timepoint
from metseg.imaging.layouts.source import LayoutOptions, SourceCohort, listed, visible
from metseg.imaging.layouts.volumes import DEFAULT_CHANNELS, Labelling, VolumeCase, volume_cohort, volumes_by_name

SEGMENTATION = "seg"


class BratsMets:
    """Folders of co-registered NIfTI volumes; the last three digits are the timepoint of a patient."""

    name = "brats-mets"
    looks_for = "folders such as BraTS-MET-00086-000 with BraTS-MET-00086-000-{t1n,t1c,t2w,t2f,seg}.nii or .nii.gz"

    def recognise(self, root: Path) -> bool:
        """Whether a folder is named as a case and holds a NIfTI file of its name."""
        return any(BRATS.fullmatch(path.name) and path.is_dir() and _files(path) for path in visible(root))

    def open(self, root: Path, options: LayoutOptions) -> SourceCohort:
        """Find the cases; every one needs `seg` and the chosen channels."""
        entries = [path for path in visible(root) if path.is_dir()]
        cases = [_case(path) for path in entries if BRATS.fullmatch(path.name) and _files(path)]
        if not cases:
            raise DataError(f"{root}: no case of the layout {self.name} in it; expected {self.looks_for}.")
        names = {case.case for case in cases}
        passed_over = [path.name for path in entries if path.name not in names]
        notes = [f"{len(passed_over)} folders are no cases and were passed over: {listed(passed_over)}"]
        return volume_cohort(
            root,
            self.name,
            cases,
            options,
            file_of=lambda case, channel: f"{case}-{channel}.nii.gz",
            labelling=Labelling(lesion_labels(options.labels)),
            default=DEFAULT_CHANNELS,
            notes=notes if passed_over else [],
        )


def _files(folder: Path) -> dict[str, Path]:
    """NIfTI files of a case by what they hold: a channel or `seg`."""
    prefix = folder.name + "-"

    def name_of(path: Path) -> str | None:
        stem = bare_stem(path)
        rest = stem.removeprefix(prefix)
        return rest if is_nifti(path) and rest != stem and rest.isalnum() else None

    return volumes_by_name(folder, name_of)


def _case(folder: Path) -> VolumeCase:
    files = _files(folder)
    mask = files.pop(SEGMENTATION, None)
    return VolumeCase(folder.name, *patient_and_timepoint(folder.name), folder, files, mask)
