"""Damaged image files made from seeds, and what reading them gives: run as `python -m tests.imaging.damaged FOLDER`.

One process reads them all, so that its peak memory and the time of the slowest file can be measured from outside.
"""

from __future__ import annotations

import gzip
import json
import struct
import sys
import time
import zlib
from collections.abc import Callable
from functools import wraps
from pathlib import Path

import cv2
import nibabel
import numpy as np
import SimpleITK
from numpy.typing import NDArray
from PIL import Image

from metseg.errors import MetsegError
from metseg.imaging.io import is_picture, read_image

FILES = 500
SHAPE = (9, 8, 7)
FORMATS = (".nii", ".nii.gz", ".raw.nrrd", ".gzip.nrrd", ".png", ".jpg", ".tif", ".pages.tif")
HEADER_BYTES = {".nii": 352, ".raw.nrrd": 300, ".gzip.nrrd": 300, ".png": 60, ".jpg": 200, ".tif": 400}
BOMB = 64 << 20
MOST_FLIPS = 3
"""Bits turned in one file: as many values may differ from the undamaged file."""

Read = tuple[NDArray[np.generic], NDArray[np.float64] | None]
Bytes = Callable[[bytes, str, np.random.Generator], bytes]


def whole(path: Path, rng: np.random.Generator) -> None:
    """Write an undamaged file of the format that the name of `path` ends in; volumes are oblique or turned."""
    name = path.name
    if name.endswith((".nii", ".nii.gz", ".nrrd")):
        dtype = rng.choice(["u1", "i2", "f4"])
        data = rng.integers(0, 200, SHAPE).astype(dtype)
        rotation, _ = np.linalg.qr(rng.normal(size=(3, 3)))
        spacing = rng.uniform(0.4, 5, 3)
        if name.endswith(".nrrd"):
            image = SimpleITK.GetImageFromArray(data)
            image.SetSpacing(spacing.tolist())
            image.SetDirection(rotation.ravel().tolist())
            SimpleITK.WriteImage(image, path, useCompression=".gzip." in name)
            return
        affine = np.eye(4)
        affine[:3, :3] = rotation * spacing
        affine[:3, 3] = rng.uniform(-100, 100, 3)
        nibabel.save(nibabel.Nifti1Image(data, affine), path)
        return
    smooth = cv2.GaussianBlur(rng.integers(0, 255, (40, 31), dtype=np.uint8), (5, 5), 0)
    pages = [Image.fromarray(smooth), Image.fromarray(255 - smooth)] if ".pages." in name else [Image.fromarray(smooth)]
    packing = {"compression": str(rng.choice(["tiff_deflate", "raw"]))} if name.endswith(".tif") else {}
    pages[0].save(path, **packing, **({"save_all": True, "append_images": pages[1:]} if len(pages) > 1 else {}))


def truncated(content: bytes, kind: str, rng: np.random.Generator) -> bytes:
    return content[: int(rng.integers(1, len(content)))]


def empty(content: bytes, kind: str, rng: np.random.Generator) -> bytes:
    return b""


def flipped(content: bytes, kind: str, rng: np.random.Generator) -> bytes:
    """One to three bits turned anywhere."""
    changed = bytearray(content)
    for place in rng.integers(0, len(changed), rng.integers(1, MOST_FLIPS + 1)):
        changed[place] ^= 1 << int(rng.integers(8))
    return bytes(changed)


def unpacked(change: Bytes) -> Bytes:
    """The damage done inside the gzip stream, so that its checksum fits."""

    @wraps(change)
    def inside(content: bytes, kind: str, rng: np.random.Generator) -> bytes:
        if kind != ".nii.gz":
            return change(content, kind, rng)
        return gzip.compress(change(gzip.decompress(content), ".nii", rng), 1)

    return inside


@unpacked
def header_flipped(content: bytes, kind: str, rng: np.random.Generator) -> bytes:
    """One bit of the header turned."""
    changed = bytearray(content)
    reach = min(HEADER_BYTES.get(kind, 400), len(changed))
    changed[int(rng.integers(reach))] ^= 1 << int(rng.integers(8))
    return bytes(changed)


@unpacked
def header_overwritten(content: bytes, kind: str, rng: np.random.Generator) -> bytes:
    """Up to eight bytes of the header replaced by noise."""
    reach = min(HEADER_BYTES.get(kind, 400), len(content) - 8)
    place, length = int(rng.integers(reach)), int(rng.integers(1, 9))
    return content[:place] + rng.bytes(length) + content[place + length :]


@unpacked
def huge(content: bytes, kind: str, rng: np.random.Generator) -> bytes:
    """Dimensions that nobody has the memory for, with all else in order."""
    if kind == ".nii":
        return content[:42] + np.array([rng.integers(1200, 32767)] * 3, "<i2").tobytes() + content[48:]
    if kind.endswith(".nrrd"):
        extent = str(rng.integers(2000, 2**40)).encode()
        return content.replace(b"sizes: 7 8 9", b"sizes: " + b" ".join([extent] * 3))
    side = int(rng.integers(20_000, 65_000))
    if kind == ".png":
        chunk = b"IHDR" + struct.pack(">II", side, side) + content[24:29]
        return content[:12] + chunk + struct.pack(">I", zlib.crc32(chunk)) + content[33:]
    if kind == ".jpg":
        frame = content.index(b"\xff\xc0") + 5
        return content[:frame] + struct.pack(">HH", side, side) + content[frame + 4 :]
    changed = bytearray(content)
    for tag in (256, 257):  # width and height of the first page
        place = changed.find(struct.pack("<HH", tag, 4))
        place = place if place >= 0 else changed.index(struct.pack("<HH", tag, 3))
        changed[place : place + 12] = struct.pack("<HHII", tag, 4, 1, side)
    return bytes(changed)


def bomb(content: bytes, kind: str, rng: np.random.Generator) -> bytes:
    """A stream that unpacks to far more than the header announces."""
    if kind == ".nii.gz":
        return gzip.compress(gzip.decompress(content) + bytes(BOMB), 1)
    if kind == ".gzip.nrrd":
        end = content.index(b"\n\n") + 2
        return content[:end] + gzip.compress(gzip.decompress(content[end:]) + bytes(BOMB), 1)
    return content + bytes(1 << 20) if kind in (".nii", ".raw.nrrd") else truncated(content, kind, rng)


def no_numbers(content: bytes, kind: str, rng: np.random.Generator) -> bytes:
    """A volume or picture of floats in which one value is NaN or infinite."""
    value = rng.choice([np.nan, np.inf, -np.inf])
    if kind in (".nii", ".nii.gz"):
        data = np.ones(SHAPE, np.float32)
        data[tuple(rng.integers(0, 7, 3))] = value
        raw = nibabel.Nifti1Image(data, np.eye(4)).to_bytes()
        return gzip.compress(raw) if kind == ".nii.gz" else bytes(raw)
    if kind.endswith(".nrrd"):
        head = b"NRRD0004\ntype: float\ndimension: 3\nsizes: 3 3 3\nendian: little\nencoding: raw\n\n"
        return head + np.full(27, value, "<f4").tobytes()
    if kind == ".tif":
        plane = np.ones((5, 5), np.float32)
        plane[2, 2] = value
        return bytes(cv2.imencode(".tif", plane)[1])
    return empty(content, kind, rng)


def other_type(content: bytes, kind: str, rng: np.random.Generator) -> bytes:
    """Text, an archive, a web page, or noise under the name of an image."""
    return [b"patient;date\n1;2\n" * 50, b"PK\x03\x04" + rng.bytes(600), b"<html></html>" * 40, rng.bytes(900)][
        int(rng.integers(4))
    ]


DAMAGES: tuple[Bytes, ...] = (
    truncated,
    empty,
    flipped,
    flipped,
    header_flipped,
    header_flipped,
    header_overwritten,
    huge,
    bomb,
    no_numbers,
    other_type,
)


def make(folder: Path, seed: int) -> Path:
    """Write the damaged file of one seed."""
    rng = np.random.default_rng(seed)
    kind = FORMATS[seed % len(FORMATS)]
    damage = DAMAGES[seed // len(FORMATS) % len(DAMAGES)]
    path = folder / f"{seed:03d}-{damage.__name__}{kind}"
    before = folder / "whole" / path.name
    before.parent.mkdir(exist_ok=True)
    whole(before, rng)
    path.write_bytes(damage(before.read_bytes(), kind, rng))
    return path


def independent(path: Path) -> Read:
    """Voxels `(slices, height, width)` in LPS and their affine, by nibabel, SimpleITK or OpenCV alone."""
    if is_picture(path):
        _, pages = cv2.imreadmulti(str(path), flags=cv2.IMREAD_UNCHANGED)
        stack = np.stack(pages)
        return (stack[..., ::-1] if stack.ndim == 4 else stack), None
    if path.name.endswith(".nrrd"):
        image = SimpleITK.ReadImage(path)
        if image.GetDimension() == 2:
            image = SimpleITK.JoinSeries(image)
        turned = SimpleITK.DICOMOrient(image, "LPS")
        affine = np.eye(4)
        affine[:3, :3] = np.array(turned.GetDirection()).reshape(3, 3) * turned.GetSpacing()
        affine[:3, 3] = turned.GetOrigin()
        return SimpleITK.GetArrayFromImage(turned), affine
    loaded = nibabel.load(path)
    start = nibabel.io_orientation(loaded.affine)
    lps = loaded.slicer[:, :, :, 0] if loaded.ndim > 3 else loaded
    lps = lps.as_reoriented(nibabel.orientations.ornt_transform(start, nibabel.orientations.axcodes2ornt("LPS")))
    return np.asarray(lps.dataobj).T, np.diag([-1.0, -1, 1, 1]) @ lps.affine


def attempt(path: Path) -> str | Read:
    """What reading the file gives: `refused` by name, what else was raised, or voxels and their affine."""
    try:
        array, geometry, _ = read_image(path)
    except MetsegError as error:
        return "refused" if str(path) in str(error) else f"the file is not named: {error}"
    except Exception as error:
        return f"crashed: {error!r}"
    return array, None if is_picture(path) else np.array(geometry.affine)


def agree(read: Read, other: Read, lossy: bool) -> bool:
    """Whether two readers give the same; decoders of JPEG round differently and differ on a broken stream."""
    (array, affine), (expected, place) = read, other
    if array.shape != expected.shape or (affine is None) != (place is None):
        return False
    if affine is not None and place is not None and not np.allclose(affine, place, rtol=1e-4, atol=1e-3):
        return False
    return lossy or np.allclose(array, expected, rtol=1e-5)


def judge(path: Path, read: Read) -> str:
    """`read`, where the file as it was before, or else another reader of the damaged file, gives the same."""
    lossy = path.name.endswith(".jpg")
    before = independent(path.parent / "whole" / path.name)
    if agree(read, before, lossy):
        return "read"
    if agree(read, before, lossy=True) and np.count_nonzero(read[0] != before[0]) <= MOST_FLIPS:
        return "read"
    try:
        other = independent(path)
    except Exception as error:
        return f"read, but refused by another reader: {str(error)[-200:]}"
    return "read" if agree(read, other, lossy) else f"read {read[0].shape} {read[1]}, by another reader {other[1]}"


def main(folder: Path) -> None:
    """Read all of them, and print verdicts, seconds and peak memory as JSON."""
    SimpleITK.ProcessObject.SetGlobalWarningDisplay(False)
    paths = [make(folder, seed) for seed in range(FILES)]
    found, seconds = {}, {}
    for path in paths:
        start = time.perf_counter()
        found[path] = attempt(path)
        seconds[path.name] = time.perf_counter() - start
    # `ru_maxrss` would count the memory of the process that this one was started by.
    status = Path("/proc/self/status").read_text(encoding="ascii")
    peak = int(status.split("VmHWM:")[1].split()[0]) * 1024
    # The other readers come after the measurement: they take what a damaged header claims.
    verdicts = {path.name: read if isinstance(read, str) else judge(path, read) for path, read in found.items()}
    print(json.dumps({"verdicts": verdicts, "seconds": seconds, "peak": peak}))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
