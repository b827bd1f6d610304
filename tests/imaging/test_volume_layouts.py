"""Cohorts of volumes, and BrainMetShare: recognised by themselves, read whole, refused by name where files misfit."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import nibabel
import numpy as np
import pytest
import SimpleITK
from numpy.typing import NDArray
from PIL import Image

from metseg.dataset.ingest import ingest
from metseg.errors import DataError, UsageError
from metseg.imaging.layouts import LayoutOptions, open_cohort, recognise
from metseg.imaging.layouts.base import patient_and_timepoint
from tests.dataset.cohorts import blob, brats_case, picture, picture_pair

SHAPE = (4, 5, 6)
"""Slices, rows, columns."""


def volume(path: Path, array: NDArray[np.generic], *, origin: float = 0.0, spacing: float = 1.0) -> None:
    """Write `(slices, height, width)` in LPS, as NIfTI by nibabel or as NRRD by SimpleITK."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".nrrd":
        image = SimpleITK.GetImageFromArray(array)
        image.SetSpacing((spacing, spacing, 2.0))
        image.SetOrigin((origin, 0.0, 0.0))
        SimpleITK.WriteImage(image, path)
        return
    affine = np.diag([-spacing, -spacing, 2.0, 1.0])
    affine[0, 3] = -origin
    nibabel.save(nibabel.Nifti1Image(array.T, affine), path)


def mask(*values: int) -> NDArray[np.uint8]:
    """A mask with each of `values` in one voxel of slice 2, row 1."""
    array = np.zeros(SHAPE, np.uint8)
    array[2, 1, 1 : 1 + len(values)] = values
    return array


def noise(seed: int) -> NDArray[np.int16]:
    return picture(seed, SHAPE).astype(np.int16)


def case_folder(root: Path, case: str, channels: tuple[str, ...], *values: int, suffix: str = ".nii.gz") -> None:
    for seed, channel in enumerate(channels):
        volume(root / case / f"{channel}{suffix}", noise(seed))
    volume(root / case / f"mask{suffix}", mask(*values))


def ucsf_case(root: Path, case: str, channels: tuple[str, ...] = ("T1pre", "T1post", "FLAIR", "subtraction")) -> None:
    for seed, channel in enumerate(channels):
        volume(root / case / f"{case}_{channel}.nii.gz", noise(seed))
    volume(root / case / f"{case}_seg.nii.gz", mask(1, 1))


def mets_pictures(root: Path, case: str, numbers: tuple[int, ...]) -> None:
    """BrainMetShare's pictures; pixel (0, 0) of a slice is its number, of channel n plus 50 n."""
    for inner in ("0", "1", "2", "3", "seg"):
        folder = root / case / inner
        folder.mkdir(parents=True)
        for number in numbers:
            plane = blob(10, 12) if inner == "seg" else picture(number, (10, 12))
            if inner != "seg":
                plane[0, 0] = number + 50 * int(inner)
            Image.fromarray(plane).save(folder / f"{number}.png")


def nnunet(root: Path, description: dict[str, object] | None, *values: int) -> None:
    for case in ("met_001", "met_002"):
        for channel in range(2):
            volume(root / "imagesTr" / f"{case}_{channel:04d}.nii.gz", noise(channel))
        volume(root / "labelsTr" / f"{case}.nii.gz", mask(*values))
    if description is not None:
        (root / "dataset.json").write_text(json.dumps(description))


def every_layout(root: Path) -> dict[str, Path]:
    """A folder in each layout of this file, by its name."""
    ucsf_case(root / "u", "100101A")
    mets_pictures(root / "m", "Mets_005", (1, 2))
    case_folder(root / "c", "p1", ("t1c",), 1)
    nnunet(root / "n", None, 1)
    volume(root / "i" / "images" / "x.nrrd", noise(0))
    volume(root / "i" / "masks" / "x.nii.gz", mask(1))
    brats_case(root / "b", "BraTS-MET-00001-000")
    names = {"u": "ucsf-bmsr", "m": "brainmetshare", "c": "case-folders", "n": "nnunet", "i": "image-mask-folders"}
    return {name: root / folder for folder, name in {**names, "b": "brats-mets"}.items()}


def test_every_layout_is_recognised_as_itself_and_can_be_read_in_another_process(tmp_path: Path) -> None:
    for name, folder in every_layout(tmp_path).items():
        assert recognise(folder).name == name
        source = pickle.loads(pickle.dumps(open_cohort(folder).cases[0]))
        loaded = source.load()
        assert loaded.image.shape[:3] == loaded.mask.shape and loaded.mask.any()
        assert set(np.unique(loaded.mask)) == {0, 1}


# UCSF-BMSR


def test_ucsf_scans_of_a_patient_share_it_and_channels_get_the_short_names(tmp_path: Path) -> None:
    for case in ("100101A", "100101B", "100102A"):
        ucsf_case(tmp_path, case, ("T1pre", "T1post", "FLAIR", "subtraction", "T2Synth"))
    cohort = open_cohort(tmp_path)
    assert [(c.case, c.patient, c.timepoint) for c in cohort.cases] == [
        ("100101A", "100101", "A"),
        ("100101B", "100101", "B"),
        ("100102A", "100102", "A"),
    ]
    assert (cohort.channels, cohort.labels) == (("t1n", "t2f", "t1c"), ("lesion",))
    loaded = cohort.cases[0].load()
    for place, seed in enumerate((0, 2, 1)):
        np.testing.assert_array_equal(loaded.image[..., place], noise(seed))
    chosen = open_cohort(tmp_path, options=LayoutOptions(channels=("t2w", "subtraction"))).cases[0].load().image
    np.testing.assert_array_equal(chosen[..., 0], noise(4))
    np.testing.assert_array_equal(chosen[..., 1], noise(3))
    (tmp_path / "100102A" / "100102A_FLAIR.nii.gz").unlink()
    with pytest.raises(DataError, match=r"100102A lacks the channel t2f \(100102A_FLAIR\.nii\.gz\)"):
        open_cohort(tmp_path)


# BrainMetShare


def test_brainmetshare_pictures_are_put_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    mets_pictures(tmp_path, "Mets_005", (2, 3, 10, 11))
    mets_pictures(tmp_path, "Mets_010", (1, 2, 3))
    cohort = open_cohort(tmp_path)
    assert cohort.channels == ("t1n", "t2f", "t1c")
    first = cohort.cases[0]
    assert (first.patient, first.slice_names) == ("Mets_005", ("2", "3", "10", "11"))
    loaded = first.load()
    assert loaded.image[:, 0, 0].tolist() == [[n + 50, n + 150, n] for n in (2, 3, 10, 11)]
    assert loaded.geometry.spacing == (1.0, 0.94, 0.94) and loaded.geometry.spacing_known
    np.testing.assert_allclose(np.diag(loaded.geometry.affine), (0.94, 0.94, 1.0, 1.0))
    assert cohort.notes == (
        "WARNING: the slice numbers of 1 cases have gaps; the slices that are there are taken as neighbours: Mets_005 "
        "lacks 4-9",
    )
    spin_echo = open_cohort(tmp_path, options=LayoutOptions(channels=("t1gd",), labels="enhancing"))
    assert spin_echo.cases[0].load().image[0, 0, 0, 0] == 102
    assert spin_echo.notes[0].startswith("data_labels=enhancing was not applied")
    np.testing.assert_array_equal(spin_echo.cases[0].load().mask[0], blob(10, 12, 1))


def test_brainmetshare_files_that_do_not_fit_are_named(tmp_path: Path) -> None:
    mets_pictures(tmp_path, "Mets_005", (1, 2))
    (tmp_path / "Mets_005" / "3" / "2.png").unlink()
    with pytest.raises(DataError, match=r"1 masks without an image: Mets_005/seg/2\.png \(t2f\)"):
        open_cohort(tmp_path)
    assert open_cohort(tmp_path, options=LayoutOptions(channels=("t1c",))).channels == ("t1c",)
    Image.fromarray(picture(0, (12, 10))).save(tmp_path / "Mets_005" / "0" / "2.png")
    with pytest.raises(DataError, match=r"0/2\.png: size 12×10, while .*0/1\.png has 10×12"):
        open_cohort(tmp_path, options=LayoutOptions(channels=("t1c",))).cases[0].load()
    with pytest.raises(UsageError, match="t2w unknown"):
        open_cohort(tmp_path, options=LayoutOptions(channels=("t2w",)))


def test_brainmetshare_volumes_have_the_same_channels(tmp_path: Path) -> None:
    for seed, name in enumerate(("bravo", "t1_pre", "t1_gd", "flair")):
        volume(tmp_path / "Mets_005" / f"{name}.nii", noise(seed))
    volume(tmp_path / "Mets_005" / "seg.nii", mask(255))
    cohort = open_cohort(tmp_path)
    assert (cohort.layout, cohort.channels, cohort.labels) == ("brainmetshare", ("t1n", "t2f", "t1c"), ("lesion",))
    loaded = cohort.cases[0].load()
    np.testing.assert_array_equal(loaded.image[..., 2], noise(0))
    assert int(loaded.mask.sum()) == 1
    mets_pictures(tmp_path, "Mets_006", (1,))
    with pytest.raises(DataError, match="Mets_005 hold volumes, Mets_006 hold pictures"):
        open_cohort(tmp_path)


# Case folders


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz", ".nrrd"])
def test_channels_of_case_folders_are_their_files_less_the_name_of_the_case(tmp_path: Path, suffix: str) -> None:
    volume(tmp_path / "p1" / f"p1_T1{suffix}", noise(0))
    volume(tmp_path / "p1" / f"FLAIR{suffix}", noise(1))
    volume(tmp_path / "p1" / f"p1-lesion_mask{suffix}", mask(1))
    cohort = open_cohort(tmp_path)
    assert (cohort.layout, cohort.channels) == ("case-folders", ("FLAIR", "T1"))
    loaded = cohort.cases[0].load()
    np.testing.assert_array_equal(loaded.image, np.stack([noise(1), noise(0)], axis=-1))
    np.testing.assert_array_equal(loaded.mask, mask(1))
    assert loaded.geometry.spacing == (2.0, 1.0, 1.0)


def test_channels_that_not_every_case_has_are_left_out_and_named(tmp_path: Path) -> None:
    case_folder(tmp_path, "p1", ("t1c", "t2f"), 1)
    case_folder(tmp_path, "p2", ("t1c", "adc"), 1)
    (tmp_path / "empty").mkdir()
    cohort = open_cohort(tmp_path)
    assert cohort.channels == ("t1c",)
    assert cohort.notes == (
        "channels adc, t2f are not there in every case and were left out",
        "1 folders are no cases and were passed over: empty",
    )
    with pytest.raises(DataError, match="p2 lacks the channel t2f"):
        open_cohort(tmp_path, options=LayoutOptions(channels=("t2f",)))


def test_a_brain_mask_is_no_lesion_mask_and_two_masks_are_refused(tmp_path: Path) -> None:
    case_folder(tmp_path, "p1", ("t1c", "brain_mask"), 1)
    assert open_cohort(tmp_path).channels == ("brain_mask", "t1c")
    volume(tmp_path / "p1" / "seg.nii", mask(1))
    with pytest.raises(DataError, match=r"seg\.nii: mask\.nii\.gz holds the same \(seg\)"):
        open_cohort(tmp_path)


@pytest.mark.parametrize("values", [(1,), (255,)])
@pytest.mark.parametrize("labels", ["core", "enhancing", "2,3"])
def test_labels_are_not_misapplied_to_binary_masks(tmp_path: Path, values: tuple[int, ...], labels: str) -> None:
    case_folder(tmp_path, "p1", ("t1c",), *values)
    case_folder(tmp_path, "p2", ("t1c",))
    cohort = open_cohort(tmp_path, options=LayoutOptions(labels=labels))
    assert cohort.labels == ("lesion",)
    assert [int(case.load().mask.sum()) for case in cohort.cases] == [1, 0]
    assert [note.startswith(f"data_labels={labels} was not applied") for note in cohort.notes] == [True] * (
        labels != "core"
    )


def test_labels_are_applied_where_one_mask_of_the_cohort_holds_more(tmp_path: Path) -> None:
    case_folder(tmp_path, "p1", ("t1c",), 1)
    case_folder(tmp_path, "p2", ("t1c",), 1, 2, 3)
    for labels, counts in {"core": [1, 2], "enhancing": [0, 1], "2,3": [0, 2]}.items():
        cohort = open_cohort(tmp_path, options=LayoutOptions(labels=labels))
        assert [int(case.load().mask.sum()) for case in cohort.cases] == counts
        assert f"by data_labels={labels}" in cohort.notes[0]
    case_folder(tmp_path, "p3", ("t1c",), 9)
    with pytest.raises(DataError, match=r"p3/mask.*labels 9 are unknown"):
        open_cohort(tmp_path).cases[2].load()
    assert int(open_cohort(tmp_path, options=LayoutOptions(labels="9")).cases[2].load().mask.sum()) == 1


@pytest.mark.parametrize(
    "case, expected",
    [
        ("BraTS-MET-00086-001", ("BraTS-MET-00086", "001")),
        ("sub-07_ses-baseline", ("sub-07", "ses-baseline")),
        ("patient3_tp2", ("patient3", "tp2")),
        ("A-12-visit-3", ("A-12", "visit-3")),
        ("p1_t10", ("p1", "t10")),
        ("patient_12", ("patient_12", "")),
    ],
)
def test_timepoints_are_told_from_patients(case: str, expected: tuple[str, str]) -> None:
    assert patient_and_timepoint(case) == expected


# nnU-Net


@pytest.mark.parametrize("names", ["channel_names", "modality"])
def test_nnunet_takes_channels_and_labels_from_its_description(tmp_path: Path, names: str) -> None:
    described = {names: {"0": "T1 Gd", "1": "FLAIR"}, "labels": {"background": 0, "metastasis": 1}}
    nnunet(tmp_path, described, 1)
    (tmp_path / "imagesTs").mkdir()
    cohort = open_cohort(tmp_path, options=LayoutOptions(labels="whole"))
    assert (cohort.channels, cohort.labels) == (("T1Gd", "FLAIR"), ("lesion",))
    assert "data_labels=whole was not applied" in cohort.notes[0] and "imagesTs" in cohort.notes[1]
    np.testing.assert_array_equal(cohort.cases[1].load().image[..., 1], noise(1))
    only = open_cohort(tmp_path, options=LayoutOptions(channels=("FLAIR",))).cases[0].load().image
    np.testing.assert_array_equal(only[..., 0], noise(1))
    (tmp_path / "imagesTr" / "met_002_0001.nii.gz").unlink()
    with pytest.raises(DataError, match=r"met_002 lacks the channel FLAIR \(met_002_0001\.nii\.gz\)"):
        open_cohort(tmp_path)


@pytest.mark.parametrize(
    "described",
    [{"labels": {"background": 0, "edema": 1, "core": 2}}, {"labels": {"0": "background", "1": "edema", "2": "core"}}],
)
def test_nnunet_labels_that_the_description_lacks_are_refused(tmp_path: Path, described: dict[str, object]) -> None:
    nnunet(tmp_path, described, 1, 2)
    with pytest.raises(UsageError, match=r"data_labels=core means 1, 3, but .*'core'.* data_labels=1,2"):
        open_cohort(tmp_path)
    cohort = open_cohort(tmp_path, options=LayoutOptions(labels="2"))
    assert cohort.labels == ("2",) and "2 (core)" in cohort.notes[0]
    assert int(cohort.cases[0].load().mask.sum()) == 1


def test_nnunet_without_a_description_numbers_its_channels(tmp_path: Path) -> None:
    nnunet(tmp_path, None, 1)
    assert open_cohort(tmp_path).channels == ("channel0", "channel1")
    (tmp_path / "dataset.json").write_text("{")
    with pytest.raises(DataError, match=r"dataset\.json: is no JSON"):
        open_cohort(tmp_path)


# Images and masks


def test_volumes_in_images_and_masks_are_cases(tmp_path: Path) -> None:
    volume(tmp_path / "images" / "p1_tp1.nrrd", noise(1))
    volume(tmp_path / "masks" / "p1_tp1_mask.nii.gz", mask(1))
    volume(tmp_path / "beside" / "x.nii", noise(2))
    volume(tmp_path / "beside" / "x_mask.nii", mask(255))
    cohort = open_cohort(tmp_path, options=LayoutOptions(channels=("t1c",)))
    assert [(c.case, c.patient, c.timepoint) for c in cohort.cases] == [("p1_tp1", "p1", "tp1")]
    assert cohort.channels == ("t1c",)
    np.testing.assert_array_equal(cohort.cases[0].load().image[..., 0], noise(1))
    beside = open_cohort(tmp_path / "beside").cases[0].load()
    np.testing.assert_array_equal(beside.mask, mask(1))
    picture_pair(tmp_path, "y")
    with pytest.raises(DataError, match="keep one kind"):
        open_cohort(tmp_path)


def test_pages_of_a_tiff_are_slices(tmp_path: Path) -> None:
    pages = [picture(seed, (10, 12)) for seed in range(3)]
    for folder, planes in (("images", pages), ("masks", [blob(10, 12), blob(10, 12, 0), blob(10, 12)])):
        (tmp_path / folder).mkdir()
        first, *rest = map(Image.fromarray, planes)
        first.save(tmp_path / folder / "scan.tif", save_all=True, append_images=rest)
    source = open_cohort(tmp_path).cases[0]
    assert (source.case, source.slice_names) == ("scan", ())
    loaded = source.load()
    np.testing.assert_array_equal(loaded.image[..., 0], pages)
    assert loaded.mask.sum(axis=(1, 2)).tolist() == [6, 0, 6]
    Image.fromarray(blob(10, 12)).save(tmp_path / "masks" / "scan.tif")
    with pytest.raises(DataError, match=r"masks/scan\.tif: size 1×10×12, while .* has 3×10×12"):
        open_cohort(tmp_path).cases[0].load()


# Grids


def test_a_mask_on_another_grid_is_refused_with_both_printed_or_resampled(tmp_path: Path) -> None:
    case_folder(tmp_path, "p1", ("t1c", "t2f"))
    coarse = np.zeros((4, 3, 3), np.uint8)
    coarse[2, 1, 1] = 1
    volume(tmp_path / "p1" / "mask.nii.gz", coarse, spacing=2.0)
    said = (
        r"mask\.nii\.gz: lies on another grid than .*shape 4×3×3, spacing 2×2×2 .*shape 4×5×6, spacing 2×1×1 .*resample"
    )
    with pytest.raises(DataError, match=said):
        open_cohort(tmp_path).cases[0].load()
    loaded = open_cohort(tmp_path, options=LayoutOptions(resample_masks=True)).cases[0].load()
    assert loaded.resampled == ("p1/mask.nii.gz",)
    nearest = SimpleITK.Resample(
        SimpleITK.ReadImage(tmp_path / "p1" / "mask.nii.gz"),
        SimpleITK.ReadImage(tmp_path / "p1" / "t1c.nii.gz"),
        interpolator=SimpleITK.sitkNearestNeighbor,
    )
    np.testing.assert_array_equal(loaded.mask, SimpleITK.GetArrayFromImage(nearest))
    assert loaded.mask.any()


def test_a_threshold_for_pictures_does_not_cut_label_values(tmp_path: Path) -> None:
    case_folder(tmp_path, "p1", ("t1c",), 1)
    cohort = open_cohort(tmp_path, options=LayoutOptions(mask_threshold=127))
    assert cohort.notes[0].startswith("data_mask_threshold=127 was not applied")
    assert int(cohort.cases[0].load().mask.sum()) == 1


def test_masks_on_the_grid_are_not_resampled(tmp_path: Path) -> None:
    case_folder(tmp_path, "p1", ("t1c",), 1)
    loaded = open_cohort(tmp_path, options=LayoutOptions(resample_masks=True)).cases[0].load()
    assert loaded.resampled == ()


def test_channels_on_different_grids_are_refused_in_any_case(tmp_path: Path) -> None:
    case_folder(tmp_path, "p1", ("t1c", "t2f"), 1)
    volume(tmp_path / "p1" / "t2f.nii.gz", noise(1), origin=3.0)
    with pytest.raises(
        DataError, match=r"t2f.*3\.00 mm away.*origin \(3, 0, 0\).*origin \(0, 0, 0\).*channels of a case"
    ):
        open_cohort(tmp_path, options=LayoutOptions(resample_masks=True)).cases[0].load()


def test_ingest_says_which_masks_were_resampled(tmp_path: Path) -> None:
    for seed, case in enumerate(("p1_t1", "p1_t2", "p2", "p3")):
        volume(tmp_path / "data" / case / "t1c.nrrd", noise(seed))
        volume(tmp_path / "data" / case / "seg.nrrd", mask(1), spacing=1.5 if case == "p2" else 1.0)
    with pytest.raises(DataError, match=r"p2/seg\.nrrd: lies on another grid"):
        ingest(str(tmp_path / "data"), tmp_path / "out")
    manifest = ingest(str(tmp_path / "data"), tmp_path / "out", resample_masks=True)
    assert any("1 masks lay on another grid" in note and "p2/seg.nrrd" in note for note in manifest.notes)
    assert manifest.patients() == ("p1", "p2", "p3")
    assert len({entry.split for entry in manifest.cases if entry.patient == "p1"}) == 1
    assert all(entry.spacing == (2.0, 1.0, 1.0) and entry.lesion_voxels for entry in manifest.cases)
