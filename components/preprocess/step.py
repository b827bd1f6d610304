"""Preprocess: window, CLAHE and resize every case into records, and freeze the specification."""

from __future__ import annotations

import logging
from functools import partial
from pathlib import Path

from metseg.dataset.manifest import CaseEntry, Manifest
from metseg.dataset.slice_files import write_case_records
from metseg.files import folder_written_beside
from metseg.imaging.case import load_image, load_mask
from metseg.imaging.preprocessing.reference_preprocessing import preprocess as preprocess_volume
from metseg.imaging.preprocessing.resize import fit_mask
from metseg.imaging.preprocessing.specification import PreprocessingSpecification
from metseg.parallel import in_processes, usable_cores
from metseg.progress import track

logger = logging.getLogger(__name__)


def preprocess(
    cohort: Path, records: Path, *, image_size: int = 144, clahe: bool = True, context_slices: int = 0
) -> None:
    """Write `records/<split>/<case>.npy` and `records/preprocessing.json`.

    Args:
        cohort: output of ingest.
        records: folder to write.
        image_size: side in pixels of what the networks see.
        clahe: whether contrast-limited adaptive histogram equalisation is applied.
        context_slices: neighbouring slices on either side that the network sees.
    """
    manifest = Manifest.read(cohort / "manifest.json")
    specification = PreprocessingSpecification(
        channels=tuple(manifest.channels), image_size=image_size, clahe=clahe, context_slices=context_slices
    )
    with folder_written_beside(records) as temporary:
        for split in ("train", "validation", "test"):
            (temporary / split).mkdir()
        specification.write(temporary / "preprocessing.json")
        work = partial(_preprocess_case, cohort, temporary, specification)
        done = in_processes(work, manifest.cases, usable_cores())
        for _ in track(done, "preprocessing cases", len(manifest.cases)):
            pass
    logger.info(
        "%d cases at %d×%d, CLAHE %s, specification %s",
        len(manifest.cases),
        image_size,
        image_size,
        "on" if clahe else "off",
        specification.digest()[:12],
    )


def _preprocess_case(cohort: Path, records: Path, specification: PreprocessingSpecification, entry: CaseEntry) -> None:
    folder = cohort / "cases" / entry.case
    images = preprocess_volume(load_image(folder), specification)
    masks = fit_mask(load_mask(folder), specification.image_size)
    write_case_records(records / entry.split / f"{entry.case}.npy", images, masks)
