"""`metseg settings`: list the settings of a run."""

from __future__ import annotations

from typing import Annotated

import typer

from metseg.commands.terminal import console
from metseg.errors import UsageError


def settings(
    group: Annotated[str, typer.Argument(help="One group: data, train, gate, gpu, model, pod or run.")] = "",
    as_markdown: Annotated[bool, typer.Option("--markdown", help="Print docs/settings.md.")] = False,
) -> None:
    """List the settings of a run, with their defaults.

    The table also names the field of each setting in Kubeflow's form.
    """
    from rich.table import Table

    from components.configuration.setting_names import SETTINGS
    from components.configuration.settings import GROUPS
    from components.configuration.settings_table import markdown, place, shown

    if group and group not in GROUPS:
        raise UsageError(f"settings {group}: expected a group of {', '.join(GROUPS)}")
    if as_markdown:
        print(markdown(), end="")
        return
    table = Table("setting", "default", "Kubeflow's form", "")
    for setting in SETTINGS.values():
        if group in ("", setting.group):
            table.add_row(setting.name, shown(setting.default), place(setting), setting.description)
    console().print(table, markup=False)
