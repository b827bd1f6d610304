"""A workspace of 92ef0e7, or of today, that was copied or moved is refused until it is relocated; then it is whole."""

from __future__ import annotations

import hashlib
import json
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from metseg.errors import UsageError
from metseg.settings import Settings
from metseg.tracking import mlflow_runs
from metseg.workspace import PLACE, require_place_of
from tests.compatibility.conftest import Call, in_workspace, unpack

MODEL_OPTION = ("--model-name", "brain-mets-segmentation-heads")
OLD, TODAY = "as 92ef0e7 left it", "used since"
WAYS = [(state, way) for state in (OLD, TODAY) for way in ("copied", "moved")]


def tree(folder: Path) -> dict[str, str]:
    """Digest of every file, but of those that SQLite and the locks make for a reader."""
    passing = ("-wal", "-shm", ".lock")
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not path.name.endswith(passing)
    }


@pytest.fixture(params=WAYS, ids=lambda way: " ".join(way))
def brought(request, tmp_path: Path, metseg: Call, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path, str]:
    """A workspace in another place than where it was made, that place, and how it was brought."""
    state, way = request.param
    origin = unpack(tmp_path / "made here")
    if state == TODAY:
        in_workspace(monkeypatch, origin)
        assert metseg("models", MODEL_OPTION[1])[0] == 0
        assert json.loads((origin / "var" / PLACE).read_text()) == {"path": str(origin)}
    target = tmp_path / "brought there"
    if way == "copied":
        shutil.copytree(origin, target, symlinks=True)
    else:
        origin.rename(target)
    in_workspace(monkeypatch, target)
    return target, origin, way


def test_it_is_refused_then_relocated_and_stands_for_itself(brought, metseg: Call) -> None:
    target, origin, way = brought
    before = tree(origin)
    for command in (("models",), ("lineage", "2"), ("promote", "1"), ("reconcile", "--once"), ("run",), ("tune",)):
        code, said = metseg(*command)
        assert code == 2 and f"was {way} from {origin}" in said and "`metseg workspace --relocate`" in said, said
    code, said = metseg("workspace")
    assert code == 0 and "--relocate" in said

    code, said = metseg("workspace", "--relocate")
    assert code == 0 and f"{target} stands for itself" in said
    assert tree(origin) == before
    assert metseg("workspace", "--relocate") == (0, f"{target}: nothing to relocate\n")
    shutil.rmtree(origin, ignore_errors=True)
    assert f'base_path: "{target}/var/serving/' in (target / "var/serving/models.config").read_text()
    _, said = metseg("lineage", "stable", *MODEL_OPTION, "--json")
    states = {link["name"]: link["state"] for link in json.loads(said[: said.rindex("]") + 1])}
    del states["git commit"]  # a shallow clone does not hold it
    assert set(states.values()) == {"there"}, said
    with closing(sqlite3.connect(target / "var/mlflow.db")) as database:
        assert [line for line in database.iterdump() if str(origin) in line or origin.as_uri() in line] == []


def test_a_run_in_a_relocated_copy_writes_into_the_copy(brought, metseg: Call, tmp_path: Path) -> None:
    target, origin, _ = brought
    before = tree(origin)
    assert metseg("workspace", "--relocate")[0] == 0
    settings = Settings.from_environment()
    tracking = mlflow_runs.client(settings)
    run = mlflow_runs.start_run(tracking, settings, "r", {}, {})
    (tmp_path / "note").write_text("x")
    tracking.log_artifact(run, str(tmp_path / "note"))
    assert [path.relative_to(target / "var/mlartifacts").parts[0] for path in target.rglob("note")] == [run]
    assert tree(origin) == before


def test_the_server_does_not_serve_the_originals_files(brought) -> None:
    target, _, _ = brought
    if (target / "var" / PLACE).exists():
        with pytest.raises(UsageError, match="relocate"):
            require_place_of(target / "var/serving/models.config")


def test_a_workspace_that_is_where_it_was_made_is_taken_as_it_is(tmp_path: Path, metseg: Call, monkeypatch) -> None:
    workspace = unpack(tmp_path / "here")
    (tmp_path / "link").symlink_to(workspace)
    in_workspace(monkeypatch, tmp_path / "link")
    assert metseg("models", MODEL_OPTION[1])[0] == 0
    assert metseg("workspace") == (0, f"{workspace}: made at {workspace}\n")
