"""Jinja templates of HTML pages: everything from the data is escaped."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import jinja2


def environment(folder: Path) -> jinja2.Environment:
    """Return an environment that reads templates from `folder`; an undefined name in a template raises."""
    import jinja2

    return jinja2.Environment(
        loader=jinja2.FileSystemLoader(folder),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def render(folder: Path, template: str, **content: object) -> str:
    """Render the template of that name in `folder`."""
    return environment(folder).get_template(template).render(**content)
