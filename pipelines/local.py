"""The training pipeline on one machine: the same definition, through `kfp.local`, in the current environment."""

from __future__ import annotations

import contextlib
import logging
import os
import secrets
import shutil
import time
import warnings
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from components.configuration.parsing import pack
from metseg.errors import MetsegError, UsageError
from metseg.process_environment import apply_defaults
from metseg.report.run_summary import OVERLAY, REPORT, SUMMARY, RunSummary
from metseg.settings import Settings
from metseg.tracking import mlflow_runs
from metseg.tracking.mlflow_errors import explained
from metseg.tracking.registration import RUN_RECORD, RunRecord
from metseg.training.configuration import DEFAULT_ARCHITECTURES, architectures_of
from pipelines import containers
from pipelines.console import StepConsole
from pipelines.step_variables import withheld

logger = logging.getLogger(__name__)


def _new_run_folder(runs: Path) -> Path:
    """Create a folder for this run, named after the time."""
    stamp = time.strftime("%Y-%m-%dT%H-%M-%S")
    for suffix in ("", *(f"-{number}" for number in range(2, 100))):
        folder = runs / f"{stamp}{suffix}"
        try:
            folder.mkdir(parents=True)
        except FileExistsError:
            continue
        return folder
    raise MetsegError(f"no free name for a run in {runs}")


def _point_latest(folder: Path) -> None:
    """Point `runs/latest` at a finished run."""
    temporary = folder.parent / f".latest.{secrets.token_hex(4)}"
    temporary.symlink_to(folder.name)
    temporary.replace(folder.parent / "latest")


def _for_this_machine(pipeline: Any, settings: Settings, in_containers: bool) -> Any:
    """Return the pipeline without settings for pods, each step with its own variables.

    Those are a task's retries, since an error on this machine is a lasting one, and the variables of a pod's
    folders and image. Outside a container `kfp.local` hands a step everything that this process has; `env` takes out
    what the step does not need.
    """
    specification = pipeline.pipeline_spec
    for graph in (specification.root.dag, *(component.dag for component in specification.components.values())):
        for task in graph.tasks.values():
            task.ClearField("retry_policy")
    for label, executor in specification.deployment_spec["executors"].items():
        container, step = executor["container"], label.split("-")[1]
        variables = [] if "env" not in container else list(container["env"])
        container.fields.pop("env", None)
        if in_containers:
            given = containers.environment(settings, step)
            container["env"] = [*variables, *({"name": name, "value": value} for name, value in given.items())]
        else:
            unset = [word for name in withheld(step, settings) for word in ("-u", name)]
            container["command"] = ["env", *unset, *container["command"]]
    return pipeline


def _execute(folder: Path, values: dict[str, Any], console: Console, settings: Settings, in_containers: bool) -> None:
    """Run the pipeline for the selected networks, its outputs below `folder/steps`.

    Raises:
        MetsegError: a step failed; the message is the step's own where it gave one.
    """
    from kfp import local

    from pipelines.training import training_pipeline

    warnings.filterwarnings("ignore", module="kfp.*")
    steps = folder / "steps"
    networks = architectures_of(values.get("train_architectures", DEFAULT_ARCHITECTURES))
    runner = (
        containers.runner(settings, values["data_reference"], steps)
        if in_containers
        else local.SubprocessRunner(use_venv=False)
    )
    local.init(runner=runner, pipeline_root=str(steps), raise_on_error=True)
    log_path = folder / "log.txt"
    with log_path.open("w", encoding="utf-8") as log, contextlib.closing(StepConsole(console, log)) as out:
        try:
            with contextlib.redirect_stdout(out):
                _for_this_machine(training_pipeline(networks), settings, in_containers)(**pack(values))
            if out.error is not None:
                # kfp treats a container removed before its exit code is read as successful.
                raise RuntimeError("a step reported a failure")
        except RuntimeError as error:
            if out.error is not None:
                failure = UsageError if out.error["code"] == UsageError.exit_code else MetsegError
                raise failure(f"{out.error['step']}: {out.error['message']}") from error
            raise MetsegError(
                f"unexpected failure of step {out.failure or error}; everything that it printed is in {log_path}"
            ) from error


def _fail_in_mlflow(folder: Path, name: str, began: float, settings: Settings) -> None:
    """Mark the run and its training runs as failed in MLflow, if it responds.

    Where ingest left no record of the run, it is the one of that name since the beginning.
    """
    try:
        tracking = mlflow_runs.client(settings)
        recorded = [RunRecord.read(path).run for path in (folder / "steps").rglob(RUN_RECORD)]
        opened = set(recorded) or mlflow_runs.running_since(tracking, name, int(began * 1000))
        mlflow_runs.fail_unfinished(tracking, opened)
    except Exception as error:
        reason = explained(error, settings.tracking_uri) or error
        logger.warning("the failed run stays RUNNING in MLflow: %s", reason)


def _collect(folder: Path) -> RunSummary:
    """Copy the run's summary, report and picture to the top of its folder."""
    summaries = sorted((folder / "steps").rglob(SUMMARY))
    if not summaries:
        raise MetsegError(f"the run left no {SUMMARY} below {folder / 'steps'}; see {folder / 'log.txt'}")
    for name in (SUMMARY, REPORT, OVERLAY):
        source = summaries[-1].parent / name
        if source.exists():
            shutil.copyfile(source, folder / name)
    return RunSummary.read(folder / SUMMARY)


def print_summary(summary: RunSummary, folder: Path, settings: Settings, console: Console) -> None:
    """Print the results of a run, the paths of its files and the next commands."""
    table = Table(title="Test patients: " + ", ".join(summary.data.test_patients), title_justify="left")
    for heading in ("network", "parameters", "Dice", "IoU", "sensitivity", "precision", "lesion F1"):
        table.add_column(heading, justify="left" if heading == "network" else "right")
    for architecture, model in summary.models.items():
        scores = (model.dice, model.iou, model.sensitivity, model.precision, model.lesion_f1)
        name = architecture + (" (winner)" if architecture == summary.winner else "")
        table.add_row(name, f"{model.parameters:,}", *("–" if score is None else f"{score:.3f}" for score in scores))
    console.print()
    console.print(table)
    baseline = max(model.threshold_baseline_dice for model in summary.models.values())
    console.print(f"The best single intensity threshold on the same patients reaches Dice {baseline:.3f}.")
    verdict, registered, served = summary.verdict, summary.registered, summary.served
    console.print(f"[bold]{'PASSED' if verdict.passed else verdict.outcome.upper()}[/bold]: {verdict.summary}")
    if registered:
        aliases = ", ".join(registered.aliases) or "none"
        console.print(f"Registered: {registered.name} version {registered.version}, aliases {aliases}")
    if served:
        console.print(
            f"Served over gRPC as stable: version {served.version}, differs from the trained model by at most "
            f"{served.max_abs_difference:.1e}, Dice {served.dice:.3f} on {served.patient_case}"
        )
    steps = ", ".join(f"{name} {cost.seconds:.0f}" for name, cost in summary.steps.items())
    console.print(f"Seconds: {steps}; all {sum(cost.seconds for cost in summary.steps.values()):.0f}")

    def shown(path: Path) -> str:
        return os.path.relpath(path) if path.is_relative_to(Path.cwd()) else str(path)

    console.print(f"\nSummary  {shown(folder.parent / 'latest' / SUMMARY)}", highlight=False)
    console.print(f"Report   {shown(folder.parent / 'latest' / REPORT)}", highlight=False)
    console.print(f"Overlay  {shown(folder.parent / 'latest' / OVERLAY)}", highlight=False)
    console.print("\nNext:", highlight=False)
    for command, purpose in (
        ("make ui", "compare runs and versions in the MLflow UI"),
        ("make serve", "serve the champion over gRPC"),
        ("make predict IMAGES='FILE …'", "segment images through that server"),
    ):
        console.print(f"  {command:<32} {purpose}", highlight=False)


def run(values: dict[str, Any], settings: Settings, console: Console, in_containers: bool = False) -> RunSummary:
    """Run the pipeline on this machine and print its result.

    Args:
        values: settings of the run by full name.
        settings: where things are kept.
        console: for progress and result.
        in_containers: whether every step runs in its image instead of this environment.

    Returns:
        The run's summary.
    """
    apply_defaults()
    os.environ.update(settings.to_environment())
    os.environ["METSEG_PROGRESS"] = "lines"
    os.environ["PYTHONUNBUFFERED"] = "1"
    folder = _new_run_folder(settings.runs)
    console.print(f"Run {folder.name}: {values['data_reference']} → {values['model_name']}", highlight=False)
    values = {**values, "run_name": values.get("run_name") or folder.name}
    began = time.time()
    try:
        _execute(folder, values, console, settings, in_containers)
    except BaseException:
        _fail_in_mlflow(folder, values["run_name"], began, settings)
        raise
    summary = _collect(folder)
    _point_latest(folder)
    print_summary(summary, folder, settings, console)
    return summary
