"""The documents call every setting by its name: `train_filters`, not `filters` as version 0.1.0 did."""

from __future__ import annotations

import re

import pytest

from components.configuration.setting_names import RENAMED, SETTINGS
from tests.conftest import ROOT

SHORT = {name.partition("_")[2]: name for name in SETTINGS if name.startswith(("data_", "train_"))}
OLD = {**SHORT, **RENAMED}
WRITTEN = re.compile(rf"(?<![\w-])({'|'.join(sorted(OLD))})=")
ARGUMENT = re.compile(r"\w\([^)`]*$")
"""Before an argument of a Python function, which is no setting."""
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").rglob("*.md")])


def old_names(line: str) -> list[str]:
    """Old names written as `NAME=VALUE`, where none of the options fields is spoken of, which take short names."""
    if "_options`" in line:
        return []
    return [found[1] for found in WRITTEN.finditer(line) if not ARGUMENT.search(line[: found.start()])]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("`labels=1,3` names the regions", ["labels"]),
        ("metseg run --param filters=16 --param train_epochs=3", ["filters"]),
        ("`precision=auto`, `accelerator_count=2`", ["precision", "accelerator_count"]),
        ("`data_labels=1,3`, `train_xla=true`", []),
        ("`models.build(name, channels=3)`", []),
        ("`epochs=40` in `train_options` is `train_epochs=40`", []),
    ],
)
def test_old_names_are_told_from_new_ones(line, expected):
    assert old_names(line) == expected


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_no_page_writes_a_setting_by_its_old_name(page):
    lines = page.read_text(encoding="utf-8").splitlines()
    assert {number: names for number, line in enumerate(lines, 1) if (names := old_names(line))} == {}
