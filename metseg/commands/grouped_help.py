"""Help text that lists options in groups."""

from __future__ import annotations

from typing import Any

from typer.core import TyperCommand

OTHERS = "Options"


class GroupedHelp(TyperCommand):
    """Command that lists its options by panel."""

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write a section for each panel in the order of the options, then the rest."""
        panels: dict[str, list[tuple[str, str]]] = {}
        for parameter in self.get_params(ctx):
            if (record := parameter.get_help_record(ctx)) is not None:
                panels.setdefault(getattr(parameter, "rich_help_panel", None) or OTHERS, []).append(record)
        for panel in sorted(panels, key=lambda name: name == OTHERS):
            with formatter.section(panel):
                formatter.write_dl(panels[panel])
