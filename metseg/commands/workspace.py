"""`metseg workspace`: where the workspace was made, and how to relocate a copied or moved one."""

from __future__ import annotations

from typing import Annotated

import typer


def workspace(
    relocate: Annotated[
        bool, typer.Option("--relocate", help="Make a copied or moved workspace stand for itself where it is now.")
    ] = False,
) -> None:
    """Show the place of this workspace, or relocate it after a copy or move.

    Relocation changes the registry, the search studies and models.config of this workspace. It changes nothing in the
    place that the workspace came from. End the programs that use the workspace first.
    """
    from metseg.settings import Settings
    from metseg.workspace import made_at

    settings = Settings.of_any_place()
    before = made_at(settings.workspace)
    if not relocate:
        state = "nothing is recorded yet" if before is None else f"made at {before}"
        needs = before not in (None, settings.workspace)
        print(f"{settings.workspace}: {state}" + ("; type `metseg workspace --relocate`" if needs else ""))
        return
    from metseg.serving.relocation import relocate as relocated

    changes = relocated(settings)
    for change in changes:
        print(change)
    print(f"{settings.workspace} stands for itself" if changes else f"{settings.workspace}: nothing to relocate")
