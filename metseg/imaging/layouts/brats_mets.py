"""BraTS-METS: `<prefix>-<5 digits>-<3 digits>/<the same>-{t1n,t1c,t2w,t2f,seg}.nii[.gz]`."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from metseg.imaging.io import NIFTI
from metseg.imaging.layouts.base import BRATS
from metseg.imaging.layouts.base_volumes import VolumeLayout
from metseg.imaging.layouts.mask_values import Labelling, lesion_labels


class BratsMets(VolumeLayout):
    """Folders of co-registered NIfTI volumes; the last three digits are the timepoint of a patient."""

    name = "brats-mets"
    looks_for = "folders such as BraTS-MET-00086-000 with BraTS-MET-00086-000-{t1n,t1c,t2w,t2f,seg}.nii or .nii.gz"
    case_folder = BRATS
    file_stem = "{case}-{channel}"

    def channel_of(self, path: Path) -> str | None:
        """Return the channel of a NIfTI file: any word after the name of the case."""
        return super().channel_of(path) if NIFTI.matches(path) else None

    def labelling(self, root: Path, masks: Iterable[Path], labels: str) -> tuple[Labelling, list[str]]:
        """Return BraTS labels."""
        return Labelling(lesion_labels(labels)), []
