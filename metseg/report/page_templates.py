"""Templates of the pages: data are escaped, and a page loads nothing."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from pathlib import Path

from metseg.files import written_beside
from metseg.html_templates import environment
from metseg.report.number_format import duration, grouped, interval, number, percent, signed, signed_interval
from metseg.report.style import name_of

NOTICE = (
    "Not a medical device. This report describes a research model on the patients named here. "
    "It must not be used for diagnosis, treatment or any other clinical decision."
)


@dataclass(frozen=True)
class Drawn:
    """A figure as PNG, and its content in words for readers who cannot see it."""

    png: bytes
    words: str


def render(template: str, **content: object) -> str:
    """Fill a template of this folder; an undefined name raises."""
    templates = environment(Path(__file__).parent)
    templates.filters |= {
        "number": number,
        "interval": interval,
        "name_of": name_of,
        "signed": signed,
        "signed_interval": signed_interval,
        "percent": percent,
        "seconds": duration,
        "grouped": grouped,
        "uri": data_uri,
    }
    templates.globals["notice"] = NOTICE
    return templates.get_template(template).render(**content)


def write_page(path: Path, template: str, **content: object) -> None:
    """Write a filled template to `path`, atomically."""
    page = render(template, **content)
    with written_beside(path) as temporary:
        temporary.write_text(page, encoding="utf-8")


def data_uri(png: bytes) -> str:
    """Return a PNG as a data URI."""
    return f"data:image/png;base64,{base64.b64encode(png).decode('ascii')}"
