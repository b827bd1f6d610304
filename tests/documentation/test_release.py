"""Version, licence and citation agree with one another."""

from __future__ import annotations

import datetime
import hashlib
import re
import subprocess
import sys
from pathlib import Path

import yaml

from tests.conftest import ROOT

APACHE_2_0 = "cfc7749b96f63bd31c3c42b5c471bf756814053e847c10f3eb003417bc523d30"
"""SHA-256 of https://www.apache.org/licenses/LICENSE-2.0.txt, as many distributions carry it."""


def version_of_setup() -> str:
    match = re.search(r'^    version="([\d.]+)",$', (ROOT / "setup.py").read_text(encoding="utf-8"), re.MULTILINE)
    assert match
    return match[1]


def test_the_licence_is_apaches_text():
    assert hashlib.sha256((ROOT / "LICENSE").read_bytes()).hexdigest() == APACHE_2_0


def test_the_citation_is_complete_and_names_this_version():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["cff-version"] == "1.2.0" and citation["type"] == "software"
    assert {"message", "title", "authors"} <= set(citation), "required by the format"
    assert [set(author) for author in citation["authors"]] == [{"name"}]
    assert (citation["title"], citation["license"]) == ("metseg", "Apache-2.0")
    assert citation["version"] == version_of_setup()
    assert datetime.date.fromisoformat(citation["date-released"])


def test_the_changelog_describes_this_version():
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    released = re.findall(r"^## ([\d.]+) - (\d{4}-\d\d-\d\d)$", text, re.MULTILINE)
    date = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))["date-released"]
    assert released[0] == (version_of_setup(), date)
    assert text.index("## Unreleased") < text.index(f"## {version_of_setup()}")
    assert set(re.findall(r"^### (.+)$", text, re.MULTILINE)) <= {
        "Added",
        "Changed",
        "Deprecated",
        "Removed",
        "Fixed",
        "Security",
    }


def test_the_command_line_prints_the_version():
    program = Path(sys.executable).parent / "metseg"
    shown = subprocess.run([program, "--version"], capture_output=True, text=True, check=True).stdout
    assert shown == f"metseg {version_of_setup()}\n"
