"""`metseg submit`: run the pipeline on Kubeflow."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

RUN_PANEL, WATCH_PANEL, SCHEDULES_PANEL, ACCESS_PANEL = "Run", "Watch", "Schedules", "Access"


def submit(
    param: Annotated[
        list[str] | None,
        typer.Option(help="NAME=VALUE of a setting (see metseg settings); may be repeated.", rich_help_panel=RUN_PANEL),
    ] = None,
    profile: Annotated[
        str | None,
        typer.Option(
            help="Named set of settings, under those of --param: local, for a cluster on a laptop without a GPU.",
            rich_help_panel=RUN_PANEL,
        ),
    ] = None,
    images: Annotated[
        str | None,
        typer.Option(
            help="TAG, or PREFIX:TAG, of the images (default: those of the committed pipeline).",
            rich_help_panel=RUN_PANEL,
        ),
    ] = None,
    name: Annotated[
        str | None,
        typer.Option(
            help="Name of the run in Kubeflow and MLflow, or of the schedule (default: model and time).",
            rich_help_panel=RUN_PANEL,
        ),
    ] = None,
    again: Annotated[
        bool,
        typer.Option(
            "--again",
            help="Start a run even if one with this name and parameters was started in the last ten minutes and still "
            "runs (default: follow that run).",
            rich_help_panel=RUN_PANEL,
        ),
    ] = False,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run",
            help="Show version, images and parameters; send nothing to Kubeflow.",
            rich_help_panel=RUN_PANEL,
        ),
    ] = False,
    wait: Annotated[
        bool,
        typer.Option(
            "--wait",
            help="Follow the run to its verdict. Exit code 0: a version was registered; 3: the gate registered none; "
            "1: the run failed or was not started; 2: wrong arguments; 4: unknown, because the run still runs or its "
            "verdict could not be read (--follow tries again).",
            rich_help_panel=WATCH_PANEL,
        ),
    ] = False,
    follow: Annotated[
        str | None,
        typer.Option(
            metavar="RUN",
            help="Follow an existing run as --wait does; RUN is its id or the address of its page.",
            rich_help_panel=WATCH_PANEL,
        ),
    ] = None,
    cron: Annotated[
        str | None,
        typer.Option(
            metavar="TIMES",
            help="Create a schedule, or replace the one with this name: minute, hour, day, month, weekday.",
            rich_help_panel=SCHEDULES_PANEL,
        ),
    ] = None,
    schedules: Annotated[
        bool,
        typer.Option(
            "--schedules", help="List the schedules, with their last and next run.", rich_help_panel=SCHEDULES_PANEL
        ),
    ] = False,
    pause: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Pause a schedule.", rich_help_panel=SCHEDULES_PANEL),
    ] = None,
    resume: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Resume a paused schedule.", rich_help_panel=SCHEDULES_PANEL),
    ] = None,
    delete: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Delete a schedule; its runs stay.", rich_help_panel=SCHEDULES_PANEL),
    ] = None,
    host: Annotated[
        str,
        typer.Option(
            metavar="ADDRESS",
            help="Address of the Kubeflow Pipelines UI.",
            envvar="KF_PIPELINES_ENDPOINT",
            rich_help_panel=ACCESS_PANEL,
        ),
    ] = "",
    namespace: Annotated[
        str, typer.Option(help="Profile namespace in a multi-user Kubeflow.", rich_help_panel=ACCESS_PANEL)
    ] = "",
    token_file: Annotated[
        Path | None,
        typer.Option(help="File with the token (or set METSEG_KUBEFLOW_TOKEN).", rich_help_panel=ACCESS_PANEL),
    ] = None,
    certificate: Annotated[
        Path | None,
        typer.Option(
            help="CA certificate of the host (PEM).", exists=True, dir_okay=False, rich_help_panel=ACCESS_PANEL
        ),
    ] = None,
) -> None:
    """Run the pipeline on Kubeflow: upload, start, schedule or follow a run."""
    given = locals()
    from pipelines.submission.submit_command import Options, run

    run(Options(**{**given, "param": tuple(param or ())}))
