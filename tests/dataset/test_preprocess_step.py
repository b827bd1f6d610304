"""Records are the same however many cases are worked on at a time."""

from __future__ import annotations

from pathlib import Path

import nibabel
import numpy as np
import pytest

from components.preprocess.step import preprocess
from metseg.dataset.ingest import ingest
from tests.dataset.cohorts import brats_cohort


def test_records_do_not_depend_on_the_number_of_workers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = brats_cohort(tmp_path / "data", 6)
    for path in root.rglob("*.nii.gz"):
        small = nibabel.load(path)
        large = np.kron(np.asarray(small.dataobj), np.ones((11, 13, 1), np.int16)).astype(small.get_data_dtype())
        nibabel.save(nibabel.Nifti1Image(large, small.affine), path)
    ingest(str(root), tmp_path / "cohort")
    for workers in ("1", "3"):
        monkeypatch.setenv("METSEG_WORKERS", workers)
        preprocess(tmp_path / "cohort", tmp_path / workers, image_size=64)
    written = sorted(path.relative_to(tmp_path / "1") for path in (tmp_path / "1").rglob("*.npy"))
    assert len(written) == 6
    for path in written:
        assert (tmp_path / "1" / path).read_bytes() == (tmp_path / "3" / path).read_bytes()
