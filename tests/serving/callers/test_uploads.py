"""Uploaded archives: what is refused, and with which reason."""

from __future__ import annotations

import re
import zipfile
from pathlib import Path

import pytest

from metseg.serving.gateway.problem_details import Problem
from metseg.serving.gateway.settings import GatewaySettings
from metseg.serving.gateway.upload_validation import build_case
from metseg.serving.gateway.uploads import Upload
from tests.serving.callers.models import CHANNELS


def entry(name: str, mode: int = 0) -> zipfile.ZipInfo:
    made = zipfile.ZipInfo(name)
    made.external_attr = mode << 16
    return made


ZIPS: dict[str, tuple[int, str, list[tuple[zipfile.ZipInfo, bytes]]]] = {
    "out of the folder": (422, "leads out", [(entry("../Zwingelstein.dcm"), b"x")]),
    "link": (422, "an entry is a link", [(entry("Zwingelstein.dcm", 0o120777), b"/etc/passwd")]),
    "twice": (422, "twice", [(entry("Zwingelstein.dcm"), b"x")] * 2),
    "takes a place": (422, "takes its place", [(entry("Zwingelstein"), b"x"), (entry("Zwingelstein/a"), b"x")]),
    "bomb": (413, "times its size", [(entry("Zwingelstein.dcm"), bytes(70 << 20))]),
    "large entry": (413, "an entry has", [(entry("Zwingelstein.dcm"), bytes(5 << 20))]),
}


@pytest.mark.parametrize("status, reason, entries", ZIPS.values(), ids=ZIPS)
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_refused_zip_gives_the_reason_without_a_name(
    tmp_path: Path, status: int, reason: str, entries: list[tuple[zipfile.ZipInfo, bytes]]
) -> None:
    upload_bytes = 1 << 20 if reason == "an entry has" else 1 << 30
    with zipfile.ZipFile(tmp_path / "0", "w", zipfile.ZIP_DEFLATED) as archive:
        for information, content in entries:
            archive.writestr(information, content, zipfile.ZIP_DEFLATED)
    with pytest.raises(Problem) as raised:
        build_case(
            Upload([tmp_path / "0"]), tmp_path, CHANNELS, GatewaySettings(folder=tmp_path, upload_bytes=upload_bytes)
        )
    assert raised.value.status_code == status and reason in raised.value.detail
    assert not re.search(r"Zwingelstein|METSEG_|upload\.zip", raised.value.detail)
    assert list(tmp_path.iterdir()) in ([], [tmp_path / "dicom"])


def test_a_damaged_zip_gives_the_reason_without_a_name(tmp_path: Path) -> None:
    """zipfile's own message quotes the entry whose checksum is wrong."""
    with zipfile.ZipFile(tmp_path / "0", "w") as archive:
        archive.writestr("Zwingelstein.dcm", b"abcdef")
    content = (tmp_path / "0").read_bytes()
    (tmp_path / "0").write_bytes(content.replace(b"abcdef", b"abcdeg"))
    with pytest.raises(Problem) as raised:
        build_case(Upload([tmp_path / "0"]), tmp_path, CHANNELS, GatewaySettings(folder=tmp_path))
    assert raised.value.detail == "the zip: the archive cannot be unpacked"
