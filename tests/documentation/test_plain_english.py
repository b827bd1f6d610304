"""The language of documents and code, by the rules of CONTRIBUTING.md; `plain_english.py` has them."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.documentation.pages import PAGES, name_of
from tests.documentation.plain_english import offences

PACKAGES = ("models", "metseg", "components", "pipelines")
KEYS_OF_FILES = {"metseg/doctor/findings.py", "metseg/validation/result.py"}
"""Their field `found` is a key of a file or of a command's JSON."""

MARKDOWN = ".md"
PYTHON = ".py"


def found(folder: Path, text: str, suffix: str = MARKDOWN) -> list[str]:
    """Return the messages about a text."""
    path = folder / f"text{suffix}"
    path.write_text(text, encoding="utf-8")
    return [offence.message for offence in offences(path, sentences=True)]


@pytest.mark.parametrize("page", [*PAGES, *sorted((ROOT / "tests").rglob("README.md"))], ids=name_of)
def test_documents_are_in_plain_english(page):
    assert list(map(str, offences(page))) == []


@pytest.mark.parametrize("package", PACKAGES)
def test_code_is_in_plain_english(package):
    files = sorted((ROOT / package).rglob("*.py"))
    assert files
    assert [
        str(offence)
        for file in files
        for offence in offences(file)
        if not (str(file.relative_to(ROOT)) in KEYS_OF_FILES and "named found" in offence.message)
    ] == []


@pytest.mark.parametrize(
    "text",
    [
        "The server answers the request.",
        "The message says so.",
        "It is told by its name.",
        "The version that reigns is served.",
        "A PEM file of who vouches for the host.",
        "Scores are held against the floors.",
        "The loss became no number.",
        "Values that are no numbers are refused.",
        "The file is written beside and renamed.",
        "A list of how versions fared.",
        "A training took 1.7 GB.",
        "Each training's memory, and no more; a training ends.",
        "Twelve trainings take hours.",
        "Nobody reads it.",
        "The model is called `nested_unet`.",
        "The token is over.",
        "They have met none.",
        "What is not there yet.",
        "The default, where none is given.",
        "It is made anew.",
        "The run goes on.",
        "A folder of one's own.",
    ],
)
def test_phrases_that_are_hard_to_read_are_found(tmp_path, text):
    assert found(tmp_path, text)
    assert found(tmp_path, f'"""Module."""\n\nMESSAGE = "{text}"\n', PYTHON)


@pytest.mark.parametrize(
    "text",
    [
        "The task masks the basket.",
        "A training run takes minutes, and a training step less.",
        "The training split holds the training patients.",
        "Training used at most 1.7 GB.",
        "There is no number of workers to set.",
        "The function is called before threads start.",
        "The log names the folder where it is stored.",
        "Steps run over the network.",
        "Use `answer = ask(question)` as the code has it.",
        "The welfare of callers is besides the point.",
    ],
)
def test_plain_sentences_are_not_reported(tmp_path, text):
    assert found(tmp_path, text) == []
    assert found(tmp_path, f'"""Module."""\n\n# {text}\nMESSAGE = "{text}"\n', PYTHON) == []


def test_long_sentences_are_found(tmp_path):
    words = " ".join(["word"] * 25)
    assert found(tmp_path, f"{words}.") == []
    assert "26 words" in found(tmp_path, f"{words} more.")[0]
    assert found(tmp_path, f"Short (e.g. this) one. {words}. And another.") == []
    assert "2 semicolons" in found(tmp_path, "One; two; three.")[0]
    assert found(tmp_path, f"| a | b |\n|---|---|\n| {words} more | x; y; z |\n") == [], "cells hold lists"
    assert "26 words" in found(tmp_path, f"- {words} more.\n")[0]


def test_code_blocks_count_by_their_comments_alone(tmp_path):
    assert found(tmp_path, "```\nanswer = 1\nmetseg run  # the whole pipeline\n```\n") == []
    assert found(tmp_path, "```\nmetseg run  # what nobody asked for\n```\n")


def test_first_lines_of_docstrings_are_short_and_no_clauses(tmp_path):
    assert found(tmp_path, '"""Whether a head has a skull."""\n', PYTHON)
    assert found(tmp_path, f'"""Return {"the word " * 15}."""\n', PYTHON)
    assert found(tmp_path, '"""Return the mask of a case."""\n', PYTHON) == []
    assert found(tmp_path, '"""Return whether a folder exists."""\n', PYTHON) == []


def test_variables_are_named_by_nouns(tmp_path):
    assert found(tmp_path, '"""Module."""\n\ntold = 1\n', PYTHON) == [
        "variable named told: name it by a noun (message, matches, response)"
    ]


def test_places_are_reported(tmp_path):
    path = tmp_path / "text.md"
    path.write_text("# Title\n\nOne line.\nIt is\nmade anew.\n", encoding="utf-8")
    assert [(offence.line, offence.path) for offence in offences(path)] == [(5, path)]
