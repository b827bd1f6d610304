"""The phantom cohort: its files, its anatomy and lesions, and that its bytes are the same everywhere."""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from numpy._core import _multiarray_umath as umath
from scipy import ndimage as ndi

from metseg.errors import DataError
from metseg.phantom import LESION_LABELS, PhantomCase, cohort_cases, generate_cohort, phantom_case

SEED = 2023
PATIENTS = 3
NAMES = ["PHANTOM-MET-00001-000", "PHANTOM-MET-00002-000", "PHANTOM-MET-00003-000", "PHANTOM-MET-00003-001"]
PARTS = ["seg", "t1c", "t1n", "t2f"]
VOXEL_MM3 = 1.5 * 1.5 * 4.0


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("phantom") / "cohort"
    seen: list[tuple[int, int]] = []
    generate_cohort(made, PATIENTS, SEED, lambda done, total: seen.append((done, total)))
    assert seen == [(1, 4), (2, 4), (3, 4), (4, 4)]
    return made


@pytest.fixture(scope="module")
def cases() -> list[PhantomCase]:
    return [phantom_case(SEED, patient) for patient in range(1, 10)]


def digests(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*.nii"))
    }


def lesion_mask(case: PhantomCase) -> np.ndarray:
    return np.isin(case.seg, LESION_LABELS)


def lesion_volumes_mm3(case: PhantomCase) -> list[float]:
    blobs, _ = ndi.label(lesion_mask(case), np.ones((3, 3, 3)))
    return [float(count) * VOXEL_MM3 for count in np.bincount(blobs.ravel())[1:]]


def test_files_lie_in_the_layout_of_brats_mets(folder: Path) -> None:
    assert sorted(path.name for path in folder.iterdir()) == NAMES
    for name in NAMES:
        assert re.fullmatch(r".+-\d{5}-\d{3}", name)
        assert sorted(path.name for path in (folder / name).iterdir()) == [f"{name}-{part}.nii" for part in PARTS]


def test_files_open_in_nibabel_with_millimetres_and_ras_axes(folder: Path) -> None:
    for path in folder.rglob("*.nii"):
        image = nib.load(path)
        assert image.shape == (122, 146, 30)
        assert image.get_data_dtype() == (np.uint8 if path.stem.endswith("seg") else np.int16)
        assert image.header.get_zooms() == (1.5, 1.5, 4.0)
        assert image.header.get_xyzt_units()[0] == "mm"
        assert nib.aff2axcodes(image.affine) == ("R", "A", "S")
        np.testing.assert_array_equal(image.get_qform(), image.affine)
        np.testing.assert_array_equal(image.affine @ [0, 0, 0, 1], [-90.75, -125.25, -37.0, 1.0])


def test_files_hold_what_phantom_case_gives(folder: Path) -> None:
    case = phantom_case(SEED, 3, 1)
    assert case.name == NAMES[3]
    for part in PARTS:
        stored = nib.load(folder / case.name / f"{case.name}-{part}.nii")
        np.testing.assert_array_equal(np.asarray(stored.dataobj), getattr(case, part))
        np.testing.assert_array_equal(stored.affine, case.affine)


def test_default_cohort_has_patients_with_two_timepoints() -> None:
    scans = Counter(patient for patient, _ in cohort_cases(24))
    assert sorted(scans) == list(range(1, 25))
    assert [patient for patient, count in scans.items() if count == 2] == [3, 13, 23]


def test_bytes_do_not_depend_on_the_processor(folder: Path, tmp_path: Path) -> None:
    present = [name for name in umath.__cpu_dispatch__ if umath.__cpu_features__.get(name)]
    if not present:
        pytest.skip("this processor has none of the vector units NumPy chooses between")
    elsewhere = tmp_path / "plain"
    # An unknown or absent feature only warns, so the child asserts that they are off.
    code = (
        "import sys; from pathlib import Path; from numpy._core import _multiarray_umath as u\n"
        "assert not any(u.__cpu_features__[name] for name in sys.argv[2].split())\n"
        "from metseg.phantom import generate_cohort\n"
        f"generate_cohort(Path(sys.argv[1]), {PATIENTS}, {SEED})\n"
    )
    environment = {**os.environ, "NPY_DISABLE_CPU_FEATURES": " ".join(present)}
    subprocess.run([sys.executable, "-c", code, str(elsewhere), " ".join(present)], env=environment, check=True)
    assert digests(elsewhere) == digests(folder)


def test_bytes_are_those_of_the_version_on_record(folder: Path) -> None:
    """Change this and `_VERSION` together, and the cohort's entry in DVC with them."""
    whole = hashlib.sha256("".join(f"{name} {digest}\n" for name, digest in digests(folder).items()).encode())
    assert whole.hexdigest() == "9faa3f5eb56d11a84c9c9ddb45d4161161ad1b234f3906f05c170fd6333b983e"


def test_another_seed_gives_another_patient(cases: list[PhantomCase]) -> None:
    assert not np.array_equal(phantom_case(SEED + 1, 1).t1n, cases[0].t1n)


def test_lesions_have_published_sizes_and_numbers(cases: list[PhantomCase]) -> None:
    volumes = [lesion_volumes_mm3(case) for case in cases]
    diameters = np.cbrt(np.concatenate(volumes) * 6 / np.pi)
    assert 2.0 <= diameters.min() < 4.0  # one voxel is a ball of 2.6 mm
    assert 15.0 < diameters.max() <= 31.0
    assert 5.0 < np.median(diameters) < 10.0
    counts = [len(one) for one in volumes]
    assert min(counts) >= 1 and max(counts) <= 10
    assert 3.0 < np.mean(counts) < 6.0
    assert all(max(np.cbrt(np.array(one) * 6 / np.pi)) > 5.0 for one in volumes)


def test_labels_are_those_of_brats_and_each_occurs(cases: list[PhantomCase]) -> None:
    assert LESION_LABELS == (1, 3)
    assert set(np.unique(np.stack([case.seg for case in cases]))) == {0, 1, 2, 3}


def test_second_timepoint_keeps_the_head_and_changes_the_lesions() -> None:
    first, second = phantom_case(SEED, 3), phantom_case(SEED, 3, 1)
    healthy = (first.seg == 0) & (second.seg == 0) & (first.t1n > np.percentile(first.t1n, 60))
    assert np.corrcoef(first.t1n[healthy], second.t1n[healthy])[0, 1] > 0.9
    assert not np.array_equal(first.t1n, second.t1n)
    assert not np.array_equal(first.seg, second.seg)
    assert (lesion_mask(first) & lesion_mask(second)).any()


def test_tissues_have_the_contrast_of_their_sequence(cases: list[PhantomCase]) -> None:
    for case in cases:
        enhancing, necrosis, oedema = case.seg == 3, case.seg == 1, case.seg == 2
        # White matter of every head: the centrum semiovale, 25 mm left of the midline, 34 mm above the commissures.
        white = (slice(42, 46), slice(66, 76), slice(17, 19))
        untouched = case.seg[white] == 0
        if untouched.sum() < 20:
            continue
        assert np.median(case.t1c[enhancing]) > 1.1 * np.median(case.t1c[white][untouched])
        if oedema.any():
            assert np.median(case.t2f[oedema]) > 1.2 * np.median(case.t2f[white][untouched])
        if necrosis.sum() > 20:
            assert np.median(case.t1c[necrosis]) < np.median(case.t1c[white][untouched])


def test_head_fits_the_field_of_view(cases: list[PhantomCase]) -> None:
    for case in cases:
        air = np.percentile(case.t1n, 5) + 0.25 * np.median(case.t1n[case.t1n > np.percentile(case.t1n, 60)])
        for edge in (case.t1n[0], case.t1n[-1], case.t1n[:, 0], case.t1n[:, -1]):
            assert (edge > air).mean() < 0.02


@pytest.mark.parametrize("channel", ["t1c", "t2f"])
def test_no_intensity_threshold_finds_the_lesions(cases: list[PhantomCase], channel: str) -> None:
    thresholds = np.arange(64) / 64
    scores = np.zeros((len(cases), len(thresholds)))
    for row, case in enumerate(cases):
        image, truth = getattr(case, channel).astype(float), lesion_mask(case)
        low, high = np.percentile(image[image > 60], [1, 99.8])
        scaled = (image - low) / (high - low)
        for column, threshold in enumerate(thresholds):
            found = scaled >= threshold
            scores[row, column] = 2 * (found & truth).sum() / (found.sum() + truth.sum())
    assert scores.mean(axis=0).max() < 0.4


def test_complete_cohort_is_left_alone(folder: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    seen: list[tuple[int, int]] = []
    generate_cohort(folder, PATIENTS, SEED, lambda done, total: seen.append((done, total)))
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before
    assert seen == [(4, 4)]


def test_folder_with_anything_else_is_refused_by_name(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="from another cohort"):
        generate_cohort(folder, PATIENTS, SEED + 1)
    with pytest.raises(DataError, match="PHANTOM-MET-00004-000"):
        generate_cohort(folder, PATIENTS + 1, SEED)
    (tmp_path / "mine.txt").write_text("keep me")
    with pytest.raises(DataError, match=re.escape(str(tmp_path))):
        generate_cohort(tmp_path, 1, SEED)
    assert (tmp_path / "mine.txt").read_text() == "keep me"


def test_failure_on_the_way_leaves_nothing(tmp_path: Path) -> None:
    def stop_after_one(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        generate_cohort(tmp_path / "cohort", 2, SEED, stop_after_one)
    assert list(tmp_path.iterdir()) == []


def test_killed_process_leaves_no_cohort_behind(tmp_path: Path) -> None:
    code = (
        "import os, signal, sys; from pathlib import Path; from metseg.phantom import generate_cohort\n"
        "generate_cohort(Path(sys.argv[1]), 2, 1, lambda done, total: os.kill(os.getpid(), signal.SIGKILL))\n"
    )
    killed = subprocess.run([sys.executable, "-c", code, str(tmp_path / "cohort")], check=False)
    assert killed.returncode == -9
    assert not (tmp_path / "cohort").exists()


def test_missing_template_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from metseg.phantom import anatomical_template

    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    anatomical_template.load_template.cache_clear()
    with pytest.raises(DataError, match=r"nilearn.*Install"):
        generate_cohort(tmp_path / "cohort", 1, SEED)
    assert list(tmp_path.iterdir()) == []
