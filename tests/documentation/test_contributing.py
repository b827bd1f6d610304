"""The worked examples of CONTRIBUTING.md, followed step by step in a copy of the packages."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.documentation.pages import tokens

PACKAGES = ("metseg", "models", "components", "pipelines", "tests")
EXAMPLES = ("Add a network", "Add a layout", "Add an expectation", "Add a loss")
PAGE = ROOT / "CONTRIBUTING.md"


def blocks(title: str) -> list[tuple[str, str]]:
    """Return the language and text of the code blocks below a heading."""
    found: list[tuple[str, str]] = []
    inside = False
    stream = tokens(PAGE)
    for number, token in enumerate(stream):
        if token.type == "heading_open":
            inside = stream[number + 1].content == title
        if inside and token.type == "fence":
            found.append((token.info, token.content))
    return found


def apply(root: Path, text: str) -> None:
    """Apply a diff: its first line names the file, and its context has to occur there once."""
    head, *lines = text.splitlines()
    path = root / head.removeprefix("# ")
    old = "\n".join(line[1:] for line in lines if line[0] in " -") + "\n"
    new = "\n".join(line[1:] for line in lines if line[0] in " +") + "\n"
    source = path.read_text(encoding="utf-8")
    assert source.count(old) == 1, f"{path}: {old}"
    path.write_text(source.replace(old, new), encoding="utf-8")


@pytest.fixture(scope="module")
def copy(tmp_path_factory) -> Path:
    """A copy of the packages to which all examples are added."""
    root = tmp_path_factory.mktemp("contributing")
    for package in PACKAGES:
        shutil.copytree(ROOT / package, root / package, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("setup.py", "README.md", "pyproject.toml"):
        shutil.copy(ROOT / name, root / name)
    for title in EXAMPLES:
        for language, text in blocks(title):
            if language == "diff":
                apply(root, text)
            elif text.startswith("# "):
                head, _, source = text.partition("\n")
                assert not (root / head.removeprefix("# ")).exists(), head
                (root / head.removeprefix("# ")).write_text(source, encoding="utf-8")
    return root


def python(root: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run Python on the copy alone."""
    environment = {**os.environ, "PYTHONPATH": str(root), "CUDA_VISIBLE_DEVICES": "-1"}
    return subprocess.run(
        [sys.executable, *arguments], cwd=root, env=environment, capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize("title", EXAMPLES)
def test_examples_work(copy, title):
    (check,) = [text for language, text in blocks(title) if language == "python" and not text.startswith("# ")]
    assert "assert " in check
    script = copy / "check.py"
    script.write_text(f"import metseg\nassert metseg.__file__.startswith({str(copy)!r})\n{check}", encoding="utf-8")
    done = python(copy, str(script))
    assert done.returncode == 0, done.stderr[-3000:]


def test_examples_keep_the_rules_of_the_house(copy):
    written = [
        text.partition("\n")[0].removeprefix("# ")
        for title in EXAMPLES
        for language, text in blocks(title)
        if language in ("python", "diff") and text.startswith("# ")
    ]
    files = sorted(set(written))
    assert len(files) >= 7
    for command in (["ruff", "check"], ["ruff", "format", "--check"]):
        done = python(copy, "-m", *command, *files)
        assert done.returncode == 0, done.stdout + done.stderr
    language = python(copy, "-m", "tests.documentation.plain_english", *(name for name in files if name in new_files()))
    assert language.returncode == 0, language.stdout


def new_files() -> list[str]:
    """Return the files that the examples write."""
    return [
        text.partition("\n")[0].removeprefix("# ")
        for title in EXAMPLES
        for language, text in blocks(title)
        if language == "python" and text.startswith("# ")
    ]
