"""The pages of the documentation, and the commands that they show."""

from __future__ import annotations

import re
from pathlib import Path

from markdown_it import MarkdownIt
from markdown_it.token import Token

from tests.conftest import ROOT

PAGES = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md")] + sorted(
    (ROOT / "docs").glob("*.md")
)


def name_of(page: Path) -> str:
    """Return a page's path in the repository, which names its test."""
    return str(page.relative_to(ROOT))


def tokens(page: Path) -> list[Token]:
    """Return the Markdown tokens of a page."""
    return MarkdownIt("commonmark").enable("table").parse(page.read_text(encoding="utf-8"))


def code_spans(page: Path) -> list[str]:
    """Return the inline code of a page."""
    inline = [child for token in tokens(page) for child in token.children or []]
    return [child.content for child in inline if child.type == "code_inline"]


def shell_lines(page: Path) -> list[str]:
    """Return the lines of the shell blocks of a page, without comments and with continued lines joined."""
    lines: list[str] = []
    for token in tokens(page):
        if token.type == "fence" and token.info in ("", "bash", "sh"):
            text = token.content.replace("\\\n", " ")
            lines += [re.sub(r"(?:^|\s+)#\s.*$", "", line).strip() for line in text.splitlines()]
    return [line for line in lines if line]
