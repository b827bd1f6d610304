"""Unpacks what was made at 92ef0e7, and calls today's command line on it in this process."""

from __future__ import annotations

import sqlite3
import sys
import tarfile
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from metseg import cli

ARCHIVE = Path(__file__).parent / "made-at-92ef0e7.tar.xz"
PLACEHOLDER = b"@WORKSPACE@"
Call = Callable[..., tuple[int, str]]
"""Exit code of `metseg` with these arguments, and what it printed."""


def unpack(folder: Path) -> Path:
    """Unpack the workspace of 92ef0e7, and put its folder where the placeholder for it stands; gives the folder."""
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(folder, filter="data")
    for path in folder.rglob("*"):
        if path.is_file() and PLACEHOLDER in (content := path.read_bytes()):
            content = content.replace(b"file://" + PLACEHOLDER, folder.as_uri().encode())
            path.write_bytes(content.replace(PLACEHOLDER, str(folder).encode()))
    text = folder / "var/mlflow.sql"
    with closing(sqlite3.connect(folder / "var/mlflow.db")) as database:
        database.executescript(text.read_text(encoding="utf-8"))
    text.unlink()
    return folder


def in_workspace(patch: pytest.MonkeyPatch, workspace: Path) -> None:
    """Point metseg at a workspace, and at nothing that the environment names."""
    for name in ("MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI", "METSEG_ARTIFACT_ROOT", "METSEG_MODEL_SERVER"):
        patch.delenv(name, raising=False)
    patch.setenv("METSEG_WORKSPACE", str(workspace))


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace of 92ef0e7, shared by the tests of a file: each leaves it as it found it."""
    return unpack(tmp_path_factory.mktemp("made") / "at-92ef0e7")


@pytest.fixture
def metseg(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], workspace: Path) -> Call:
    """Today's command line on the shared workspace."""
    in_workspace(monkeypatch, workspace)

    def call(*arguments: str) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["metseg", *arguments])
        code = 0
        try:
            cli.main()
        except SystemExit as ended:
            code = int(ended.code or 0)
        shown = capsys.readouterr()
        return code, shown.out + shown.err

    return call
