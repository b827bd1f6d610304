"""Relative links and anchors of the documents lead somewhere, and the index lists every page."""

from __future__ import annotations

import re
from itertools import pairwise
from pathlib import Path
from urllib.parse import unquote

import pytest
from markdown_it.token import Token

from tests.conftest import ROOT
from tests.documentation.pages import PAGES, name_of, tokens


def text_of(token: Token) -> str:
    """Return the plain text of an inline token."""
    return "".join(child.content for child in token.children or [] if child.type in ("text", "code_inline"))


def anchors(page: Path) -> set[str]:
    """Return the anchors of a page's headings, as GitHub makes them."""
    counts: dict[str, int] = {}
    names = set()
    stream = tokens(page)
    for heading, inline in pairwise(stream):
        if heading.type == "heading_open":
            slug = re.sub(r"[^\w\- ]", "", text_of(inline).lower()).replace(" ", "-")
            count = counts.get(slug, 0)
            counts[slug] = count + 1
            names.add(f"{slug}-{count}" if count else slug)
    return names


def links(page: Path) -> list[str]:
    """Return the targets of links and pictures of a page, without those on the web."""
    inline = [child for token in tokens(page) for child in token.children or []]
    targets = [str(child.attrs.get("href") or child.attrs.get("src") or "") for child in inline]
    return [target for target in targets if target and not re.match(r"[a-z]+:", target)]


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_and_anchors_exist(page):
    for target in links(page):
        path, _, anchor = unquote(target).partition("#")
        linked = (page.parent / path).resolve() if path else page
        assert linked.exists(), target
        if anchor:
            assert anchor in anchors(linked), target


def test_the_links_are_found():
    assert sum(len(links(page)) for page in PAGES) >= 80


def test_the_index_lists_every_page_once():
    index = ROOT / "docs" / "index.md"
    rows = [line for line in index.read_text(encoding="utf-8").splitlines() if line.startswith("|")]
    listed = re.findall(r"\]\((\w+\.md)\)", "\n".join(rows))
    others = {page.name for page in (ROOT / "docs").glob("*.md")} - {"index.md", "glossary.md"}
    assert sorted(listed) == sorted(others)
    assert "glossary.md" in links(index)


def test_the_readme_leads_to_every_page():
    reached = {Path(target.partition("#")[0]).name for target in links(ROOT / "README.md")}
    assert {page.name for page in (ROOT / "docs").glob("*.md")} <= reached


@pytest.mark.parametrize("page", [page for page in PAGES if page.parent.name == "docs"], ids=name_of)
def test_every_page_begins_with_what_it_is_for(page):
    paragraphs = page.read_text(encoding="utf-8").split("\n\n")
    assert paragraphs[0].startswith("# ")
    first = paragraphs[1] if page.name != "index.md" else "This page"
    assert first.startswith("This page"), first


def test_paths_in_code_spans_exist():
    """Paths of the repository that a document names: files of folders that are in Git."""
    folders = "benchmarks|components|docs|infra|metseg|models|pipelines|tests"
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        for path in re.findall(rf"`((?:{folders})/[\w./-]+)`", text):
            assert (ROOT / path).exists(), (page.name, path)
        for module in re.findall(r"`(metseg(?:\.\w+)+)`", text):
            parts = Path(*module.split("."))
            known = [
                path for path in (parts, *parts.parents) if (ROOT / path).is_dir() or (ROOT / f"{path}.py").exists()
            ]
            deepest = known[0]
            assert len(parts.parts) - len(deepest.parts) <= 1, (page.name, module)
            if deepest != parts:
                source = ROOT / f"{deepest}.py" if (ROOT / f"{deepest}.py").exists() else ROOT / deepest / "__init__.py"
                assert re.search(rf"\b{parts.name}\b", source.read_text(encoding="utf-8")), (page.name, module)
