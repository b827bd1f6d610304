"""The templates of the pages: what comes from the data is escaped, and a page loads nothing."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import jinja2

from metseg.report.number_format import duration, grouped, number
from metseg.report.style import name_of

NOTICE = (
    "Not a medical device. This report describes a research model on the patients named here. "
    "It must not be used for diagnosis, treatment or any other clinical decision."
)


def render(template: str, **content: Any) -> str:
    """The template beside this file, filled; a name that it uses and is not given raises."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"number": number, "seconds": duration, "grouped": grouped, "uri": data_uri}
    environment.globals |= {"name_of": name_of, "notice": NOTICE}
    return environment.get_template(template).render(**content)


def data_uri(png: bytes) -> str:
    """A PNG as the address that holds it."""
    return f"data:image/png;base64,{base64.b64encode(png).decode('ascii')}"
