"""Layouts of a cohort in a folder, and their recognition.

A new layout is a class in a module of its own, listed in `LAYOUTS`; see `base.Layout` and `volume_layout.VolumeLayout`.
"""

from __future__ import annotations

import re
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from metseg.errors import DataError, UsageError
from metseg.imaging.layouts.base import CaseSource as CaseSource
from metseg.imaging.layouts.base import Layout, visible
from metseg.imaging.layouts.base import LayoutOptions as LayoutOptions
from metseg.imaging.layouts.base import LoadedCase as LoadedCase
from metseg.imaging.layouts.base import SourceCohort as SourceCohort
from metseg.imaging.layouts.brainmetshare import BrainMetShare
from metseg.imaging.layouts.brats_mets import BratsMets
from metseg.imaging.layouts.case_folders import CaseFolders
from metseg.imaging.layouts.dicom import Dicom
from metseg.imaging.layouts.image_mask_folders import ImageMaskFolders
from metseg.imaging.layouts.nnunet import NnUnet
from metseg.imaging.layouts.pseudonymous_layout import Cover, under_pseudonyms
from metseg.imaging.layouts.tcga_lgg import TcgaLgg
from metseg.imaging.layouts.ucsf_bmsr import UcsfBmsr
from metseg.message_text import listed
from metseg.pseudonyms import Pseudonyms, pseudonyms_everywhere

AUTO = "auto"
LAYOUTS: tuple[Layout[Any], ...] = (
    BratsMets(),
    TcgaLgg(),
    BrainMetShare(),
    UcsfBmsr(),
    NnUnet(),
    ImageMaskFolders(),
    CaseFolders(),
    Dicom(),
)


def recognise(root: Path) -> Layout[Any]:
    """Recognise the layout of the folder `root`.

    Raises:
        DataError: it has none of the layouts, or several; the message lists the layouts.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as root:
        ...     case = Path(root) / "BraTS-MET-00086-000"
        ...     case.mkdir()
        ...     for channel in ("t1n", "t1c", "t2f", "seg"):
        ...         (case / f"{case.name}-{channel}.nii.gz").touch()
        ...     recognise(Path(root)).name
        'brats-mets'
    """
    fitting = [layout for layout in LAYOUTS if layout.recognise(root)]
    # Several layouts are folders of volumes too: the general one applies only if no other does.
    fitting = [layout for layout in fitting if layout.name != CaseFolders.name] or fitting
    if len(fitting) == 1:
        return fitting[0]
    looked_for = "; ".join(f"{layout.name}: {layout.looks_for}" for layout in LAYOUTS)
    if fitting:
        names = " and ".join(layout.name for layout in fitting)
        raise DataError(
            f"{root}: holds files of the layouts {names}. Choose one, such as data_layout={fitting[0].name}."
        )
    entries = visible(root)
    inside = [path.name for path in entries if path.is_dir() and any(layout.recognise(path) for layout in LAYOUTS)]
    hint = f" The folder {inside[0]} inside it is in one of them: name that one." if inside else ""
    holds = listed(path.name + "/" * path.is_dir() for path in entries) or "nothing"
    raise DataError(f"{root}: the layout is unknown.{hint} Looked for: {looked_for}. The folder holds {holds}.")


def open_cohort(root: Path, layout: str = AUTO, options: LayoutOptions | None = None) -> SourceCohort:
    """Find the cases in the folder `root`.

    Args:
        root: the cohort's folder.
        layout: name of the layout, or `auto` to recognise it.
        options: the user's.

    Raises:
        UsageError: the layout's name is unknown, or an option does not fit it.
        DataError: files are missing, duplicate or do not fit; the message names them.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as root:
        ...     case = Path(root) / "BraTS-MET-00086-000"
        ...     case.mkdir()
        ...     for channel in ("t1n", "t1c", "t2f", "seg"):
        ...         (case / f"{case.name}-{channel}.nii.gz").touch()
        ...     cohort = open_cohort(Path(root))
        >>> cohort.layout, cohort.channels, [(case.patient, case.timepoint) for case in cohort.cases]
        ('brats-mets', ('t1n', 't2f', 't1c'), [('BraTS-MET-00086', '000')])
    """
    names = {known.name: known for known in LAYOUTS}
    if layout != AUTO and layout not in names:
        raise UsageError(f"data_layout={layout}: expected {AUTO}, {', '.join(names)}.")
    vocabulary = frozenset(word for known in LAYOUTS for word in re.findall(r"\w+", known.looks_for, re.ASCII))
    covering = Cover(root, Pseudonyms.from_environment(), vocabulary) if pseudonyms_everywhere() else None
    with covering.over_errors() if covering else nullcontext():
        chosen = recognise(root) if layout == AUTO else names[layout]
        cohort = chosen.open(root, options or LayoutOptions())
    # DICOM has pseudonyms of the PatientID, whatever the names of folders.
    return under_pseudonyms(cohort, covering) if covering and chosen.name != Dicom.name else cohort
