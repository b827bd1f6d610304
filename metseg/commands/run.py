"""`metseg run`: run the training pipeline on this machine."""

from __future__ import annotations

from typing import Annotated

import typer

from metseg.commands.terminal import console
from metseg.commands.training_data import TrainingData
from metseg.option_checks import refuse_empty


def run(
    data: Annotated[
        str | None,
        typer.Option(
            help="Images and masks: folder, archive, s3://BUCKET/PREFIX or git+URL@REVISION#PATH "
            "(default: the phantom cohort)."
        ),
    ] = None,
    param: Annotated[
        list[str] | None, typer.Option(help="NAME=VALUE of a setting (see metseg settings); may be repeated.")
    ] = None,
    images: Annotated[
        str | None,
        typer.Option(help="TAG, or PREFIX:TAG, of images to run each step in with Docker (default: no containers)."),
    ] = None,
) -> None:
    """Run the pipeline on this machine: images to a served model."""
    from components.check.step import check
    from components.configuration.parsing import parse
    from metseg.settings import Settings
    from metseg.tracking import mlflow_runs
    from pipelines import containers

    refuse_empty({"--images": images})
    settings = Settings.from_environment()
    if images:
        containers.require_services(settings)
        containers.choose(images)
    from pipelines import local

    given = parse(param or [])
    source = TrainingData.of(data, settings)
    values = {
        "gate_promotion": "automatic",
        "gpu_count": 0,
        "run_experiment": mlflow_runs.default_experiment(),
        "data_reference": source.reference,
        "model_name": source.model_name,
        **source.budget,
        **given,
    }
    check(values)
    if images:
        containers.require_images()
    mlflow_runs.experiment_id(mlflow_runs.client(settings), settings, str(values["run_experiment"]))
    source.make_phantom()
    # The console keeps this very stream: the runner redirects `sys.stdout` into it.
    local.run(values, settings, console(), in_containers=bool(images))
