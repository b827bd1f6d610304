"""NRRD files are read as SimpleITK reads them, and their masks are written where SimpleITK finds the image."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest
import SimpleITK
from numpy.typing import NDArray

from metseg.errors import DataError
from metseg.imaging.channel_names import is_lesion_mask
from metseg.imaging.io import bare_stem, mask_suffix, read_image, write_mask_like
from metseg.serving.client.inputs import group_files, image_files, read_case

HEADER = "NRRD0004\ntype: {type}\ndimension: 3\nsizes: 4 3 2\nendian: {endian}\nencoding: {encoding}\n{more}\n"


def counting(shape: tuple[int, ...] = (2, 3, 4)) -> NDArray[np.int16]:
    """A volume in which no two voxels are alike."""
    return np.arange(np.prod(shape), dtype=np.int16).reshape(shape)


def write(
    path: Path, content: bytes, *, type: str = "short", endian: str = "little", encoding: str = "raw", more: str = ""
) -> Path:
    path.write_bytes(HEADER.format(type=type, endian=endian, encoding=encoding, more=more).encode() + content)
    return path


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("dtype", ["u1", "i1", "i2", "u2", "i4", "u4", "i8", "u8", "f4", "f8"])
def test_every_type_keeps_its_values(tmp_path: Path, dtype: str, packed: bool) -> None:
    data = (counting() * 3).astype(dtype)
    SimpleITK.WriteImage(SimpleITK.GetImageFromArray(data), tmp_path / "v.nrrd", useCompression=packed)
    array = read_image(tmp_path / "v.nrrd").array
    assert array.dtype == np.dtype(dtype)
    np.testing.assert_array_equal(array, data)


def test_detached_headers_are_read_with_the_file_beside_them(tmp_path: Path) -> None:
    image = SimpleITK.GetImageFromArray(counting())
    image.SetSpacing((0.5, 0.7, 3.0))
    for packed in (False, True):
        SimpleITK.WriteImage(image, tmp_path / "v.nhdr", useCompression=packed)
        array, geometry, original = read_image(tmp_path / "v.nhdr")
        np.testing.assert_array_equal(array, counting())
        assert geometry.spacing == (3.0, 0.7, 0.5)
        assert mask_suffix(original) == ".nrrd"
    for file in tmp_path.glob("v.raw*"):
        file.unlink()
    with pytest.raises(DataError, match=r"v\.nhdr: its voxels should lie in v\.raw\.gz"):
        read_image(tmp_path / "v.nhdr")


@pytest.mark.parametrize("name", ["/etc/hostname", "../v.raw", "LIST", "v%d.raw 1 2 1"])
def test_voxels_elsewhere_are_not_followed(tmp_path: Path, name: str) -> None:
    path = write(tmp_path / "v.nhdr", b"", more=f"data file: {name}\n")
    with pytest.raises(DataError, match="one file next to the header"):
        read_image(path)


def test_byte_order_and_spaces_are_those_of_the_header(tmp_path: Path) -> None:
    directions = "space directions: (2,0,0) (0,3,0) (0,0,4)\nspace origin: (10,20,30)\n"
    for space, sign in {"left-posterior-superior": (1, 1), "RAS": (-1, -1), "left-anterior-superior": (1, -1)}.items():
        more = f"space: {space}\n{directions}"
        path = write(tmp_path / "v.nrrd", counting().astype(">i2").tobytes(), endian="big", more=more)
        volume = read_image(path)
        first = np.array(volume.geometry.affine) @ [*np.argwhere(volume.array == 0)[0][::-1], 1]
        np.testing.assert_allclose(first[:3], [sign[0] * 10, sign[1] * 20, 30])
        other = SimpleITK.ReadImage(path)
        np.testing.assert_allclose(other.GetOrigin(), first[:3])


def test_units_of_space_become_millimetres(tmp_path: Path) -> None:
    more = 'space: LPS\nspace directions: (1,0,0) (0,1,0) (0,0,2)\nspace units: "um" "um" "um"\n'
    volume = read_image(write(tmp_path / "v.nrrd", counting().tobytes(), more=more))
    np.testing.assert_allclose(volume.geometry.spacing, (0.002, 0.001, 0.001))


def test_without_directions_the_spacings_stand_and_without_both_nothing_is_known(tmp_path: Path) -> None:
    given = read_image(write(tmp_path / "v.nrrd", counting().tobytes(), more="spacings: 0.5 0.6 2\n"))
    assert (given.geometry.spacing, given.geometry.spacing_known) == ((2.0, 0.6, 0.5), True)
    none = read_image(write(tmp_path / "v.nrrd", counting().tobytes()))
    assert (none.geometry.spacing, none.geometry.spacing_known) == ((1.0, 1.0, 1.0), False)


@pytest.mark.parametrize("shape", [(3, 4), (1, 2, 3, 4)])
def test_one_slice_and_series_of_one_volume_come_back_in_the_mask(tmp_path: Path, shape: tuple[int, ...]) -> None:
    SimpleITK.WriteImage(SimpleITK.GetImageFromArray(counting(shape), isVector=False), tmp_path / "v.nrrd")
    array, _, original = read_image(tmp_path / "v.nrrd")
    assert array.shape == (1, *shape)[-3:]
    write_mask_like(tmp_path / "m.nrrd", (array % 3 == 0).astype(np.uint8), original)
    mask = SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(tmp_path / "m.nrrd"))
    np.testing.assert_array_equal(mask, counting(shape) % 3 == 0)


def test_segmentations_as_slicer_writes_them_are_read_where_they_hold_one_layer(tmp_path: Path) -> None:
    head = (
        "NRRD0004\n# Complete NRRD file format specification at:\ntype: unsigned char\ndimension: 4\n"
        "space: left-posterior-superior\nsizes: {layers} 4 3 2\n"
        "space directions: none (0.5, 0, 0) (0, 0.5, 0) (0, 0, 3)\nkinds: list domain domain domain\n"
        "encoding: gzip\nspace origin: (1, 2, 3)\nSegment0_Name:=Metastasis: left\n\n"
    )
    layer = (counting() % 2).astype(np.uint8)
    path = tmp_path / "p1.seg.nrrd"
    path.write_bytes(head.format(layers=1).encode() + gzip.compress(layer.tobytes()))
    volume = read_image(path)
    np.testing.assert_array_equal(volume.array, layer)
    assert volume.geometry.spacing == (3.0, 0.5, 0.5)
    assert bare_stem(path) == "p1.seg" and is_lesion_mask("seg") and is_lesion_mask("Segmentation.seg")
    path.write_bytes(head.format(layers=2).encode() + gzip.compress(np.repeat(layer, 2).tobytes()))
    with pytest.raises(DataError, match="sizes 2 4 3 2, more than one value"):
        read_image(path)


def test_mask_carries_no_free_text_of_its_input(tmp_path: Path) -> None:
    path = write(tmp_path / "v.nrrd", counting().tobytes(), more="content: DOE^JANE\n# JANE\nPatient:=DOE^JANE\n")
    array, _, original = read_image(path)
    write_mask_like(tmp_path / "m.nrrd", np.zeros(array.shape, np.uint8), original)
    assert b"JANE" not in (tmp_path / "m.nrrd").read_bytes()


def test_masks_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    _, _, original = read_image(write(tmp_path / "v.nrrd", counting().tobytes()))
    with pytest.raises(DataError, match="both must agree"):
        write_mask_like(tmp_path / "m.nrrd", np.zeros((2, 3, 5), np.uint8), original)
    with pytest.raises(DataError, match=r"written as \.nrrd"):
        write_mask_like(tmp_path / "m.nii", np.zeros((2, 3, 4), np.uint8), original)


@pytest.mark.parametrize(
    "arguments, said",
    [
        ({"encoding": "bzip2"}, "raw and gzip are read"),
        ({"encoding": "ascii"}, "raw and gzip are read"),
        ({"type": "block"}, "whole and real numbers"),
        ({"endian": "middle"}, "little or big is expected"),
        ({"more": "space: scanner-xyz\n"}, "does not relate to the patient"),
        ({"more": "space directions: (1,0,0) (0,1,0)\n"}, "2 vectors for 3 axes"),
        ({"more": "space directions: (1,0,0) (0,1,0) (1,1,0)\n"}, "does not span space"),
        ({"more": "space directions: (1,0,0) (0,x,0) (0,0,1)\n"}, "header is broken"),
        ({"more": "space directions: none (1,0,0) (0,1,0)\n"}, "more than one value"),
        ({"more": "kinds: RGB-color domain domain\n"}, "more than one value"),
        ({"more": "kinds: domain dgmain domain\n"}, "more than one value"),
        ({"more": "sp ce: LPS\n"}, "broken at 'sp ce: LPS'"),
        ({"more": "line skip: 2\n"}, "line skip"),
    ],
)
def test_headers_that_cannot_be_meant_are_named(tmp_path: Path, arguments: dict[str, str], said: str) -> None:
    path = write(tmp_path / "v.nrrd", counting().tobytes(), **arguments)
    with pytest.raises(DataError, match=said) as caught:
        read_image(path)
    assert str(path) in str(caught.value)


def test_prediction_takes_nrrd_files_and_whole_folders_of_them(tmp_path: Path) -> None:
    for channel in ("t1c", "t2f"):
        SimpleITK.WriteImage(SimpleITK.GetImageFromArray(counting() + len(channel)), tmp_path / f"a-{channel}.nrrd")
    (case,) = group_files(image_files([tmp_path]), ("t2f", "t1c"), [])
    read = read_case(case, ("t2f", "t1c"))
    assert (case.name, read.image.shape) == ("a", (2, 3, 4, 2))
    assert mask_suffix(read.original) == ".nrrd"


def test_streams_longer_or_shorter_than_announced_are_refused(tmp_path: Path) -> None:
    whole = counting().tobytes()
    for content, said in ((whole[:-1], "truncated"), (whole + bytes(5000), "more than")):
        with pytest.raises(DataError, match=said):
            read_image(write(tmp_path / "v.nrrd", content))
        with pytest.raises(DataError, match=said):
            read_image(write(tmp_path / "v.nrrd", gzip.compress(content), encoding="gzip"))
    np.testing.assert_array_equal(read_image(write(tmp_path / "v.nrrd", whole + bytes(464))).array, counting())
