"""Make Data Docs open without a network.

The pages of Great Expectations load external styles, scripts and pictures.
"""

from __future__ import annotations

import re
import shutil
from pathlib import Path

from metseg.html_templates import POLICY, render

_LOADED = re.compile(r"<(script|footer)\b.*?</\1>|<(?:link|img)\b[^>]*>", re.DOTALL | re.IGNORECASE)
_ADDRESS = re.compile(r"url\(\s*['\"]?(?:https?:)?//[^)]*\)", re.IGNORECASE)
_ACTIONS = re.compile(
    r'<div class="card mb-3">\s*<div class="card-header p-2">\s*<strong>Actions</strong>.*?</label>(?:\s*</div>){5}',
    re.DOTALL,
)
_INDEX = "index.html"

TEMPLATES = Path(__file__).parent


def make_offline(docs: Path) -> None:
    """Remove everything that a browser would load or run from the site in `docs`.

    Add metseg's own styles and index.

    Pictures, fonts and style sheets are deleted: no page uses them, and one picture's name makes a log look like that
    of a failure.
    """
    shutil.rmtree(docs / "static", ignore_errors=True)
    style = f"<style>{(TEMPLATES / 'data_docs.css').read_text(encoding='utf-8')}</style>"
    pages = [path for path in sorted(docs.rglob("*.html")) if path.name != _INDEX]
    for page in pages:
        page.write_text(offline(page.read_text(encoding="utf-8"), style), encoding="utf-8")
    (docs / _INDEX).write_text(_index([page.relative_to(docs) for page in pages]), encoding="utf-8")


def offline(page: str, style: str) -> str:
    """Remove scripts, linked styles and pictures from a page; add policy and `style`."""
    page = _ADDRESS.sub("none", _LOADED.sub("", _ACTIONS.sub("", page)))
    return page.replace("<head>", f"<head>{POLICY}", 1).replace("</head>", f"{style}</head>", 1)


def _index(pages: list[Path]) -> str:
    """Render the entry of the site, with a link to every page.

    Great Expectations builds its own entry by a script.

    A page is `validations/<table>/…` or `expectations/<table>.html`.
    """
    sections = [
        (title, [(page.as_posix(), Path(page.parts[1]).stem) for page in pages if page.parts[0] == kind])
        for kind, title in (("validations", "Results"), ("expectations", "Expectations"))
    ]
    return render(TEMPLATES, "data_docs_index.html.j2", sections=sections)
