"""`metseg tune`: search for the settings of a run.

Data, cases and splits are those of that run.
"""

from __future__ import annotations

import logging
import os
import shlex
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock, Timeout
from rich.console import Console
from rich.table import Table

from metseg.errors import UsageError
from metseg.process_environment import apply_defaults
from metseg.settings import Settings
from metseg.tracking import mlflow_runs
from metseg.tuning.optuna_study import Search, TrialResult, TuningRecord, open_study, tune

if TYPE_CHECKING:
    import optuna

FOLDER = Path("var") / "tune"
SHOWN = 5
"""Number of trials in the table at the end."""


@dataclass(frozen=True)
class Data:
    """Data of a search.

    Attributes:
        reference: of the data, as `ingest` takes it.
        given: the same as the user gave it; empty for the phantom cohort.
        options: further arguments of ingest.
        experiment: of the search in MLflow.
    """

    reference: str
    given: str
    options: Mapping[str, Any]
    experiment: str = mlflow_runs.EXPERIMENT


def run(search: Search, data: Data, name: str, settings: Settings, console: Console) -> TuningRecord:
    """Search, resuming an interrupted study of the same name, and print the result.

    Returns:
        The content of `tuning.json`, written to `var/tune/<name>/` next to the study.

    Raises:
        UsageError: the study was begun with another search or data, or another process uses it.
        MetsegError: the data cannot be read, or MLflow does not respond.
    """
    apply_defaults()
    os.environ.update(settings.to_environment())
    import tensorflow as tf

    tf.config.experimental.enable_op_determinism()
    folder = settings.workspace / FOLDER / name
    with _alone(folder, name), _printed(console):
        study = open_study(folder / "study.db", name, search)
        parent = _ingested(folder, study, data, name)
        tracking = mlflow_runs.client(settings)
        tracking.update_run(parent, status="RUNNING")
        cohort = folder / "cohort"
        try:
            tune(search, study, cohort, lambda chosen: _records(cohort, folder, chosen), tracking, parent)
            result = _result(study, search, data)
            mlflow_runs.log_metrics(tracking, parent, {f"best_{search.objective}": result.best.score})
            mlflow_runs.set_tags(tracking, parent, {"best.run": result.best.run, "best.command": result.command})
        except BaseException:
            mlflow_runs.finish(tracking, parent, failed=True)
            raise
        mlflow_runs.finish(tracking, parent)
    result.write(folder / "tuning.json")
    _show(result, search, folder, console)
    return result


@contextmanager
def _alone(folder: Path, name: str) -> Iterator[None]:
    """Lock the study against other processes.

    They would take the running trial for an abandoned one.
    """
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(folder / "lock", timeout=0):
            yield
    except Timeout:
        raise UsageError(f"another process uses the study {name}: wait for it, or give another --study") from None


@contextmanager
def _printed(console: Console) -> Iterator[None]:
    """Print the log lines of the steps and the search."""

    class Lines(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            console.print(record.getMessage(), markup=False, highlight=False, soft_wrap=True)

    handler = Lines(logging.INFO)
    ours = [logging.getLogger(name) for name in ("metseg", "components")]
    for logger in ours:
        logger.addHandler(handler)
        logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        for logger in ours:
            logger.removeHandler(handler)


def _ingested(folder: Path, study: optuna.Study, data: Data, name: str) -> str:
    """Read the data, once a study, and return the MLflow run that this opened."""
    from components.configuration.settings import DataSettings
    from components.ingest.step import ingest

    identity = {"reference": data.reference, **data.options}
    if study.user_attrs.get("data", identity) != identity:
        raise UsageError(f"the study {name} was begun with the data {study.user_attrs['data']}: give another --study")
    if "run" in study.user_attrs and (folder / "cohort" / "manifest.json").exists():
        return str(study.user_attrs["run"])
    given = {option: value for option, value in identity.items() if option != "model_name"}
    settings = DataSettings(**{option.removeprefix("data_"): value for option, value in given.items()})
    model_name = data.options.get("model_name", "")
    parent = ingest(
        settings, folder / "cohort", model_name=model_name, run_name=f"tune {name}", experiment=data.experiment
    )
    tracking = mlflow_runs.client(Settings.from_environment())
    mlflow_runs.set_tags(tracking, parent, {"metseg.kind": "tuning"})
    study.set_user_attr("data", identity)
    study.set_user_attr("run", parent)
    return parent


def _records(cohort: Path, folder: Path, chosen: Mapping[str, Any]) -> Path:
    """Return the records for settings of preprocess, made once."""
    from components.preprocess.step import preprocess

    named = "-".join(f"{name}={value}" for name, value in chosen.items())
    records = folder / "records" / (named or "default")
    if not records.exists():
        preprocess(cohort, records, **chosen)
    return records


def _result(study: optuna.Study, search: Search, data: Data) -> TuningRecord:
    """Return the finished trials, the best first.

    Raises:
        UsageError: no trial was trained to its end.
    """
    from optuna.trial import TrialState

    ended = [trial for trial in study.trials if trial.state == TrialState.COMPLETE]
    if not ended:
        refused = next((trial.user_attrs["refused"] for trial in study.trials if "refused" in trial.user_attrs), "")
        raise UsageError(f"no trial of the search could be trained to its end. {refused}".strip())
    ended.sort(key=lambda trial: (-(trial.value or 0.0), trial.number))
    trials = tuple(
        TrialResult(trial.number, trial.value or 0.0, trial.user_attrs["settings"], trial.user_attrs["run"])
        for trial in ended
    )
    counts = {state.name.lower(): sum(trial.state == state for trial in study.trials) for state in TrialState}
    parameters = {"train_architectures": search.architecture, **search.fixed, **trials[0].settings}
    options = {name: value for name, value in data.options.items() if name != "model_name"}
    words = ["metseg", "run", *(["--data", data.given] if data.given else [])]
    for parameter, value in {**options, **parameters}.items():
        words += ["--param", f"{parameter}={str(value).lower() if isinstance(value, bool) else value}"]
    run = str(study.user_attrs["run"])
    return TuningRecord(search.objective, trials[0], shlex.join(words), counts, trials, run)


def _show(result: TuningRecord, search: Search, folder: Path, console: Console) -> None:
    """Print the best trials and the next command."""
    names = [dimension.name for dimension in search.dimensions]
    title = f"{search.architecture}: {search.objective} of validation patients"
    table = Table("trial", search.objective, *names, title=title, title_justify="left")
    for trial in result.trials[:SHOWN]:
        table.add_row(str(trial.trial), f"{trial.score:.4f}", *(str(trial.settings[name]) for name in names))
    console.print()
    console.print(table)
    counts = result.counts
    console.print(f"{counts['complete']} trials, {counts['pruned']} pruned, {counts['fail']} refused or interrupted")
    console.print(f"All trials  {folder / 'tuning.json'}", highlight=False, soft_wrap=True)
    console.print("\nTrain with the best:", highlight=False)
    console.print(f"  {result.command}", markup=False, highlight=False, soft_wrap=True)
