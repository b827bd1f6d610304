"""The examples in docstrings run, and every public function of the packages that others call has one."""

from __future__ import annotations

import ast
import doctest
import importlib

import pytest

from tests.conftest import ROOT

PACKAGES = ("models", "metseg/scoring", "metseg/imaging", "metseg/serving/client")
FILES = sorted(str(path.relative_to(ROOT)) for package in PACKAGES for path in (ROOT / package).rglob("*.py"))


@pytest.mark.parametrize("file", FILES)
def test_examples_run(file):
    module = importlib.import_module(file.removesuffix(".py").replace("/", ".").removesuffix(".__init__"))
    assert doctest.testmod(module, optionflags=doctest.ELLIPSIS).failed == 0


@pytest.mark.parametrize("file", FILES)
def test_public_functions_have_an_example(file):
    functions = [
        node.name
        for node in ast.parse((ROOT / file).read_text(encoding="utf-8")).body
        if isinstance(node, ast.FunctionDef)
        and not node.name.startswith("_")
        and ">>> " not in (ast.get_docstring(node) or "")
    ]
    assert functions == []
