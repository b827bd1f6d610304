"""What all tests share: quiet, deterministic processes and where real images lie."""

from __future__ import annotations

import gc
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

from metseg.phantom import generate_cohort
from metseg.process_environment import apply_defaults

apply_defaults()
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
ROOT = Path(__file__).resolve().parents[1]

LONGEST = (
    "test_end_to_end.py",
    "test_replicas.py",
    "training/test_train_step.py",
    "test_architectures.py",
    "test_resuming.py",
    "test_privacy.py",
    "test_tuning.py",
)
"""Files that take a minute and more: begun first, else one process works on them when the other has nothing left."""


gc.disable()  # while tests are collected: a quarter of that time would go into looking for garbage


def pytest_collection_finish() -> None:
    """Collect garbage again; what was imported is left out of it."""
    gc.freeze()
    gc.enable()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the longest files; all else stays in order."""

    def place(item: pytest.Item) -> int:
        longest = (number for number, name in enumerate(LONGEST) if item.path.as_posix().endswith(f"/{name}"))
        return next(longest, len(LONGEST))

    items.sort(key=place)


@pytest.fixture(scope="module", autouse=True)
def nothing_to_go_through() -> None:
    """What was made so far is left out of garbage collection from now on.

    A model server collects when it drops a version, and would go through all that thousands of tests hold each time.
    """
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="module", autouse=True)
def environment_left_as_found() -> Iterator[None]:
    """What a file, or MLflow for it, puts into the environment does not reach the next file."""
    before = dict(os.environ)
    yield
    os.environ.clear()
    os.environ.update(before)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of real images, which is not part of the repository."""
    folder = Path(os.environ.get("METSEG_SHARED_DATA", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no real images: {folder} does not exist (set METSEG_SHARED_DATA)")
    return folder


@pytest.fixture(scope="session")
def phantom_cohort(tmp_path_factory) -> Callable[[Path, int], None]:
    """Write the phantom cohort of so many patients to a folder; it is made once for all processes of the tests."""
    shared = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        shared = shared.parent

    def write(folder: Path, patients: int) -> None:
        made = shared / f"phantom-{patients}"
        with FileLock(shared / f"phantom-{patients}.lock"):
            if not made.exists():
                generate_cohort(made, patients=patients)
        shutil.copytree(made, folder)

    return write


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 256 KiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(folder)], capture_output=True)
    if made.returncode:
        pytest.skip("only root can make a small file system; test_failures.py limits the size of files instead")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Chromium or Chrome, started once a module; skips without one."""
    program = next(filter(None, map(shutil.which, BROWSERS)), None)
    if program is None:
        pytest.skip(f"no browser: none of {', '.join(BROWSERS)} is installed (apt-get install chromium)")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=program)
        yield started
        started.close()
