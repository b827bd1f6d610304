"""Markdown becomes HTML that can do nothing but be read."""

from __future__ import annotations

import io
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from metseg.report.markdown import MOST_BYTES, to_html

HOSTILE = [
    "<script>alert(1)</script>",
    "text <img src=x onerror=alert(1)> more",
    "[click](javascript:alert(1))",
    "[click](data:text/html,<script>alert(1)</script>)",
    "![x](https://example.org/tracker.png)",
    "![x](../outside.png)",
    "![x](file:///etc/passwd)",
    "![x](javascript:alert(1))",
    '<https://example.org/a"onmouseover=alert(1)>',
    "<iframe src=https://example.org></iframe>",
    "| a |\n|---|\n| <svg onload=alert(1)> |",
    "[x]: javascript:alert(1)\n\n[x]",
]
TAGS = {"p", "a", "img", "em", "strong", "code", "pre", "ul", "ol", "li", "table", "thead", "tbody", "tr", "th", "td",
        "blockquote", "hr", "br", "h2", "h3", "h4", "h5", "h6"}  # fmt: skip


class Elements(HTMLParser):
    """Every element and its attributes."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))


def harmless(html: str) -> bool:
    """Whether there is nothing in it but text, its form, pictures within, and links to the web."""
    for tag, attributes in Elements(html).found:
        allowed = {"a": {"href", "title", "rel"}, "img": {"src", "alt", "title"}, "ol": {"start"}, "code": {"class"}}
        if tag not in TAGS or not set(attributes) <= allowed.get(tag, {"style"} if tag in ("th", "td") else set()):
            return False
        if tag == "a" and not (attributes["href"] or "").startswith(("https:", "http:", "mailto:")):
            return False
        if tag == "img" and not (attributes["src"] or "").startswith("data:image/png;base64,"):
            return False
    return True


@pytest.mark.parametrize("text", HOSTILE)
def test_nothing_hostile_gets_through(text, tmp_path):
    folder = tmp_path / "card"
    folder.mkdir()
    Image.new("RGB", (2, 2)).save(tmp_path / "outside.png")
    html = to_html(text, folder)
    assert harmless(html) and "<img" not in html


@settings(max_examples=300, deadline=None)
@given(st.text(alphabet="ab<>[]()!\"'&/:#*`|-\n \\x=", max_size=60))
def test_no_text_becomes_more_than_text(text):
    assert harmless(to_html(text, Path("nowhere")))


def test_a_card_reads_as_it_was_written(tmp_path):
    html = to_html("# Card\n\n## Use\n\nFor *research*, see <https://example.org>.\n\n- a\n- b\n", tmp_path)
    assert "<h2>Card</h2>" in html and "<h3>Use</h3>" in html and "<em>research</em>" in html
    assert '<a href="https://example.org" rel="noopener noreferrer">' in html and html.count("<li>") == 2
    assert "<h2>Deep</h2>" in to_html("### Deep", tmp_path)
    assert "<h4>Deep</h4>" in to_html("### Deep", tmp_path, top=4)


def test_tables_are_tables(tmp_path):
    html = to_html("| size | found |\n|---|---:|\n| < 3 mm | 1 |\n", tmp_path)
    assert "<td>&lt; 3 mm</td>" in html and html.count("<tr>") == 2


def test_pictures_beside_the_card_are_put_in(tmp_path):
    (tmp_path / "failures").mkdir()
    Image.new("RGB", (3, 2), (9, 8, 7)).save(tmp_path / "failures" / "worst-1.png")
    html = to_html("![the worst](failures/worst-1.png)", tmp_path)
    ((_, attributes),) = [element for element in Elements(html).found if element[0] == "img"]
    assert attributes["alt"] == "the worst"
    import base64

    content = base64.b64decode((attributes["src"] or "").split(",")[1])
    with Image.open(io.BytesIO(content)) as picture:
        assert picture.size == (3, 2)


def test_a_picture_that_is_absent_or_too_large_is_told_by_its_words(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (700, 700, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "large.png")
    assert (tmp_path / "large.png").stat().st_size > MOST_BYTES
    html = to_html("![too large](large.png) ![absent](no.png)", tmp_path)
    assert "<img" not in html and "too large absent" in html
