"""Data Docs that open without a network: Great Expectations' pages load styles, scripts and pictures from elsewhere."""

from __future__ import annotations

import re
import shutil
from html import escape
from pathlib import Path

_SCRIPT = re.compile(r"<script\b.*?</script>", re.DOTALL | re.IGNORECASE)
_LINK = re.compile(r"<link\b[^>]*>", re.IGNORECASE)
_PICTURE = re.compile(r"<img\b[^>]*>", re.IGNORECASE)
_ADDRESS = re.compile(r"url\(\s*['\"]?(?:https?:)?//[^)]*\)", re.IGNORECASE)
_ACTIONS = re.compile(
    r'<div class="card mb-3">\s*<div class="card-header p-2">\s*<strong>Actions</strong>.*?</label>(?:\s*</div>){5}',
    re.DOTALL,
)
_FOOTER = re.compile(r"<footer\b.*?</footer>", re.DOTALL | re.IGNORECASE)
_INDEX = "index.html"

STYLE = """
* { box-sizing: border-box; }
body { font: 15px/1.5 system-ui, sans-serif; color: #1d2530; margin: 0; }
a { color: #0b5cad; } h4 { margin: 0 0 .4rem; } p { margin: 0 0 .6rem; } ul { margin: 0; padding-left: 1.1rem; }
nav.navbar { padding: .6rem 2rem; border-bottom: 1px solid #d8dee6; height: auto !important; }
.breadcrumb { list-style: none; padding: 0; margin: 0; } .breadcrumb-item { display: inline; }
.breadcrumb-item + .breadcrumb-item::before { content: " / "; color: #7a8694; }
.container-fluid { padding: 1rem 2rem; } .container-fluid .container-fluid { padding: 0; margin-bottom: 1.2rem; }
body > .container-fluid > .row { display: flex; gap: 2rem; align-items: flex-start; }
body > .container-fluid > .row > div:first-child { flex: 0 0 15rem; }
body > .container-fluid > .row > div:last-child { flex: 1; min-width: 0; }
.nav { list-style: none; padding: 0; } .nav-link { text-decoration: none; display: block; padding: .1rem .4rem; }
.card-header { font-weight: 600; margin: .6rem 0 .2rem; }
.alert { background: #eef2f6; padding: .5rem .8rem; border-radius: .3rem; }
table { border-collapse: collapse; width: 100%; margin: .4rem 0; } td, th { text-align: left; vertical-align: top;
padding: .35rem .6rem; border-bottom: 1px solid #d8dee6; overflow-wrap: anywhere; }
.badge { background: #e4e9ef; padding: 0 .35rem; border-radius: .3rem; } .table-responsive { overflow-x: auto; }
.fa-check-circle::before { content: "✓"; color: #1d7a46; font-weight: 700; }
.fa-times::before { content: "✗"; color: #b3261e; font-weight: 700; }
.fa-exclamation-triangle::before { content: "!"; color: #b25e00; font-weight: 700; }
.fas { font-style: normal; } .cooltip .top, .d-none { display: none; }
.d-md-block, .d-md-inline-flex { display: block; }
"""


def make_offline(docs: Path) -> None:
    """Take from the site in `docs` all that a browser would fetch or run, give it styles of its own and an index.

    Pictures, fonts and style sheets go: no page uses them, and the name of one makes a log look like that of a failure.
    """
    shutil.rmtree(docs / "static", ignore_errors=True)
    pages = sorted(docs.rglob("*.html"))
    for page in pages:
        if page.name != _INDEX:
            page.write_text(offline(page.read_text(encoding="utf-8")), encoding="utf-8")
    (docs / _INDEX).write_text(_index([page.relative_to(docs) for page in pages]), encoding="utf-8")


def offline(page: str) -> str:
    """A page without scripts, linked styles and pictures, with the styles above; what it says stays."""
    for unwanted in (_ACTIONS, _FOOTER, _SCRIPT, _LINK, _PICTURE):
        page = unwanted.sub("", page)
    return _ADDRESS.sub("none", page).replace("</head>", f"<style>{STYLE}</style></head>", 1)


def _index(pages: list[Path]) -> str:
    """The entry of the site: a link to every page. Great Expectations builds its own by script."""
    lists = []
    for kind, title in (("validations", "What was found"), ("expectations", "What was expected")):
        links = [
            f"<li><a href='{escape(page.as_posix(), quote=True)}'>{escape(_subject(page))}</a></li>"
            for page in pages
            if page.parts[0] == kind
        ]
        lists.append(f"<h2>{title}</h2><ul>{''.join(links)}</ul>")
    return (
        "<!doctype html>\n<html lang='en'><head><meta charset='utf-8'><title>Data Docs</title>"
        f"<style>{STYLE}</style></head><body><div class='container-fluid'><h1>Data Docs</h1>"
        f"<p>Tables of the cohort, as Great Expectations judged them.</p>{''.join(lists)}</div></body></html>\n"
    )


def _subject(page: Path) -> str:
    """The table a page is about: `validations/<table>/…` or `expectations/<table>.html`."""
    return Path(page.parts[1]).stem
