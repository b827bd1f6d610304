"""From dropped files to a study, without the names that they had."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from metseg.errors import DataError
from metseg.serving.viewer.uploads import ALL_CHANNELS, TRUTH, Upload, open_uploads, roles_of, truth_of
from tests.imaging.dicom_cohorts import Study as DicomStudy
from tests.imaging.dicom_cohorts import head, write_series
from tests.serving.viewer.conftest import BRIGHT, CHANNELS, SHAPE, SPACING, known_image, write_nifti

LABELS = ("1", "3")


def dropped(*paths: Path) -> list[Upload]:
    return [Upload(path.name, path.read_bytes()) for path in paths]


def opened(uploads: list[Upload], wanted: tuple[str, ...] = CHANNELS):
    roles = roles_of([upload.name for upload in uploads], wanted)
    return open_uploads(list(zip(uploads, roles, strict=True)), wanted, LABELS)


def packed(files: dict[str, bytes]) -> Upload:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return Upload("Doe_Jane.zip", buffer.getvalue())


def png(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("names", "wanted", "roles"),
    [
        (["a-t1n.nii.gz", "a_T1C.nii", "a-seg.nii.gz"], ("t1n", "t1c"), ["t1n", "t1c", TRUTH]),
        (["t2f.nii.gz", "mask.nii.gz"], ("t2f",), ["t2f", TRUTH]),
        (["a-t2w.nrrd"], ("t1c",), ["t2w"]),
        (["scan.nii.gz"], ("t1c",), ["t1c"]),
        (["scan.nii.gz"], ("t1n", "t1c"), [None]),
        (["p_12.tif", "p_12_mask.tif"], ("pre", "flair", "post"), [ALL_CHANNELS, TRUTH]),
        (["a.png", "b.png"], ("t1n", "t1c"), [None, None]),
        (["a-bravo.nii"], ("bravo", "flair"), ["bravo"]),
    ],
)
def test_names_say_what_files_are(names, wanted, roles):
    assert roles_of(names, wanted) == roles


def test_channels_are_stacked_in_the_models_order_with_the_truth_of_its_labels(study_files):
    study = opened(dropped(*(study_files[name] for name in ("seg", "t1c", "t1n", "t2f"))))
    assert study.channels == CHANNELS
    assert (study.image == known_image()).all()
    assert study.geometry.spacing == SPACING
    expected = np.zeros(SHAPE, bool)
    expected[BRIGHT] = True
    assert (study.truth == expected).all()
    assert "Doe" not in repr(study)


def test_a_zip_of_a_study_is_that_study(study_files):
    upload = packed({f"Doe_Jane/{path.name}": path.read_bytes() for path in study_files.values()})
    assert (opened([upload]).image == known_image()).all()


def test_a_zip_of_dicom_is_read_with_channels_told_by_how_they_were_taken(tmp_path):
    patient = DicomStudy()
    pixels = {name: head(seed)[0] for seed, name in enumerate(CHANNELS)}
    for name, voxels in pixels.items():
        extra = {"ContrastBolusAgent": "Gd"} if name == "t1c" else {}
        write_series(tmp_path / name, patient, voxels, channel=name, **extra)
    files = {
        str(path.relative_to(tmp_path)): path.read_bytes() for path in sorted(tmp_path.rglob("*")) if path.is_file()
    }
    study = opened([packed(files)])
    assert set(study.channels) == set(CHANNELS)
    assert (study.channel("t1c") == pixels["t1c"]).all()
    assert study.geometry.spacing == pytest.approx((5.0, 0.9, 0.7))
    assert study.truth is None
    assert "Doe" not in repr(study)
    # The same files dropped one by one.
    single = opened([Upload(name, content) for name, content in files.items()])
    assert (single.image == study.image).all()


def test_a_coloured_picture_holds_the_models_channels():
    array = np.random.default_rng(1).integers(0, 255, (9, 7, 3), dtype=np.uint8)
    mask = np.zeros((9, 7), np.uint8)
    mask[2:4, 3] = 255
    study = opened([Upload("x.png", png(array)), Upload("x_mask.png", png(mask))], ("pre", "flair", "post"))
    assert study.channels == ("pre", "flair", "post") and study.flat
    assert (study.image[0] == array).all()
    assert (study.truth[0] == (mask > 0)).all()
    assert not study.geometry.spacing_known


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda files: dropped(files["t1c"], files["t1c"]), "Two files are t1c"),
        (lambda files: dropped(files["seg"]), "Only a mask"),
        (lambda files: [Upload("Doe_Jane-t1c.nii.gz", files["t1c"].read_bytes()[:200])], r"file-1\.nii\.gz"),
        (lambda files: [Upload("Doe_Jane.docx", b"x"), *dropped(files["t1c"])], "no format that is read"),
        (lambda files: [Upload("Doe_Jane.zip", b"no zip")], "cannot be unpacked"),
        (lambda files: [packed({"Doe_Jane/note.txt": b"x"})], "holds no image"),
        (lambda files: [packed({"../Doe_Jane-t1c.nii": b"x"})], "cannot be unpacked"),
        (lambda files: [packed({"Doe_Jane-t1c.nii": bytes(200 << 20)})], "cannot be unpacked"),
        (lambda files: [packed({"a-t1c.nii": b"x"}), *dropped(files["t1c"])], "drop it alone"),
    ],
)
def test_what_cannot_be_read_is_said_without_the_files_names(study_files, make, said):
    with pytest.raises(DataError, match=said) as caught:
        opened(make(study_files))
    assert "Doe" not in str(caught.value) and "metseg-viewer" not in str(caught.value)


def test_files_on_two_grids_are_refused(study_files, tmp_path):
    other = write_nifti(tmp_path / "Doe_Jane-t2f.nii.gz", np.zeros((20, 30, 25), np.int16))
    with pytest.raises(DataError, match="different grids") as caught:
        opened(dropped(study_files["t1c"], other))
    assert "Doe" not in str(caught.value)


def test_nothing_stays_on_disk(study_files, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    opened(dropped(study_files["t1c"]), ("t1c",))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("values", "labels", "lesion"),
    [
        ([0, 1, 2, 3], ("1", "3"), [False, True, False, True]),
        ([0, 1, 1, 0], ("2",), [False, True, True, False]),
        ([0, 255, 0, 255], ("1",), [False, True, False, True]),
        ([0, 1, 2, 3], ("lesion",), [False, True, True, True]),
    ],
)
def test_which_values_of_a_mask_are_lesion(values, labels, lesion):
    assert truth_of(np.array(values).reshape(1, 2, 2), labels, Path("mask.nii")).ravel().tolist() == lesion
