"""`metseg tune`: search for the best training parameters."""

from __future__ import annotations

from typing import Annotated

import typer

from metseg.commands.terminal import console
from metseg.commands.training_data import TrainingData
from metseg.errors import UsageError
from metseg.serving_defaults import MODEL_NAME

INGEST_OPTIONS = (
    "data_layout",
    "data_channels",
    "data_labels",
    "data_mask_threshold",
    "data_resample_masks",
    "model_name",
)


def tune(
    data: Annotated[
        str | None, typer.Option(help="Images and masks, as for run (default: the phantom cohort).")
    ] = None,
    trials: Annotated[
        int, typer.Option(help="Number of trials in all, those of an interrupted study included.", min=1)
    ] = 20,
    architecture: Annotated[str, typer.Option(help="Network: nested_unet, attention_unet or unet.")] = "nested_unet",
    search: Annotated[
        list[str] | None,
        typer.Option(help="NAME=LOW..HIGH[:log] or NAME=VALUE|VALUE of a parameter to vary; may be repeated."),
    ] = None,
    param: Annotated[
        list[str] | None, typer.Option(help="NAME=VALUE of a parameter to keep fixed; may be repeated.")
    ] = None,
    objective: Annotated[
        str, typer.Option(help="Score to maximise, as mean over validation patients: lesion_f1 or dice.")
    ] = "lesion_f1",
    study: Annotated[
        str,
        typer.Option(help="Study name. An interrupted study with this name is resumed (default: data and network)."),
    ] = "",
) -> None:
    """Search for the best parameters of a run.

    Prints them as a `metseg run` command.
    """
    from components.configuration.parsing import parse
    from components.configuration.setting_names import find
    from metseg.settings import Settings
    from metseg.tracking import mlflow_runs
    from metseg.tuning.optuna_study import OBJECTIVES, Search
    from metseg.tuning.search_space import DEFAULT_SEARCH, PREPROCESSING, TRAINING, parse_search
    from pipelines import tuning

    settings = Settings.from_environment()
    given = parse(param or [])
    experiment = str(given.pop("run_experiment", "") or mlflow_runs.default_experiment())
    if unfit := sorted(set(given) - {*INGEST_OPTIONS, *PREPROCESSING, *TRAINING}):
        raise UsageError(f"--param {unfit[0]}: a search ends with training, and this setting belongs to a later step")
    if objective not in OBJECTIVES:
        raise UsageError(f"--objective {objective}: expected {' or '.join(OBJECTIVES)}")
    for text in search or []:
        find(text.partition("=")[0], where="--search ")
    source = TrainingData.of(data, settings)
    fixed = {name: value for name, value in {**source.budget, **given}.items() if name not in INGEST_OPTIONS}
    dimensions = parse_search(search or DEFAULT_SEARCH, lambda name, value: parse([f"{name}={value}"])[name])
    chosen = Search(architecture, dimensions, fixed, objective, trials)
    chosen.check()
    ingest = {name: value for name, value in given.items() if name in INGEST_OPTIONS}
    mlflow_runs.experiment_id(mlflow_runs.client(settings), settings, experiment)
    source.make_phantom()
    data_name = source.model_name.removeprefix(MODEL_NAME).strip("-") or "phantom"
    tuning.run(
        chosen,
        tuning.Data(source.reference, data or "", {"model_name": source.model_name, **ingest}, experiment),
        study or f"{data_name}-{architecture}",
        settings,
        console(),
    )
