"""`metseg submit`: run the pipeline on Kubeflow."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

RunOption, WatchOption, ScheduleOption, AccessOption = (
    partial(typer.Option, rich_help_panel=panel) for panel in ("Run", "Watch", "Schedules", "Access")
)
"""Options by the group of the help text that lists them."""


def submit(
    param: Annotated[
        list[str] | None, RunOption(help="NAME=VALUE of a setting (see metseg settings); may be repeated.")
    ] = None,
    profile: Annotated[
        str | None,
        RunOption(
            help="Named set of settings, under those of --param: local, for a cluster on a laptop without a GPU."
        ),
    ] = None,
    images: Annotated[
        str | None, RunOption(help="TAG, or PREFIX:TAG, of the images (default: those of the committed pipeline).")
    ] = None,
    name: Annotated[
        str | None,
        RunOption(help="Name of the run in Kubeflow and MLflow, or of the schedule (default: model and time)."),
    ] = None,
    again: Annotated[
        bool,
        RunOption(
            "--again",
            help="Start a run even if one with this name and parameters was started in the last ten minutes and still "
            "runs (default: follow that run).",
        ),
    ] = False,
    dry_run: Annotated[
        bool, RunOption("--dry-run", help="Show version, images and parameters; send nothing to Kubeflow.")
    ] = False,
    wait: Annotated[
        bool,
        WatchOption(
            "--wait",
            help="Follow the run to its verdict. Exit code 0: a version was registered; 3: the gate registered none; "
            "1: the run failed or was not started; 2: wrong arguments; 4: unknown, because the run still runs or its "
            "verdict could not be read (--follow tries again).",
        ),
    ] = False,
    follow: Annotated[
        str | None,
        WatchOption(
            metavar="RUN", help="Follow an existing run as --wait does; RUN is its id or the address of its page."
        ),
    ] = None,
    cron: Annotated[
        str | None,
        ScheduleOption(
            metavar="TIMES",
            help="Create a schedule, or replace the one with this name: minute, hour, day, month, weekday.",
        ),
    ] = None,
    schedules: Annotated[
        bool, ScheduleOption("--schedules", help="List the schedules, with their last and next run.")
    ] = False,
    pause: Annotated[str | None, ScheduleOption(metavar="NAME", help="Pause a schedule.")] = None,
    resume: Annotated[str | None, ScheduleOption(metavar="NAME", help="Resume a paused schedule.")] = None,
    delete: Annotated[str | None, ScheduleOption(metavar="NAME", help="Delete a schedule; its runs stay.")] = None,
    host: Annotated[
        str,
        AccessOption(metavar="ADDRESS", help="Address of the Kubeflow Pipelines UI.", envvar="KF_PIPELINES_ENDPOINT"),
    ] = "",
    namespace: Annotated[str, AccessOption(help="Profile namespace in a multi-user Kubeflow.")] = "",
    token_file: Annotated[Path | None, AccessOption(help="File with the token (or set METSEG_KUBEFLOW_TOKEN).")] = None,
    certificate: Annotated[
        Path | None, AccessOption(help="CA certificate of the host (PEM).", exists=True, dir_okay=False)
    ] = None,
) -> None:
    """Start, schedule or follow a run on Kubeflow.

    The command uploads the pipeline first if Kubeflow does not have this version yet.
    """
    given = locals()
    from pipelines.submission.submit_command import Options, run

    run(Options(**{**given, "param": tuple(param or ())}))
