"""Another user in a workspace is told which file belongs to whom, by each command that needs it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.mlflow_store import fresh_store

NOBODY = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups")
pytestmark = pytest.mark.skipif(
    os.getuid() != 0 or not shutil.which("setpriv"), reason="only root can act as another user"
)

ATTEMPTS = {
    "var/mlflow.db": "from metseg.tracking import mlflow_runs; mlflow_runs.client(settings)",
    "var/state/pseudonym.key": "from metseg.pseudonyms import Pseudonyms; Pseudonyms.from_environment(settings)",
    "var/state/hashes.sqlite": (
        "from metseg.dataset.data_version import HashTable\n"
        "with HashTable(settings.state / 'hashes.sqlite') as table: table.learn(settings.workspace / 'scan', 'x')"
    ),
}
"""What opens each file for writing."""


@pytest.fixture
def workspace() -> Iterator[Path]:
    """A workspace of root's that everybody may enter."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        fresh_store(folder / "var")
        (folder / "var/state").mkdir()
        (folder / "scan").write_bytes(b"scan")
        for file in ("pseudonym.key", "hashes.sqlite"):
            (folder / "var/state" / file).touch(0o600)
        (folder / "var/state/hashes.key").touch(0o600)
        (folder / "var/state/hashes.key").write_bytes(bytes(32))
        yield folder


def attempt(workspace: Path, code: str, *user: str) -> str:
    """What `metseg` would print for an error in this code."""
    program = f"""
import sys
from metseg import cli
from metseg.settings import Settings
def work(*_):
    settings = Settings.from_environment()
    exec({code!r}, {{"settings": settings}})
cli.app = work
cli.main()
"""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("MLFLOW_")}
    environment = {**kept, "METSEG_WORKSPACE": str(workspace), "PYTHONPATH": str(ROOT), "HOME": "/tmp",
                   "PYTHONDONTWRITEBYTECODE": "1"}  # fmt: skip
    command = [*user, sys.executable, "-c", program]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode in (0, 1, 2), done.stderr
    return done.stdout + done.stderr


@pytest.mark.parametrize(("file", "code"), ATTEMPTS.items(), ids=ATTEMPTS.keys())
def test_another_users_file_is_named_with_its_owner(workspace: Path, file: str, code: str) -> None:
    said = attempt(workspace, code, *NOBODY)
    assert "Traceback" not in said and "METSEG_WORKSPACE" in said
    named = [workspace / file, *(workspace / file).parents]
    assert any(f"{path} belongs to root, and nobody may not use it" in said for path in named), said


@pytest.mark.parametrize(("file", "code"), ATTEMPTS.items(), ids=ATTEMPTS.keys())
def test_a_file_in_a_folder_that_all_may_write_is_named_itself(workspace: Path, file: str, code: str) -> None:
    for folder in ("var", "var/state"):
        (workspace / folder).chmod(0o777)
    assert f"{workspace / file} belongs to root, and nobody may not use it" in attempt(workspace, code, *NOBODY)


def test_any_file_that_the_system_refuses_is_named_with_its_owner(workspace: Path) -> None:
    said = attempt(workspace, "(settings.workspace / 'var/new').write_text('x')", *NOBODY)
    assert said.startswith("metseg: ") and f"{workspace}/var/new belongs to root" in said


@pytest.mark.parametrize("code", ATTEMPTS.values(), ids=ATTEMPTS.keys())
def test_a_read_only_disk_is_named_as_one(workspace: Path, code: str) -> None:
    mount = f"mount --bind {workspace} {workspace} && mount -o remount,ro,bind {workspace}"
    within = ("unshare", "--mount", "sh", "-c")
    if subprocess.run([*within, mount], capture_output=True, check=False).returncode:
        pytest.skip("this machine allows no mounts of one's own")
    said = attempt(workspace, code, *within, f'{mount} && exec "$@"', "sh")
    assert "Traceback" not in said and "is on a disk that is mounted read-only" in said
