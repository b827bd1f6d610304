"""Templates of the pages: data are escaped, and a page loads nothing."""

from __future__ import annotations

import base64
from pathlib import Path

from metseg.html_templates import environment
from metseg.report.number_format import duration, grouped, interval, number, percent, signed, signed_interval
from metseg.report.style import name_of
from metseg.report.tables import check_figures, comparison_rows, interval_of_mean

NOTICE = (
    "Not a medical device. This report describes a research model on the patients named here. "
    "It must not be used for diagnosis, treatment or any other clinical decision."
)


def render(template: str, **content: object) -> str:
    """Fill a template of this folder; an undefined name raises."""
    templates = environment(Path(__file__).parent)
    templates.filters |= {
        "number": number,
        "interval": interval,
        "interval_of_mean": interval_of_mean,
        "check_figures": check_figures,
        "name_of": name_of,
        "signed": signed,
        "signed_interval": signed_interval,
        "percent": percent,
        "seconds": duration,
        "grouped": grouped,
        "uri": data_uri,
    }
    templates.globals |= {"notice": NOTICE, "comparison_rows": comparison_rows}
    return templates.get_template(template).render(**content)


def data_uri(png: bytes) -> str:
    """Return a PNG as a data URI."""
    return f"data:image/png;base64,{base64.b64encode(png).decode('ascii')}"
