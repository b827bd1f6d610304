"""Convert Markdown, such as a model card, to harmless HTML.

The HTML has no markup of the text's own, and loads nothing.
"""

from __future__ import annotations

import base64
from pathlib import Path
from urllib.parse import urlparse

from markdown_it import MarkdownIt
from markdown_it.token import Token

SCHEMES = {"https", "http", "mailto"}
PICTURES = {".png": "image/png", ".jpg": "image/jpeg", ".jpeg": "image/jpeg"}
MOST_BYTES = 1_000_000
"""A larger picture is replaced by its description: the page has to stay small."""


def to_html(text: str, folder: Path, top: int = 2) -> str:
    """Return the text as trusted HTML.

    CommonMark with tables. Markup within the text is shown as text. Pictures that lie below `folder` are put into
    the page; of any other the description alone is shown. Links lead to the web or are no links.

    Args:
        text: Markdown.
        folder: that pictures are relative to.
        top: level of the page's heading that the highest of the text becomes.
    """
    parser = MarkdownIt("commonmark", {"html": False}).enable("table")
    tokens = parser.parse(text)
    levels = [int(token.tag[1]) for token in tokens if token.type == "heading_open"]
    for token in tokens:
        if token.type in ("heading_open", "heading_close"):
            token.tag = f"h{min(int(token.tag[1]) - min(levels) + top, 6)}"
        if token.children:
            token.children = _harmless(token.children, folder)
    return str(parser.renderer.render(tokens, parser.options, {}))


def _harmless(children: list[Token], folder: Path) -> list[Token]:
    """Return the inline tokens with embedded pictures, or their descriptions, and with web links only."""
    harmless: list[Token] = []
    opened: list[bool] = []
    for token in children:
        if token.type == "image":
            uri = _picture(str(token.attrGet("src") or ""), folder)
            if uri is None:
                token = Token("text", "", 0, content=token.content)
            else:
                token.attrSet("src", uri)
        elif token.type == "link_open":
            opened.append(urlparse(str(token.attrGet("href"))).scheme in SCHEMES)
            if not opened[-1]:
                continue
            token.attrSet("rel", "noopener noreferrer")
        elif token.type == "link_close" and not opened.pop():
            continue
        harmless.append(token)
    return harmless


def _picture(source: str, folder: Path) -> str | None:
    """Return a picture below the folder as a data URI; None for anything else."""
    path = (folder / source).resolve()
    kind = PICTURES.get(path.suffix.lower())
    if kind is None or not path.is_relative_to(folder.resolve()) or not path.is_file():
        return None
    content = path.read_bytes()
    return f"data:{kind};base64,{base64.b64encode(content).decode('ascii')}" if len(content) <= MOST_BYTES else None
