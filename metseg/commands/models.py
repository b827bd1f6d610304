"""`metseg models` and `metseg lineage`: versions of the registry, and the origin of a version."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from metseg.errors import MetsegError
from metseg.message_text import printable
from metseg.process_environment import apply_defaults
from metseg.serving_defaults import MODEL_NAME

if TYPE_CHECKING:
    from metseg.tracking.model_lineage import Link
    from metseg.tracking.model_registry import Version

LEAST_WIDTH = 150
SCORES = {"dice": "Dice", "lesion_f1": "lesion F1", "lesion_sensitivity": "lesion sensitivity"}
MARKS = {"there": "✓", "unsure": "?", "broken": "✗"}

JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON instead.")]


def models(
    name: Annotated[str, typer.Argument(help="Registered model.")] = MODEL_NAME,
    as_json: JsonOption = False,
) -> None:
    """List a model's versions in the registry, with scores.

    The table shows scores with 95 % intervals, aliases and the state of serving.
    """
    from metseg.settings import Settings
    from metseg.tracking import mlflow_runs, model_registry

    apply_defaults()
    versions = model_registry.versions(mlflow_runs.client(Settings.from_environment()), name)
    if not versions:
        raise MetsegError(f"the registry holds no model {name}: train one with `metseg run`")
    if as_json:
        print(json.dumps([asdict(entry) for entry in versions], indent=1, ensure_ascii=False))
    else:
        _print_versions(name, versions)


def _print_versions(name: str, versions: list[Version]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from metseg.tracking.model_registry import REFUSED, SERVING_TAG

    columns = ("version", "aliases", "serving", "architecture", *SCORES.values(), "gate", "data version")
    table = Table(*columns, title=name)
    for entry in versions:
        tag = entry.tags.get
        scores = [_score(tag(f"test.{score}"), tag(f"test.{score}.interval")) for score in SCORES]
        before = [str(entry.number), ", ".join(entry.aliases), tag(SERVING_TAG, "–"), tag("architecture", "–")]
        cells = [*before, *scores, tag("gate", "–"), tag("data.version", "–")[:12]]
        table.add_row(*(Text(printable(cell)) for cell in cells))
    console = Console(width=None if sys.stdout.isatty() else LEAST_WIDTH)
    console.print(table)
    for entry in versions:
        if entry.tags.get(SERVING_TAG) == REFUSED:
            reason = printable(entry.tags.get("serving.reason", "no reason is given"))
            console.print(f"{entry.number} is not served: {reason}", markup=False)


def _score(mean: str | None, interval: str | None) -> str:
    """Return a score with three digits, and its interval."""
    if mean is None:
        return "–"
    low, separator, high = (interval or "").partition(" to ")
    try:
        return f"{float(mean):.3f}" + (f" ({float(low):.2f} to {float(high):.2f})" if separator else "")
    except ValueError:  # tags can be changed in MLflow
        return "?"


def lineage(
    version: Annotated[str, typer.Argument(help="Number, alias (champion) or label (stable) of a version.")],
    model_name: Annotated[str, typer.Option(help="Registered model.")] = MODEL_NAME,
    server: Annotated[
        str, typer.Option(help="HOST:PORT of a model server to query; default: read the base path on this machine.")
    ] = "",
    as_json: JsonOption = False,
) -> None:
    """Print a version's lineage, with each link verified.

    The links are the served and the registered version, run, data, commit and image. Exit code 1 if one is broken.
    """
    from metseg.serving.served_version import find_served
    from metseg.settings import Settings
    from metseg.tracking import mlflow_runs
    from metseg.tracking.model_lineage import find_version, trace

    apply_defaults()
    settings = Settings.from_environment()
    tracking = mlflow_runs.client(settings)
    entry = find_version(tracking, model_name, version)
    links = trace(tracking, settings, entry, lambda: find_served(settings, entry, server))
    if as_json:
        print(json.dumps([asdict(link) for link in links], indent=1, ensure_ascii=False))
    else:
        _print_links(links)
    broken = [f"{link.name} ({link.detail})" for link in links if link.state == "broken"]
    if broken:
        raise MetsegError(f"version {entry.number} of {model_name} has broken lineage: {'; '.join(broken)}")


def _print_links(links: list[Link]) -> None:
    width = max(len(link.name) for link in links)
    for link in links:
        print(f"{MARKS[link.state]} {link.name:<{width}}  {printable(link.identity)}")
        print(f"  {'':<{width}}  {printable(link.detail)}")
