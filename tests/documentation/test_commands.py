"""Commands in the documents: `metseg`, `make` and `python -m` know what is written there."""

from __future__ import annotations

import importlib.util
import re
import shlex
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import typer

from metseg import cli
from tests.conftest import ROOT
from tests.documentation.pages import PAGES, code_spans, name_of, shell_lines


@cache
def commands() -> dict[str, Any]:
    """Return the commands of `metseg` by name."""
    group: Any = typer.main.get_command(cli.app)
    return dict(group.commands)


def options(name: str) -> set[str]:
    """Return the options of a command."""
    return {option for parameter in commands()[name].params for option in parameter.opts} | {"--help"}


@cache
def server_flags() -> set[str]:
    """Return the flags that `metseg serve --help` lists."""
    program = Path(sys.executable).parent / "metseg"
    shown = subprocess.run([program, "serve", "--help"], capture_output=True, text=True, check=True).stdout
    return set(re.findall(r"--[a-z_0-9]+", shown)) | {"--help"}


def metseg_calls(page: Path) -> list[str]:
    """Return the calls of `metseg` in a page's blocks and inline code."""
    lines = [re.sub(r"^(?:\S+=\S+ )*(?:\.venv/bin/)?", "", line) for line in [*shell_lines(page), *code_spans(page)]]
    return [line for line in lines if re.match(r"metseg (?!api/)[a-z-]", line)]


def check_metseg(call: str) -> None:
    """Fail unless the command exists and has the options that a call names."""
    words = call.split(" | ")[0].split()
    if words[1].startswith("-"):
        assert words[1] in ("--help", "--version"), call
        return
    name = words[1]
    assert name in commands(), call
    given = {word.partition("=")[0] for word in words[2:] if word.startswith("--")}
    if name == "serve":
        assert given <= server_flags(), call
        return
    assert given <= options(name), call


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_metseg_knows_every_command_and_option(page):
    for call in metseg_calls(page):
        check_metseg(call)


def test_calls_are_found():
    assert sum(len(metseg_calls(page)) for page in PAGES) >= 100


@pytest.mark.parametrize("call", ["metseg launch", "metseg run --dat ~/scans", "metseg serve --prot=8500"])
def test_a_wrong_call_is_noticed(call):
    with pytest.raises(AssertionError):
        check_metseg(call)


@pytest.mark.parametrize(
    "page", [page for page in PAGES if page.name not in ("kubeflow.md", "cluster.md")], ids=name_of
)
def test_calls_in_blocks_parse(page):
    """As typed, with their values; the pages of the cluster have tests of their own that run them."""
    for line in shell_lines(page):
        line = line.removeprefix(".venv/bin/")
        if line.startswith("metseg ") and not line.startswith("metseg serve"):
            words = shlex.split(line.split(" && ")[0])
            with commands()[words[1]].make_context(words[1], words[2:], resilient_parsing=False):
                pass


def make_calls(page: Path) -> list[str]:
    """Return the calls of `make` in a page's blocks and inline code."""
    return [line for line in [*shell_lines(page), *code_spans(page)] if re.match(r"make [a-z]", line)]


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_make_knows_every_target_and_variable(page):
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z-]+):", makefile, re.MULTILINE))
    for call in make_calls(page):
        target, *assigned = shlex.split(call.replace("…'", "'").replace("[", "").replace("]", ""))[1:]
        assert target in targets, call
        for variable in [word.partition("=")[0] for word in assigned if re.match(r"[A-Z_]+=", word)]:
            assert f"$({variable})" in makefile or f"{variable})," in makefile or f"$(if $({variable}" in makefile, call


def test_calls_of_make_are_found():
    assert sum(len(make_calls(page)) for page in PAGES) >= 30


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_module_that_is_run_exists_and_knows_its_options(page):
    for line in [*shell_lines(page), *code_spans(page)]:
        match = re.match(r"(?:\.venv/bin/)?python -m ([\w.]+)(.*)", line)
        if not match or match[1] == "pytest":
            continue
        spec = importlib.util.find_spec(match[1])
        assert spec and spec.origin, line
        folder = Path(spec.origin)
        sources = folder.parent.glob("*.py") if folder.name == "__init__.py" else [folder]
        text = "\n".join(path.read_text(encoding="utf-8") for path in sources)
        for option in re.findall(r"(?<=\s)--[a-z-]+", match[2]):
            assert re.search(rf"\b{option.removeprefix('--').replace('-', '[-_]')}\b", text) or option == "--help", line


def test_scripts_of_infra_exist():
    for page in PAGES:
        for path in re.findall(r"(?<![\w/])infra/[\w./-]+\.(?:sh|py|yaml|txt)", page.read_text(encoding="utf-8")):
            assert (ROOT / path).exists(), (page.name, path)
