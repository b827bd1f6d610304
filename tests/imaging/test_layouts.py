"""Cohorts are recognised by themselves, read completely, and refused by name where files do not fit."""

from __future__ import annotations

from pathlib import Path

import nibabel
import numpy as np
import pytest
from PIL import Image

from metseg.errors import DataError, UsageError
from metseg.imaging.layouts import LayoutOptions, open_cohort, recognise
from tests.dataset.cohorts import blob, brats_case, brats_cohort, picture, picture_pair, tcga_patient


def test_layouts_are_recognised(tmp_path: Path) -> None:
    brats_case(tmp_path / "a", "BraTS-MET-00001-000")
    tcga_patient(tmp_path / "b", "TCGA_CS_4941_19960909", (1, 2))
    (tmp_path / "b" / "data.csv").write_text("x")
    picture_pair(tmp_path / "c", "x")
    (tmp_path / "d").mkdir()
    Image.fromarray(blob(5, 7)).save(tmp_path / "d" / "x_mask.png")
    Image.fromarray(blob(5, 7)).save(tmp_path / "d" / "x.png")
    found = [recognise(tmp_path / folder).name for folder in "abcd"]
    assert found == ["brats-mets", "tcga-lgg", "image-mask-folders", "image-mask-folders"]


def test_unknown_layout_lists_what_was_looked_for(tmp_path: Path) -> None:
    brats_case(tmp_path / "inner", "BraTS-MET-00001-000")
    with pytest.raises(DataError, match=r"inner inside it .*brats-mets: .*tcga-lgg: .*image-mask-folders: ") as caught:
        recognise(tmp_path)
    assert str(tmp_path) in str(caught.value)


def test_two_layouts_in_one_folder_are_refused_unless_one_is_named(tmp_path: Path) -> None:
    brats_case(tmp_path, "BraTS-MET-00001-000")
    picture_pair(tmp_path, "x")
    with pytest.raises(DataError, match="brats-mets and image-mask-folders"):
        open_cohort(tmp_path)
    assert open_cohort(tmp_path, "image-mask-folders").layout == "image-mask-folders"
    with pytest.raises(UsageError, match="data_layout=nifti: expected auto, brats-mets"):
        open_cohort(tmp_path, "nifti")


# BraTS-METS


def test_brats_case_is_read_in_canonical_axes_and_default_order(tmp_path: Path) -> None:
    brats_case(tmp_path, "PHANTOM-MET-00007-001", ("t1c", "t1n", "t2f", "t2w"), suffix=".nii")
    cohort = open_cohort(tmp_path)
    source = cohort.cases[0]
    assert (source.case, source.patient, source.timepoint) == ("PHANTOM-MET-00007-001", "PHANTOM-MET-00007", "001")
    assert cohort.channels == ("t1n", "t2f", "t1c")
    loaded = source.load()
    assert loaded.image.shape == (6, 8, 9, 3) and loaded.image.dtype == np.int16
    for place, channel in enumerate(cohort.channels):
        path = tmp_path / source.case / f"{source.case}-{channel}.nii"
        # The affine is LPS already, so axes are only turned around.
        expected = np.asarray(nibabel.load(path).dataobj).transpose(2, 1, 0)
        np.testing.assert_array_equal(loaded.image[..., place], expected)
    assert loaded.geometry.spacing == (2.0, 1.0, 1.0)
    assert source.sources[-1] == "PHANTOM-MET-00007-001/PHANTOM-MET-00007-001-seg.nii"


@pytest.mark.parametrize(
    "labels, columns",
    [("core", [1, 3]), ("whole", [1, 2, 3]), ("enhancing", [3]), ("4", [4]), ("2, 4", [2, 4])],
)
def test_labels_say_what_is_lesion(tmp_path: Path, labels: str, columns: list[int]) -> None:
    brats_case(tmp_path, "BraTS-MET-00001-000")
    cohort = open_cohort(tmp_path, options=LayoutOptions(labels=labels))
    mask = cohort.cases[0].load().mask
    # Label n stands in column n of row 2 of slice 3.
    assert [tuple(map(int, place)) for place in np.argwhere(mask)] == [(3, 2, column) for column in columns]
    assert cohort.labels == tuple(map(str, columns))


@pytest.mark.parametrize("labels", ["tumour", "1;3", "0", "-1", "1,", "1.5"])
def test_unknown_label_sets_are_refused(tmp_path: Path, labels: str) -> None:
    brats_case(tmp_path, "BraTS-MET-00001-000")
    with pytest.raises(UsageError, match="data_labels="):
        open_cohort(tmp_path, options=LayoutOptions(labels=labels))


def test_unknown_labels_in_a_segmentation_are_refused(tmp_path: Path) -> None:
    labels = brats_case(tmp_path, "BraTS-MET-00001-000").astype(np.float32) * 1.5
    path = tmp_path / "BraTS-MET-00001-000" / "BraTS-MET-00001-000-seg.nii.gz"
    nibabel.save(nibabel.Nifti1Image(labels, np.diag([-1.0, -1.0, 2.0, 1.0])), path)
    with pytest.raises(DataError, match=r"seg\.nii\.gz: labels 1\.5, 4\.5, 6 are unknown"):
        open_cohort(tmp_path).cases[0].load()


def test_channels_are_chosen_and_ordered(tmp_path: Path) -> None:
    brats_case(tmp_path, "BraTS-MET-00001-000", ("t1c", "t1n", "t2f"))
    both = open_cohort(tmp_path, options=LayoutOptions(channels=("t1c", "t2f")))
    everything = open_cohort(tmp_path).cases[0].load().image
    np.testing.assert_array_equal(both.cases[0].load().image, everything[..., [2, 1]])


def test_a_channel_that_a_case_lacks_is_named_with_case_and_file(tmp_path: Path) -> None:
    brats_case(tmp_path, "BraTS-MET-00001-000")
    brats_case(tmp_path, "BraTS-MET-00002-000", ("t1n", "t2f"))
    with pytest.raises(DataError, match=r"BraTS-MET-00002-000 lacks the channel t1c \(BraTS-MET-00002-000-t1c"):
        open_cohort(tmp_path)
    assert open_cohort(tmp_path, options=LayoutOptions(channels=("t2f",))).channels == ("t2f",)
    with pytest.raises(DataError, match="lacks the channel adc"):
        open_cohort(tmp_path, options=LayoutOptions(channels=("adc",)))


def test_without_the_usual_channels_those_of_every_case_are_taken(tmp_path: Path) -> None:
    brats_case(tmp_path, "BraTS-MET-00001-000", ("t1c", "t2w"))
    brats_case(tmp_path, "BraTS-MET-00002-000", ("t1c",))
    cohort = open_cohort(tmp_path)
    assert cohort.channels == ("t1c",)
    assert "t2w" in cohort.notes[0]


@pytest.mark.parametrize(
    "removed, said", [("seg", "1 without a mask: BraTS-MET-00001-000"), ("t1c", "1 masks without an image: ")]
)
def test_single_brats_files_are_named(tmp_path: Path, removed: str, said: str) -> None:
    brats_case(tmp_path, "BraTS-MET-00001-000", ("t1c",))
    brats_case(tmp_path, "BraTS-MET-00002-000", ("t1c",))
    (tmp_path / "BraTS-MET-00001-000" / f"BraTS-MET-00001-000-{removed}.nii.gz").unlink()
    with pytest.raises(DataError, match=said):
        open_cohort(tmp_path)


def test_brats_files_on_other_grids_are_refused(tmp_path: Path) -> None:
    case = "BraTS-MET-00001-000"
    labels = brats_case(tmp_path, case)
    path = tmp_path / case / f"{case}-seg.nii.gz"
    grid = np.diag([-1.0, -1.0, 2.0, 1.0])
    nibabel.save(nibabel.Nifti1Image(labels[:-1], grid), path)
    with pytest.raises(DataError, match=r"seg.*shape 6×8×8, .*t1n.*shape 6×8×9"):
        open_cohort(tmp_path).cases[0].load()
    grid[0, 3] = 1.0
    nibabel.save(nibabel.Nifti1Image(labels, grid), path)
    with pytest.raises(DataError, match=r"up to 1\.00 mm away.*origin \(-1, 0, 0\).*origin \(0, 0, 0\)"):
        open_cohort(tmp_path).cases[0].load()


def test_same_space_in_other_axes_is_one_grid(tmp_path: Path) -> None:
    case = "BraTS-MET-00001-000"
    brats_case(tmp_path, case)
    path = tmp_path / case / f"{case}-seg.nii.gz"
    expected = open_cohort(tmp_path).cases[0].load().mask
    nibabel.save(nibabel.as_closest_canonical(nibabel.load(path)), tmp_path / "turned.nii.gz")
    (tmp_path / "turned.nii.gz").replace(path)
    np.testing.assert_array_equal(open_cohort(tmp_path).cases[0].load().mask, expected)


def test_a_channel_twice_is_refused(tmp_path: Path) -> None:
    brats_case(tmp_path, "BraTS-MET-00001-000")
    twin = tmp_path / "BraTS-MET-00001-000" / "BraTS-MET-00001-000-t1c.nii"
    twin.write_bytes(b"")
    with pytest.raises(DataError, match="holds the same"):
        open_cohort(tmp_path)


def test_folders_that_are_no_cases_are_noted(tmp_path: Path) -> None:
    brats_cohort(tmp_path, 2)
    (tmp_path / "BraTS-MET-0003-000").mkdir()
    assert open_cohort(tmp_path).notes == ("1 folders are no cases and were passed over: BraTS-MET-0003-000",)


# TCGA-LGG


def test_tcga_slices_are_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    tcga_patient(tmp_path, "TCGA_CS_4941_19960909", (2, 3, 10, 11))
    cohort = open_cohort(tmp_path)
    source = cohort.cases[0]
    assert (source.patient, source.timepoint) == ("TCGA_CS_4941", "19960909")
    assert source.slice_names == ("2", "3", "10", "11")
    loaded = source.load()
    assert loaded.image[:, 0, 0, 0].tolist() == [2, 3, 10, 11]
    assert loaded.mask.sum(axis=(1, 2)).tolist() == [0, 6, 6, 6]
    assert cohort.channels == ("t1n", "t2f", "t1c")
    assert len(cohort.notes) == 1 and cohort.notes[0].endswith("neighbours: TCGA_CS_4941_19960909 lacks 4-9")
    flair = open_cohort(tmp_path, options=LayoutOptions(channels=("t2f",))).cases[0].load().image
    np.testing.assert_array_equal(flair, loaded.image[..., 1:2])


def test_tcga_files_that_do_not_fit_are_named(tmp_path: Path) -> None:
    name = "TCGA_CS_4941_19960909"
    tcga_patient(tmp_path, name, (1, 2))
    Image.fromarray(blob(10, 9)).save(tmp_path / name / f"{name}_2_mask.tif")
    with pytest.raises(DataError, match=f"{name}_2_mask.tif: size 10×9, while .*{name}_2.tif has 10×10"):
        open_cohort(tmp_path).cases[0].load()
    (tmp_path / name / f"{name}_2_mask.tif").unlink()
    with pytest.raises(DataError, match=f"1 without a mask: {name}/{name}_2.tif"):
        open_cohort(tmp_path)
    with pytest.raises(UsageError, match="adc unknown"):
        open_cohort(tmp_path, options=LayoutOptions(channels=("adc",)))


# Pictures


def test_trailing_number_is_the_slice_and_brats_names_give_the_patient(tmp_path: Path) -> None:
    for place, name in enumerate(("BraTS-MET-00230-000_1057", "BraTS-MET-00230-000_99", "scan_3", "single")):
        picture_pair(tmp_path, name, seed=place)
    cases = open_cohort(tmp_path).cases
    assert [(c.case, c.patient, c.timepoint, c.slice_names) for c in cases] == [
        ("BraTS-MET-00230-000", "BraTS-MET-00230", "000", ("99", "1057")),
        ("scan", "scan", "", ("3",)),
        ("single", "single", "", ("single",)),
    ]
    np.testing.assert_array_equal(cases[0].load().image[..., 0], [picture(1, (10, 12)), picture(0, (10, 12))])


@pytest.mark.parametrize("value", [1, 255])
def test_binary_masks_are_taken_as_they_are(tmp_path: Path, value: int) -> None:
    picture_pair(tmp_path, "x", value=value)
    for threshold in (None, 127):
        loaded = open_cohort(tmp_path, options=LayoutOptions(mask_threshold=threshold)).cases[0].load()
        np.testing.assert_array_equal(loaded.mask[0], blob(10, 12, 1))


def test_grey_masks_are_refused_unless_told_to_threshold(tmp_path: Path) -> None:
    picture_pair(tmp_path, "x")
    Image.fromarray(np.array([[0, 100, 127, 128, 200, 255]], np.uint8)).save(tmp_path / "masks" / "x.png")
    Image.fromarray(np.zeros((1, 6), np.uint8)).save(tmp_path / "images" / "x.png")
    with pytest.raises(DataError, match=r"x\.png: .* holds 6 values .* data_mask_threshold=127"):
        open_cohort(tmp_path).cases[0].load()
    loaded = open_cohort(tmp_path, options=LayoutOptions(mask_threshold=127)).cases[0].load()
    assert loaded.mask[0, 0].tolist() == [0, 0, 0, 1, 1, 1]
    assert loaded.thresholded == ()


def test_jpeg_masks_are_cut_and_said(tmp_path: Path) -> None:
    picture_pair(tmp_path, "x", suffix=".jpg", size=(32, 32))
    loaded = open_cohort(tmp_path).cases[0].load()
    assert loaded.thresholded == ("masks/x.jpg",)
    assert 1 <= loaded.mask.sum() <= 12


def test_grey_in_three_planes_is_one_channel_and_colour_is_three(tmp_path: Path) -> None:
    picture_pair(tmp_path, "x")
    grey = np.repeat(picture(5, (10, 12))[..., None], 3, axis=2)
    Image.fromarray(grey).save(tmp_path / "images" / "x.png")
    cohort = open_cohort(tmp_path, options=LayoutOptions(channels=("t2w",)))
    assert cohort.channels == ("t2w",)
    np.testing.assert_array_equal(cohort.cases[0].load().image[0], grey[..., :1])
    colour = picture(6, (10, 12, 3))
    Image.fromarray(colour).save(tmp_path / "images" / "x.png")
    cohort = open_cohort(tmp_path)
    assert cohort.channels == ("red", "green", "blue")
    np.testing.assert_array_equal(cohort.cases[0].load().image[0], colour)
    named = open_cohort(tmp_path, options=LayoutOptions(channels=("a", "b", "c")))
    assert named.channels == ("a", "b", "c")
    with pytest.raises(DataError, match=r"x\.png: this picture has colours"):
        open_cohort(tmp_path, options=LayoutOptions(channels=("t2w",))).cases[0].load()


def test_pictures_of_one_case_have_one_size(tmp_path: Path) -> None:
    picture_pair(tmp_path, "scan_1", size=(10, 12))
    picture_pair(tmp_path, "scan_2", size=(12, 10))
    with pytest.raises(DataError, match=r"scan_2\.png: size 12×10, while .*scan_1\.png.*has 10×12"):
        open_cohort(tmp_path).cases[0].load()


def test_pictures_that_do_not_pair_up_are_named(tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        picture_pair(tmp_path, name)
    (tmp_path / "masks" / "a.png").unlink()
    (tmp_path / "images" / "c.png").unlink()
    with pytest.raises(DataError, match=r"1 without a mask: images/a\.png; 1 masks without an image: masks/c\.png"):
        open_cohort(tmp_path)
    picture_pair(tmp_path / "d", "x")
    Image.fromarray(blob(12, 12)).save(tmp_path / "d" / "masks" / "x.png")
    with pytest.raises(DataError, match=r"masks/x\.png: size 12×12, while .* has 10×12"):
        open_cohort(tmp_path / "d").cases[0].load()
    picture_pair(tmp_path / "d", "x", suffix=".tif")
    with pytest.raises(DataError, match="same name in another format"):
        open_cohort(tmp_path / "d")


@pytest.mark.parametrize("labels", ["whole", "enhancing", "2,3"])
def test_labels_do_not_apply_to_pictures_and_the_notes_say_so(tmp_path: Path, labels: str) -> None:
    picture_pair(tmp_path / "a", "x", value=1)
    tcga_patient(tmp_path / "b", "TCGA_CS_4941_19960909", (1, 2))
    for folder, lesion in (("a", 6), ("b", 6)):
        cohort = open_cohort(tmp_path / folder, options=LayoutOptions(labels=labels))
        assert cohort.notes[0].startswith(f"data_labels={labels} was not applied")
        assert cohort.labels == ("lesion",)
        assert int(cohort.cases[0].load().mask.sum()) == lesion
        with pytest.raises(UsageError, match="data_labels='tumour'"):
            open_cohort(tmp_path / folder, options=LayoutOptions(labels="tumour"))


def test_real_tcga_cohort_is_complete(shared_data: Path) -> None:
    cohort = open_cohort(shared_data / "tcga-lgg")
    assert len(cohort.cases) == 18
    assert sum(len(case.slice_names) for case in cohort.cases) == 533
    with_tumour = sum(int(case.load().mask.any(axis=(1, 2)).sum()) for case in cohort.cases)
    assert with_tumour == 195


def test_real_jpeg_cohort_needs_no_flags(shared_data: Path) -> None:
    cohort = open_cohort(shared_data / "bratsmet-t2w-jpg")
    assert [case.patient for case in cohort.cases] == [f"BraTS-MET-00{n}" for n in (230, 232, 234)]
    loaded = [case.load() for case in cohort.cases]
    assert sum(len(case.thresholded) for case in loaded) == 11
    assert all(case.image.shape[1:] == (512, 512, 1) and case.mask.any() for case in loaded)


def test_real_volumes_are_turned_to_canonical_axes(shared_data: Path) -> None:
    from metseg.imaging.io import read_image

    path = shared_data / "bratsmet-nifti-unlabelled" / "BraTS-MET-00110-000-t1c.nii.gz"
    volume = read_image(path)
    assert volume.array.shape == (155, 240, 240)
    assert volume.geometry.spacing == pytest.approx((1.0, 1.0, 1.0))
    turned = nibabel.as_closest_canonical(nibabel.load(path)).get_fdata()
    np.testing.assert_array_equal(volume.array, turned[::-1, ::-1].transpose(2, 1, 0))


def test_gaps_between_numbered_pictures_are_said(tmp_path: Path) -> None:
    for name in ("a_1", "a_2", "a_6", "b_3", "c_09", "c_11", "single"):
        picture_pair(tmp_path, name)
    found = open_cohort(tmp_path, "image-mask-folders")
    said = [note for note in found.notes if "gaps" in note]
    assert len(said) == 1 and "a lacks 3-5, c lacks 10" in said[0] and "b lacks" not in said[0]
