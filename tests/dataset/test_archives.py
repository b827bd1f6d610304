"""Archives unpack to what was packed, or not at all."""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from metseg.dataset.archives import ArchiveLimits, inside, is_archive, top_folder, unpack
from metseg.dataset.data_version import data_version
from metseg.errors import DataError, UsageError
from tests.dataset.cohorts import brats_cohort

ROOT = Path(__file__).resolve().parents[2]
FORMATS = {".zip": "zip", ".tar": "tar", ".tar.gz": "gztar", ".tgz": "gztar"}


def packed(folder: Path, base: Path, suffix: str) -> Path:
    """Pack the folder with its own name on top, as a person would, by the standard library's own packer."""
    made = Path(shutil.make_archive(str(base), FORMATS[suffix], folder.parent, folder.name))
    return made.rename(base.with_name(base.name + suffix)) if not made.name.endswith(suffix) else made


def zipped(path: Path, entries: list[tuple[str | zipfile.ZipInfo, bytes]]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in entries:
            archive.writestr(name, content)
    return path


def tarred(path: Path, entries: list[tuple[tarfile.TarInfo, bytes]]) -> Path:
    with tarfile.open(path, "w:gz" if path.name.endswith("gz") else "w") as archive:
        for entry, content in entries:
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return path


def left(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("suffix", FORMATS)
def test_the_version_of_an_archive_is_that_of_the_folder_packed(tmp_path: Path, suffix: str) -> None:
    data = brats_cohort(tmp_path / "scans")
    archive = packed(data, tmp_path / "packed", suffix)
    assert is_archive(archive.name)
    unpack(archive, tmp_path / "out")
    assert top_folder(tmp_path / "out") == tmp_path / "out" / "scans"
    assert data_version(top_folder(tmp_path / "out")) == data_version(data)


def test_names_that_differ_in_case_alone_are_two_files(tmp_path: Path) -> None:
    unpack(zipped(tmp_path / "a.zip", [("x/A.png", b"1"), ("x/a.png", b"2")]), tmp_path / "out")
    assert (tmp_path / "out/x/A.png").read_bytes() + (tmp_path / "out/x/a.png").read_bytes() == b"12"


def test_folders_that_describe_a_mac_are_left_out(tmp_path: Path) -> None:
    unpack(zipped(tmp_path / "a.zip", [("x/a", b"1"), ("__MACOSX/x/._a", b"2")]), tmp_path / "out")
    assert left(tmp_path / "out") == ["x"]


OUTSIDE = ["../evil", "a/../../evil", "/evil", "C:/evil", "c:evil", "..\\evil", "a\\..\\..\\evil", "..", "a/\x00b", ""]


@pytest.mark.parametrize("name", OUTSIDE)
def test_names_that_lead_out_are_refused(tmp_path: Path, name: str) -> None:
    if name:
        for archive in (
            zipped(tmp_path / "a.zip", [("ok", b"1"), (name.replace("\x00", "\x01"), b"x")]),
            tarred(
                tmp_path / "a.tar",
                [(tarfile.TarInfo("ok"), b"1"), (tarfile.TarInfo(name.replace("\x00", "\x01")), b"x")],
            ),
        ):
            with pytest.raises(DataError, match="leads out"):
                unpack(archive, tmp_path / "in" / "out")
        assert left(tmp_path / "in") == [] and not (tmp_path / "evil").exists()
    assert inside(name) is None


@given(st.text(alphabet=st.sampled_from("ab./\\C:\x00 "), max_size=12))
def test_an_accepted_name_stays_inside(name: str) -> None:
    path = inside(name)
    if path is not None:
        joined = os.path.normpath(f"/root/folder/{path}")
        assert joined.startswith("/root/folder/")


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE])
def test_links_and_devices_are_refused(tmp_path: Path, kind: bytes) -> None:
    entry = tarfile.TarInfo("x")
    entry.type, entry.linkname = kind, "../../secret"
    with pytest.raises(DataError, match=r"link|device"):
        unpack(tarred(tmp_path / "a.tgz", [(entry, b"")]), tmp_path / "out")
    assert left(tmp_path) == ["a.tgz"]


def test_a_symbolic_link_in_a_zip_is_refused(tmp_path: Path) -> None:
    entry = zipfile.ZipInfo("x")
    entry.external_attr = 0o120777 << 16
    archive = zipped(tmp_path / "a.zip", [(entry, b"/etc/passwd"), ("x/y", b"through the link")])
    with pytest.raises(DataError, match="link"):
        unpack(archive, tmp_path / "out")


@pytest.mark.parametrize("names", [("x", "x"), ("x", "./x"), ("x", "x/y")])
def test_names_that_are_there_twice_are_refused(tmp_path: Path, names: tuple[str, str]) -> None:
    entries = [(tarfile.TarInfo(name), name.encode()) for name in names]
    with pytest.raises(DataError, match=r"twice|takes its place|cannot be unpacked"):
        unpack(tarred(tmp_path / "a.tar", entries), tmp_path / "out")
    assert left(tmp_path) == ["a.tar"]


def test_a_bomb_is_stopped_by_its_ratio(tmp_path: Path) -> None:
    zeros = bytes(70 << 20)
    for archive in (
        zipped(tmp_path / "a.zip", [("x", zeros)]),
        tarred(tmp_path / "a.tgz", [(tarfile.TarInfo("x"), zeros)]),
    ):
        with pytest.raises(DataError, match="200 times its size"):
            unpack(archive, tmp_path / "in" / "out")
        unpack(archive, tmp_path / "allowed" / archive.name, ArchiveLimits(ratio=2000.0))
    assert left(tmp_path / "in") == []


def test_a_zip_that_claims_less_than_it_gives_is_broken(tmp_path: Path) -> None:
    path = zipped(tmp_path / "a.zip", [("x", b"a" * 5000)])
    claimed = path.read_bytes().replace((5000).to_bytes(4, "little"), (10).to_bytes(4, "little"))
    path.write_bytes(claimed)
    with pytest.raises(DataError, match="cannot be unpacked"):
        unpack(path, tmp_path / "out")


def test_a_tar_header_that_claims_gigabytes_for_a_name_is_refused_in_little_memory(tmp_path: Path) -> None:
    script = f"""
import tarfile, gzip
from benchmarks.data import peak_memory_mb
from pathlib import Path
from metseg.dataset.archives import unpack
from metseg.errors import DataError
header = tarfile.TarInfo("././@LongLink"); header.type = tarfile.GNUTYPE_LONGNAME; header.size = 3 << 30
archive = Path({str(tmp_path)!r}) / "a.tgz"
with gzip.open(archive, "wb", compresslevel=1) as file:
    file.write(header.tobuf(tarfile.GNU_FORMAT))
    for _ in range(64): file.write(bytes(1 << 20))
before = peak_memory_mb()
try: unpack(archive, archive.parent / "out")
except DataError as error: print(round(peak_memory_mb() - before), error)
"""
    answer = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True, timeout=60
    )
    megabytes, _, message = answer.stdout.partition(" ")
    assert int(megabytes) < 32 and "more than any name" in message


@pytest.mark.parametrize(
    "limits, setting",
    [
        (ArchiveLimits(files=2), "METSEG_ARCHIVE_FILES"),
        (ArchiveLimits(file_bytes=99), "METSEG_ARCHIVE_FILE_GB"),
        (ArchiveLimits(total_bytes=250), "METSEG_ARCHIVE_TOTAL_GB"),
    ],
)
@pytest.mark.parametrize("suffix", [".zip", ".tar"])
def test_what_exceeds_a_limit_is_refused_and_names_the_setting(
    tmp_path: Path, limits: ArchiveLimits, setting: str, suffix: str
) -> None:
    contents = [(name, bytes(100)) for name in ("a", "b", "c")]
    path = tmp_path / f"a{suffix}"
    if suffix == ".zip":
        zipped(path, list(contents))
    else:
        tarred(path, [(tarfile.TarInfo(name), content) for name, content in contents])
    unpack(path, tmp_path / "fits", ArchiveLimits(files=3, file_bytes=100, total_bytes=300))
    with pytest.raises(DataError, match=setting):
        unpack(path, tmp_path / "out", limits)
    assert left(tmp_path) == sorted([path.name, "fits"])


def test_an_encrypted_zip_is_named(tmp_path: Path) -> None:
    path = zipped(tmp_path / "a.zip", [("x", b"secret")])
    content = bytearray(path.read_bytes())
    for signature, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        content[content.index(signature) + offset] |= 1
    path.write_bytes(content)
    with pytest.raises(DataError, match="encrypted"):
        unpack(path, tmp_path / "out")


@pytest.mark.parametrize("suffix", FORMATS)
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(share=st.floats(0, 0.999))
def test_a_truncated_archive_leaves_nothing(tmp_path: Path, suffix: str, share: float) -> None:
    whole = tmp_path / f"whole{suffix}"
    if not whole.exists():
        packed(brats_cohort(tmp_path / "data" / suffix / "scans"), tmp_path / "whole", suffix)
    content = whole.read_bytes()
    # tar pads its end with zero blocks, which carry nothing.
    carrying = len(content.rstrip(b"\0")) if suffix == ".tar" else len(content)
    (tmp_path / f"cut{suffix}").write_bytes(content[: int(share * carrying)])
    with pytest.raises(DataError, match=rf"cut\{suffix}"):
        unpack(tmp_path / f"cut{suffix}", tmp_path / "in" / "out")
    assert left(tmp_path / "in") == []


@pytest.mark.parametrize("suffix", FORMATS)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(place=st.floats(0, 0.999), value=st.integers(0, 255))
def test_a_changed_byte_gives_an_error_or_whole_files(tmp_path: Path, suffix: str, place: float, value: int) -> None:
    whole = tmp_path / f"whole{suffix}"
    if not whole.exists():
        packed(brats_cohort(tmp_path / "data" / suffix / "scans", 1), tmp_path / "whole", suffix)
    content = bytearray(whole.read_bytes())
    content[int(place * len(content))] = value
    changed = tmp_path / f"changed{suffix}"
    changed.write_bytes(content)
    shutil.rmtree(tmp_path / "in", ignore_errors=True)
    try:
        unpack(changed, tmp_path / "in" / "out")
    except DataError:
        assert left(tmp_path / "in") == []


@pytest.mark.parametrize("suffix", FORMATS)
def test_a_file_that_is_no_archive_is_named(tmp_path: Path, suffix: str) -> None:
    for content in (b"", b"this is no archive" * 100, bytes(2000)):
        (tmp_path / f"a{suffix}").write_bytes(content)
        with pytest.raises(DataError, match=rf"a\{suffix}"):
            unpack(tmp_path / f"a{suffix}", tmp_path / "out")


def test_limits_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("METSEG_ARCHIVE_FILE_GB", "0.5")
    assert ArchiveLimits.from_environment() == ArchiveLimits(file_bytes=1 << 29)
    monkeypatch.setenv("METSEG_ARCHIVE_RATIO", "-1")
    with pytest.raises(UsageError, match="METSEG_ARCHIVE_RATIO"):
        ArchiveLimits.from_environment()
