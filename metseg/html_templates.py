"""Jinja templates of HTML pages: data are escaped, and a page loads and runs nothing."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import jinja2

POLICY = (
    "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'; "
    "img-src data:; base-uri 'none'; form-action 'none'\">"
)
"""First element of the head of every page; templates name it `policy`."""


def environment(folder: Path) -> jinja2.Environment:
    """Return an environment that reads templates from `folder`; an undefined name in a template raises."""
    import jinja2
    from markupsafe import Markup

    templates = jinja2.Environment(
        loader=jinja2.FileSystemLoader(folder),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    templates.globals["policy"] = Markup(POLICY)
    return templates


def render(folder: Path, template: str, **content: object) -> str:
    """Render the template of that name in `folder`."""
    return environment(folder).get_template(template).render(**content)
