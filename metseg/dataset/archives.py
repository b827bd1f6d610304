"""Unpack archives of data safely: no path outside the folder, no more bytes than allowed."""

from __future__ import annotations

import gzip
import lzma
import re
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from metseg.environment_settings import EnvironmentSettings, Gigabytes
from metseg.errors import LimitExceeded, UnusableFile
from metseg.files import folder_written_beside

SUFFIXES = (".zip", ".tar.gz", ".tgz", ".tar")
LEFT_OUT = ("__MACOSX",)
"""Folders of metadata that macOS adds to archives."""

_DRIVE = re.compile(r"[A-Za-z]:")
_BLOCK = 1 << 20
_FREE_BYTES = 64 << 20
_HEADER_BYTES = 4 << 20
_BROKEN = (
    zipfile.BadZipFile,
    tarfile.TarError,
    EOFError,
    OSError,
    ValueError,
    zlib.error,
    lzma.LZMAError,
    NotImplementedError,
)


class ArchiveLimits(EnvironmentSettings):
    """Limits on the content of an archive.

    Attributes:
        files: number of files and folders (`METSEG_ARCHIVE_FILES`, 500 000).
        file_bytes: size of one of them (`METSEG_ARCHIVE_FILE_GB`, 8).
        total_bytes: size of all (`METSEG_ARCHIVE_TOTAL_GB`, 500).
        ratio: unpacked size over the archive's own, once 64 MiB are unpacked (`METSEG_ARCHIVE_RATIO`, 200).
    """

    model_config = SettingsConfigDict(env_prefix="METSEG_ARCHIVE_")

    files: int = Field(default=500_000, gt=0)
    file_bytes: Gigabytes = Field(default=8 << 30, gt=0, validation_alias="METSEG_ARCHIVE_FILE_GB")
    total_bytes: Gigabytes = Field(default=500 << 30, gt=0, validation_alias="METSEG_ARCHIVE_TOTAL_GB")
    ratio: float = Field(default=200.0, gt=0)


def is_archive(name: str) -> bool:
    """Return whether a name has the ending of a supported archive."""
    return name.lower().endswith(SUFFIXES)


def inside(name: str) -> PurePosixPath | None:
    """Return the relative path of an archive's entry; None if it would leave the folder.

    Refused are absolute names, drive letters, `..`, backslashes (a separator elsewhere) and control characters.
    """
    if not name or "\\" in name or _DRIVE.match(name) or any(ord(character) < 32 for character in name):
        return None
    path = PurePosixPath(name)
    return None if path.is_absolute() or ".." in path.parts or not path.parts else path


@dataclass
class _Member:
    """A file or folder of an archive, before it is unpacked."""

    name: str
    kind: str
    size: int
    open: Callable[[], IO[bytes] | None]


class _Allowance:
    """Count an archive's entries and bytes; refuse it beyond its limits."""

    def __init__(self, archive: Path, limits: ArchiveLimits) -> None:
        self.archive = archive
        self._limits = limits
        self._packed = archive.stat().st_size
        self._entries = 0
        self._total = 0
        self._names: set[PurePosixPath] = set()

    def place(self, member: _Member) -> PurePosixPath:
        """Return a member's path relative to the folder; raises `UnusableFile` for a forbidden one."""
        path = inside(member.name)
        if path is None:
            raise self._refused("the name of an entry leads out of the folder", member.name)
        if member.kind not in ("file", "folder"):
            raise self._refused(f"an entry is a {member.kind}; expected files and folders", member.name)
        self._entries += 1
        if self._entries > self._limits.files:
            raise self._exceeded(
                f"it holds {self._entries} files or more", f"{self._limits.files}", "METSEG_ARCHIVE_FILES"
            )
        if member.kind == "file":
            if path in self._names:
                raise self._refused("the name of an entry is there twice", member.name)
            self._names.add(path)
            self._check_file(member.name, member.size)
        return path

    def take(self, name: str, size: int, written: int) -> None:
        """Count `size` more bytes of the file `name`, of which `written` are there with them."""
        self._check_file(name, written)
        self._total += size
        if self._total > self._limits.total_bytes:
            limit = f"{self._limits.total_bytes / 2**30:g} GB"
            raise self._exceeded("it unpacks to more", limit, "METSEG_ARCHIVE_TOTAL_GB")
        if self._total > max(_FREE_BYTES, self._limits.ratio * self._packed):
            limit = f"{self._limits.ratio:g} times its size"
            raise self._exceeded("it unpacks to more, as decompression bombs do", limit, "METSEG_ARCHIVE_RATIO")

    def _check_file(self, name: str, size: int) -> None:
        if size > self._limits.file_bytes:
            limit = f"{self._limits.file_bytes / 2**30:g} GB"
            raise self._exceeded(f"an entry has {size / 2**30:.3g} GB or more", limit, "METSEG_ARCHIVE_FILE_GB", name)

    def _refused(self, reason: str, entry: str) -> UnusableFile:
        remedy = "Pack the data again, or unpack it yourself and name the folder."
        return UnusableFile(self.archive, reason, remedy, repr(entry))

    def _exceeded(self, found: str, limit: str, setting: str, entry: str = "") -> LimitExceeded:
        remedy = f"If it is what you expect, raise {setting}, or unpack it yourself and name the folder."
        return LimitExceeded(self.archive, found, limit, remedy, repr(entry) if entry else "")


def unpack(archive: Path, folder: Path, limits: ArchiveLimits | None = None) -> None:
    """Unpack an archive into `folder`, atomically.

    Args:
        archive: a `.zip`, `.tar`, `.tar.gz` or `.tgz`.
        folder: folder to write, absent or empty.
        limits: those of the environment by default.

    Raises:
        UnusableFile: the archive is broken or encrypted, a name leads out of the folder or is there twice, or it
            holds links or devices.
        LimitExceeded: it holds more than the limits allow.
    """
    allowance = _Allowance(archive, limits or ArchiveLimits.from_environment())
    with folder_written_beside(folder) as beside:
        with _members(archive) as members:
            for member in members:
                _unpack_member(member, allowance, beside)
        if not any(beside.iterdir()):
            raise UnusableFile(archive, "the archive is empty", "Pack the folder with images and masks.")


def unpacked_bytes(archive: Path, limits: ArchiveLimits | None = None) -> int:
    """Return the least number of bytes that an archive unpacks to.

    A claim beyond the limits is ignored, because `unpack` refuses such an archive.

    Args:
        archive: as for `unpack`.
        limits: the same.
    """
    allowed, packed = limits or ArchiveLimits.from_environment(), archive.stat().st_size
    if not archive.name.lower().endswith(".zip"):
        return packed
    try:
        with zipfile.ZipFile(archive) as opened:
            claimed = sum(entry.file_size for entry in opened.infolist())
    except _BROKEN:
        return packed
    return claimed if claimed <= min(allowed.total_bytes, max(_FREE_BYTES, allowed.ratio * packed)) else packed


def top_folder(folder: Path) -> Path:
    """Return `folder`, or the only folder inside it, at any depth."""
    while True:
        entries = [path for path in folder.iterdir() if not path.name.startswith(".")]
        if len(entries) != 1 or not entries[0].is_dir():
            return folder
        folder = entries[0]


def _unpack_member(member: _Member, allowance: _Allowance, folder: Path) -> None:
    path = allowance.place(member)
    if path.parts[0] in LEFT_OUT:
        return
    target = folder / path
    try:
        if member.kind == "folder":
            target.mkdir(parents=True, exist_ok=True)
            return
        target.parent.mkdir(parents=True, exist_ok=True)
        file = target.open("xb")
    except OSError as error:
        raise UnusableFile(
            allowance.archive,
            f"an entry cannot be unpacked, {error.strerror}: another entry takes its place, or its name does not fit "
            "this file system",
            "Pack the data again.",
            repr(member.name),
        ) from error
    source = member.open()
    assert source is not None
    written = 0
    with source, file:
        while block := source.read(_BLOCK):
            written += len(block)
            allowance.take(member.name, len(block), written)
            file.write(block)
    if written != member.size:
        raise EOFError(f"{member.name!r} has {written} of {member.size} bytes")


@contextmanager
def _members(archive: Path) -> Iterator[Iterator[_Member]]:
    """Yield the entries of an archive in order; a broken archive raises `UnusableFile`."""
    try:
        if archive.name.lower().endswith(".zip"):
            with zipfile.ZipFile(archive) as packed:
                yield _zip_members(packed, archive)
        else:
            with archive.open("rb") as file:
                plain = archive.name.lower().endswith(".tar")
                stream = _HeaderGuard(file if plain else gzip.GzipFile(fileobj=file))
                with tarfile.open(fileobj=stream, mode="r|", tarinfo=_Entry) as tar:  # type: ignore[call-overload]
                    yield _tar_members(tar, stream)
    except _BROKEN as error:
        raise UnusableFile(
            archive,
            "the archive cannot be unpacked",
            "Copy it again from its source; a full disk is the other reason.",
            str(error),
        ) from error


def _zip_members(packed: zipfile.ZipFile, archive: Path) -> Iterator[_Member]:
    for entry in packed.infolist():
        if entry.flag_bits & 1:
            remedy = "Unpack it yourself and name the folder."
            raise UnusableFile(archive, "an entry is encrypted", remedy, repr(entry.filename))
        mode = entry.external_attr >> 16
        kind = "folder" if entry.is_dir() else "file"
        if stat.S_IFMT(mode) not in (0, stat.S_IFREG, stat.S_IFDIR):
            kind = "link" if stat.S_ISLNK(mode) else "device"
        # The name as it is written: `filename` ends at the first zero byte.
        yield _Member(entry.orig_filename, kind, entry.file_size, lambda entry=entry: packed.open(entry))  # type: ignore[misc]


def _tar_members(tar: tarfile.TarFile, stream: _HeaderGuard) -> Iterator[_Member]:
    stream.allow(_HEADER_BYTES)
    while (entry := tar.next()) is not None:
        tar.members = []  # type: ignore[attr-defined]
        kind = "file" if entry.isreg() else "folder" if entry.isdir() else "device"
        if entry.issym() or entry.islnk():
            kind = "link"
        stream.allow(entry.size + _HEADER_BYTES)
        yield _Member(entry.name, kind, entry.size, lambda entry=entry: tar.extractfile(entry))  # type: ignore[misc]
        stream.allow(_HEADER_BYTES)
    while stream.read(_BLOCK):  # gzip checks its sum at the end of the stream only
        pass


class _Entry(tarfile.TarInfo):
    """A tar header that raises on broken headers, which tarfile ignores."""

    @classmethod
    def fromtarfile(cls, archive: tarfile.TarFile) -> _Entry:
        """Return the next header of the archive."""
        try:
            return super().fromtarfile(archive)
        except tarfile.EOFHeaderError:  # type: ignore[attr-defined]
            raise
        except tarfile.HeaderError as error:
            raise tarfile.ReadError(f"{error} at byte {archive.offset}") from error  # type: ignore[attr-defined]


class _HeaderGuard:
    """A stream with limited headers, which could claim gigabytes for a name.

    Args:
        source: the unpacked stream.
    """

    def __init__(self, source: IO[bytes] | gzip.GzipFile) -> None:
        self._source = source
        self._left = _HEADER_BYTES

    def allow(self, count: int) -> None:
        """Allow `count` more bytes."""
        self._left = count

    def read(self, count: int) -> bytes:
        """Return the next `count` bytes, fewer at the end."""
        block = self._source.read(count)
        self._left -= len(block)
        if self._left < 0:
            raise tarfile.ReadError("a header claims more than any name or attribute takes")
        return block
