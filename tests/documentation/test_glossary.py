"""The glossary: one sentence for each term, in order, with the terms that everything else is described by."""

from __future__ import annotations

import re

from tests.conftest import ROOT

TERMS = {
    "candidate", "case", "challenger", "champion", "cohort", "golden request", "operating point", "publish",
    "reconcile", "series", "spacing", "study", "verify",
}  # fmt: skip


def rows() -> list[tuple[str, str]]:
    lines = (ROOT / "docs" / "glossary.md").read_text(encoding="utf-8").splitlines()
    return re.findall(r"^\| (.+?) \| (.+?) \|$", "\n".join(lines[lines.index("|---|---|") + 1 :]), re.MULTILINE)


def test_terms_are_in_order_and_defined_once():
    terms = [term for term, _ in rows()]
    assert terms == sorted(set(terms), key=str.lower) and set(terms) >= TERMS


def test_each_definition_is_one_sentence():
    for term, definition in rows():
        assert re.fullmatch(r"[A-Z`][^.]*(?:\.[^ ][^.]*)*\.", definition), term
