"""One file in, canonical axes out, and the mask back onto the file's own grid."""

from __future__ import annotations

import gzip
import itertools
from pathlib import Path

import cv2
import nibabel
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from metseg.errors import DataError
from metseg.imaging.io import mask_suffix, read_image, read_picture, write_mask_like

SHAPE = (4, 5, 6)
SPACING = (0.5, 1.25, 3.0)
TURNS = [(order, signs) for order in itertools.permutations(range(3)) for signs in itertools.product((1, -1), repeat=3)]


def oblique(order: tuple[int, ...], signs: tuple[int, ...], degrees: float = 12.0) -> NDArray[np.float64]:
    """An affine whose voxel axis `i` runs along world axis `order[i]`, turned a little about an odd axis."""
    axes = np.zeros((3, 3))
    for voxel_axis, (world_axis, sign) in enumerate(zip(order, signs, strict=True)):
        axes[world_axis, voxel_axis] = sign
    axis = np.array([1.0, 2.0, 3.0]) / np.sqrt(14)
    cross = np.array([[0, -axis[2], axis[1]], [axis[2], 0, -axis[0]], [-axis[1], axis[0], 0]])
    angle = np.deg2rad(degrees)
    rotation = np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross
    affine = np.eye(4)
    affine[:3, :3] = rotation @ axes @ np.diag(SPACING)
    affine[:3, 3] = (-20.0, 31.0, 7.5)
    return affine


def counting(shape: tuple[int, ...] = SHAPE) -> NDArray[np.int16]:
    """A volume in which no two voxels are alike."""
    return np.arange(np.prod(shape), dtype=np.int16).reshape(shape)


def save(path: Path, data: NDArray[np.generic], affine: NDArray[np.float64], kind: type = nibabel.Nifti1Image) -> Path:
    nibabel.save(kind(data, affine), path)
    return path


@pytest.mark.parametrize("order, signs", TURNS)
def test_every_voxel_stays_where_it_lies_in_the_patient(
    tmp_path: Path, order: tuple[int, ...], signs: tuple[int, ...]
) -> None:
    affine = oblique(order, signs)
    volume = read_image(save(tmp_path / "v.nii", counting(), affine))
    canonical = np.array(volume.geometry.affine)
    for s, r, c in np.ndindex(volume.array.shape):
        i, j, k = np.unravel_index(int(volume.array[s, r, c]), SHAPE)
        x, y, z = (affine @ [i, j, k, 1])[:3]  # RAS
        np.testing.assert_allclose((canonical @ [c, r, s, 1])[:3], [-x, -y, z], atol=1e-4)
    # Columns run to the left, rows to the back, slices upwards.
    assert [int(np.argmax(np.abs(canonical[:3, axis]))) for axis in range(3)] == [0, 1, 2]
    assert (np.diag(canonical)[:3] > 0).all()
    by_world_axis = dict(zip(order, SPACING, strict=True))
    np.testing.assert_allclose(volume.geometry.spacing, [by_world_axis[axis] for axis in (2, 1, 0)], rtol=1e-5)
    assert volume.geometry.spacing_known


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
@pytest.mark.parametrize("order, signs", TURNS[::5])
def test_mask_overlays_the_input_voxel_for_voxel(
    tmp_path: Path, order: tuple[int, ...], signs: tuple[int, ...], suffix: str
) -> None:
    path = save(tmp_path / f"v{suffix}", counting(), oblique(order, signs))
    array, _, original = read_image(path)
    marked = (array % 7 == 0).astype(np.uint8)
    assert mask_suffix(original) == suffix
    write_mask_like(tmp_path / f"mask{suffix}", marked, original)
    before, after = nibabel.load(path), nibabel.load(tmp_path / f"mask{suffix}")
    np.testing.assert_array_equal(np.asarray(after.dataobj), np.asarray(before.dataobj) % 7 == 0)
    np.testing.assert_array_equal(after.affine, before.affine)
    assert after.get_data_dtype() == np.uint8
    for field in ("sform_code", "qform_code", "pixdim", "quatern_b", "qoffset_x", "srow_x", "xyzt_units"):
        np.testing.assert_array_equal(after.header[field], before.header[field])
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted([path.name, f"mask{suffix}"])


def test_mask_carries_no_free_text_of_its_input(tmp_path: Path) -> None:
    image = nibabel.Nifti1Image(counting(), np.eye(4))
    image.header["descrip"] = b"DOE^JANE"
    nibabel.save(image, tmp_path / "v.nii")
    array, _, original = read_image(tmp_path / "v.nii")
    write_mask_like(tmp_path / "m.nii", np.zeros(array.shape, np.uint8), original)
    assert b"DOE" not in (tmp_path / "m.nii").read_bytes()


@pytest.mark.parametrize("shape", [(4, 5), (4, 5, 6, 1)])
def test_flat_and_trailing_axes_come_back_in_the_mask(tmp_path: Path, shape: tuple[int, ...]) -> None:
    array, _, original = read_image(save(tmp_path / "v.nii", counting(shape), np.diag([-1.0, 1, 1, 1])))
    assert array.ndim == 3
    write_mask_like(tmp_path / "m.nii", (array % 3 == 0).astype(np.uint8), original)
    np.testing.assert_array_equal(np.asarray(nibabel.load(tmp_path / "m.nii").dataobj), counting(shape) % 3 == 0)


@pytest.mark.parametrize("kind", [nibabel.Nifti1Image, nibabel.Nifti2Image])
@pytest.mark.parametrize("endianness", ["<", ">"])
def test_scaled_voxels_are_what_nibabel_reads(tmp_path: Path, kind: type, endianness: str) -> None:
    header = kind.header_class(endianness=endianness)  # type: ignore[attr-defined]
    header.set_data_dtype(np.dtype(np.int16).newbyteorder(endianness))
    image = kind(counting(), np.diag([-1.0, -1, 1, 1]), header)
    image.header.set_slope_inter(0.25, -3.0)
    nibabel.save(image, tmp_path / "v.nii")
    volume = read_image(tmp_path / "v.nii")
    assert volume.array.dtype == np.float32
    expected = nibabel.load(tmp_path / "v.nii").get_fdata().transpose(2, 1, 0)
    np.testing.assert_allclose(volume.array, expected, rtol=1e-6)
    write_mask_like(tmp_path / "m.nii", (volume.array > 0).astype(np.uint8), volume.original)
    np.testing.assert_array_equal(nibabel.load(tmp_path / "m.nii").get_fdata().transpose(2, 1, 0), expected > 0)


def test_integers_keep_their_dtype_in_native_order(tmp_path: Path) -> None:
    header = nibabel.Nifti1Header(endianness=">")
    header.set_data_dtype(">i2")
    nibabel.save(nibabel.Nifti1Image(counting(), np.eye(4), header), tmp_path / "v.nii")
    assert read_image(tmp_path / "v.nii").array.dtype == np.dtype("=i2")


def break_dimensions(path: Path, extent: int) -> None:
    content = bytearray(path.read_bytes())
    content[42:48] = np.array([extent] * 3, "<i2").tobytes()
    path.write_bytes(bytes(content))


def broken(case: str, path: Path) -> None:
    whole = save(path.with_name("whole.nii"), counting((20, 20, 20)), np.eye(4)).read_bytes()
    made = {
        "empty": b"",
        "garbage": b"this is not an image at all" * 40,
        "header cut": whole[:200],
        "voxels cut": whole[:-1],
        "two volumes": None,
        "singular affine": whole[:280] + bytes(48) + whole[328:],
        "bad dtype": whole[:70] + b"\xff\x7f" + whole[72:],
        "complex": whole[:70] + b"\x20\x00" + whole[72:],
        "RGB": whole[:70] + b"\x80\x00" + whole[72:],
        "unknown unit": whole[:123] + b"\x80" + whole[124:],
        "header of a pair": whole[:344] + b"ni1\0" + whole[348:],
        "scale of no number": whole[:112] + np.array([2, np.nan], "<f4").tobytes() + whole[120:],
        "more than announced": whole + bytes(5000),
        "bad offset": whole[:108] + np.float32("nan").tobytes() + whole[112:],
    }
    if case == "two volumes":
        save(path, counting((2, 3, 4, 2)), np.eye(4))
    elif case in ("huge", "huge gz"):
        path.write_bytes(whole)
        break_dimensions(path, 32767)
        if case == "huge gz":
            path.write_bytes(gzip.compress(path.read_bytes()))
    elif case == "large gz":
        path.write_bytes(whole)
        break_dimensions(path, 1200)
        path.write_bytes(gzip.compress(path.read_bytes()))
    elif case == "gz cut":
        path.write_bytes(gzip.compress(whole)[:-100])
    elif case == "gz flipped":
        packed = bytearray(gzip.compress(whole))
        packed[-8] ^= 255  # the checksum
        path.write_bytes(bytes(packed))
    elif case == "gz bomb":
        path.write_bytes(gzip.compress(whole + bytes(1 << 28), 1))
    elif case == "gz of nothing":
        path.write_bytes(b"plain text")
    else:
        path.write_bytes(made[case] or b"")


@pytest.mark.parametrize(
    "case, said",
    [
        ("empty", "empty"),
        ("garbage", "no NIfTI"),
        ("header cut", "no NIfTI"),
        ("voxels cut", "truncated"),
        ("two volumes", "more than one volume"),
        ("singular affine", "does not span space"),
        ("bad dtype", "header is broken"),
        ("complex", "real numbers"),
        ("RGB", "real numbers"),
        ("unknown unit", "header is broken"),
        ("header of a pair", "no NIfTI file in one piece"),
        ("scale of no number", "scaling is broken"),
        ("more than announced", "holds more than"),
        ("gz bomb", "holds more than"),
        ("bad offset", "byte nan"),
        ("huge", "GiB"),
        ("huge gz", "GiB"),
        ("large gz", "truncated"),
        ("gz cut", "gzip stream is broken"),
        ("gz flipped", "gzip stream is broken"),
        ("gz of nothing", "gzip stream is broken"),
    ],
)
def test_broken_volumes_are_named_and_explained(tmp_path: Path, case: str, said: str) -> None:
    path = tmp_path / ("v.nii.gz" if "gz" in case else "v.nii")
    broken(case, path)
    with pytest.raises(DataError, match=said) as caught:
        read_image(path)
    assert str(path) in str(caught.value)


def test_values_that_are_no_numbers_are_counted_and_placed(tmp_path: Path) -> None:
    data = np.ones(SHAPE, np.float32)
    data[1, 2, 3], data[0, 0, 5] = np.nan, np.inf
    path = save(tmp_path / "v.nii", data, np.diag([-1.0, -1, 1, 1]))
    with pytest.raises(DataError, match=r"v\.nii: 2 of 120 values .* first at \(3, 2, 1\)"):
        read_image(path)
    assert np.isnan(read_image(path, finite=False).array).sum() == 1


def test_mask_of_another_size_is_refused(tmp_path: Path) -> None:
    _, _, original = read_image(save(tmp_path / "v.nii", counting(), np.eye(4)))
    with pytest.raises(DataError, match="both must agree"):
        write_mask_like(tmp_path / "m.nii", np.zeros((6, 5, 5), np.uint8), original)
    with pytest.raises(DataError, match=r"written as \.nii"):
        write_mask_like(tmp_path / "m.png", np.zeros((6, 5, 4), np.uint8), original)


GREY = np.arange(35, dtype=np.uint8).reshape(5, 7)
COLOUR = np.stack([GREY, GREY + 1, GREY + 2], axis=-1)


@pytest.mark.parametrize(
    "name, image, expected",
    [
        ("x.png", Image.fromarray(GREY), GREY),
        ("x.tif", Image.fromarray(GREY), GREY),
        ("x.png", Image.fromarray(GREY.astype(np.uint16) * 300), GREY.astype(np.uint16) * 300),
        ("x.tif", Image.fromarray(GREY.astype(np.float32) / 4), GREY.astype(np.float32) / 4),
        ("x.png", Image.fromarray(COLOUR), COLOUR),
        ("x.png", Image.fromarray(COLOUR).convert("RGBA"), COLOUR),
        ("x.png", Image.fromarray(GREY).convert("LA"), GREY),
        ("x.png", Image.fromarray(GREY > 9), (GREY > 9) * np.uint8(255)),
        ("x.png", Image.fromarray(GREY).convert("P"), np.stack([GREY] * 3, axis=-1)),
    ],
)
def test_pictures_keep_their_values(
    tmp_path: Path, name: str, image: Image.Image, expected: NDArray[np.generic]
) -> None:
    image.save(tmp_path / name)
    array = read_picture(tmp_path / name)
    assert array.dtype == expected.dtype
    np.testing.assert_array_equal(array, expected)


def test_mask_of_a_picture_is_a_png_of_its_size(tmp_path: Path) -> None:
    Image.fromarray(GREY).save(tmp_path / "x.jpg")
    array, geometry, original = read_image(tmp_path / "x.jpg")
    assert array.shape == (1, 5, 7)
    assert not geometry.spacing_known
    assert mask_suffix(original) == ".png"
    write_mask_like(tmp_path / "m.png", (GREY > 9).astype(np.uint8)[None], original)
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "m.png")), np.where(GREY > 9, 255, 0))
    with pytest.raises(DataError, match="both must agree"):
        write_mask_like(tmp_path / "m.png", np.zeros((7, 5), np.uint8), original)
    with pytest.raises(DataError, match=r"written as \.png"):
        write_mask_like(tmp_path / "m.jpg", (GREY > 9).astype(np.uint8), original)


@pytest.mark.parametrize("dtype", ["u1", "i1", "u2", "i2", "u4", "i4", "f4"])
def test_tiff_keeps_values_of_every_type(tmp_path: Path, dtype: str) -> None:
    kind = np.dtype(dtype)
    extremes = [0, 1, 1.5, -2.5e30] if kind.kind == "f" else [np.iinfo(kind).min, 0, 1, np.iinfo(kind).max]
    plane = np.array([extremes, extremes[::-1]], kind)
    cv2.imwrite(str(tmp_path / "x.tif"), plane)
    np.testing.assert_array_equal(read_picture(tmp_path / "x.tif"), plane)


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_colours_of_sixteen_bits_are_refused_rather_than_cut(tmp_path: Path, suffix: str) -> None:
    cv2.imwrite(str(tmp_path / f"x{suffix}"), COLOUR.astype(np.uint16) * 300)
    with pytest.raises(DataError, match=rf"x\{suffix}: colours of 16 bits"):
        read_picture(tmp_path / f"x{suffix}")


@pytest.mark.parametrize("colours", [(), (3,)])
def test_pages_of_a_tiff_are_slices_and_come_back_as_pages(tmp_path: Path, colours: tuple[int, ...]) -> None:
    stack = np.arange(4 * 5 * 7 * max(colours, default=1), dtype=np.uint8).reshape(4, 5, 7, *colours)
    first, *rest = map(Image.fromarray, stack)
    first.save(tmp_path / "x.tif", save_all=True, append_images=rest)
    array, _, original = read_image(tmp_path / "x.tif")
    np.testing.assert_array_equal(array, stack)
    assert mask_suffix(original) == ".tif"
    marked = (np.arange(140).reshape(4, 5, 7) % 3 == 0).astype(np.uint8)
    write_mask_like(tmp_path / "m.tif", marked, original)
    _, pages = cv2.imreadmulti(str(tmp_path / "m.tif"), flags=cv2.IMREAD_UNCHANGED)
    np.testing.assert_array_equal(np.stack(pages), marked * 255)
    with pytest.raises(DataError, match="both must agree"):
        write_mask_like(tmp_path / "m.tif", marked[:3], original)


@pytest.mark.parametrize(
    "second, said",
    [
        (Image.fromarray(GREY[:4]), "pages differ in size"),
        (Image.fromarray(GREY.astype(np.float32)), "pages differ in"),
    ],
)
def test_pages_that_differ_are_refused(tmp_path: Path, second: Image.Image, said: str) -> None:
    Image.fromarray(GREY).save(tmp_path / "x.tif", save_all=True, append_images=[second])
    with pytest.raises(DataError, match=rf"x\.tif: the {said}"):
        read_image(tmp_path / "x.tif")


def bomb() -> bytes:
    """A PNG whose header claims 60000 × 60000 pixels."""
    import struct
    import zlib

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 60000, 60000, 8, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


@pytest.mark.parametrize("case", ["empty", "text", "cut", "bomb", "pages", "absent", "transparent"])
def test_broken_pictures_are_named(tmp_path: Path, case: str) -> None:
    path = tmp_path / ("x.tif" if case == "pages" else "x.png")
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64), dtype=np.uint8)).save(tmp_path / "whole.png")
    if case == "pages":
        Image.fromarray(GREY).save(path, save_all=True, append_images=[Image.fromarray(GREY)])
    elif case == "transparent":
        Image.fromarray(np.dstack([COLOUR, GREY])).save(path)
    elif case != "absent":
        whole = (tmp_path / "whole.png").read_bytes()
        path.write_bytes({"empty": b"", "text": b"hello", "cut": whole[:1000], "bomb": bomb()}[case])
    with pytest.raises(DataError, match=path.name):
        read_picture(path)


def test_other_formats_are_refused_with_those_that_are_read(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"\.nii, \.nii\.gz, \.nrrd, \.nhdr, \.png"):
        read_image(tmp_path / "x.mha")
