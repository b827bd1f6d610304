"""Search for the settings of a training run: an Optuna study, its trials in MLflow."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from metseg.dataset.manifest import Manifest
from metseg.errors import MetsegError, UsageError
from metseg.imaging.preprocessing.specification import PreprocessingSpecification
from metseg.quiet_tensorflow import import_tensorflow
from metseg.records import Record
from metseg.settings import Settings
from metseg.tracking import mlflow_runs
from metseg.tracking.code_version import git_commit, training_code_digest
from metseg.training.configuration import TrainingConfiguration
from metseg.tuning.search_space import PREPROCESSING, Dimension, readable

if TYPE_CHECKING:
    import optuna
    from mlflow import MlflowClient

    from metseg.training.operating_point_search import JudgedHeads
    from metseg.training.training_monitor import EpochReport

logger = logging.getLogger(__name__)

OBJECTIVES = ("lesion_f1", "dice")
UNPRUNED_TRIALS = 4
"""Number of trials that are trained to their end before the first may be pruned."""
UNPRUNED_SHARE = 0.25
"""Share of the epochs after which a trial may be pruned."""

Prepare = Callable[[Mapping[str, object]], Path]
"""Returns the records of a cohort for settings of preprocess."""


@dataclass(frozen=True)
class TrialResult:
    """A finished trial: number, score, varied settings by full name, and MLflow run."""

    trial: int
    score: float
    settings: Mapping[str, bool | int | float | str]
    run: str


@dataclass(frozen=True)
class TuningRecord(Record):
    """Result of a search: `tuning.json`.

    Attributes:
        objective: the maximised score.
        best: the best trial.
        command: run with its settings.
        counts: trials by state, such as `complete`.
        trials: every finished trial, the best first.
        run: MLflow run that the trials are nested in.
    """

    objective: str
    best: TrialResult
    command: str
    counts: Mapping[str, int]
    trials: tuple[TrialResult, ...]
    run: str


@dataclass(frozen=True)
class Search:
    """Space and length of a search.

    Attributes:
        architecture: of the network.
        dimensions: varied settings.
        fixed: settings of preprocess and train that are not varied, by name; others are at their defaults.
        objective: mean score of the validation patients that is maximised: `lesion_f1` or `dice`.
        trials: number of trials in the end, including those of earlier calls.
    """

    architecture: str
    dimensions: tuple[Dimension, ...]
    fixed: Mapping[str, object]
    objective: str
    trials: int

    def configuration(self, chosen: Mapping[str, object]) -> TrainingConfiguration:
        """Return the settings of one trial's training run.

        Raises:
            UsageError: they do not fit together.
        """
        settings = {**self.fixed, **chosen}
        training: dict[str, Any] = {
            name.removeprefix("train_"): settings[name] for name in settings if name not in PREPROCESSING
        }
        return TrainingConfiguration(self.architecture, **training)

    def check(self) -> None:
        """Check the search before anything is read.

        Raises:
            UsageError: a parameter is out of range, or both varied and given.
        """
        self.configuration({})
        for dimension in self.dimensions:
            if dimension.name in self.fixed:
                raise UsageError(f"{dimension.name} is searched and given by --param too: leave one out")
            for value in dimension.choices or (dimension.low, dimension.high):
                self.configuration({dimension.name: value})

    def preprocessing(self, chosen: Mapping[str, object]) -> dict[str, object]:
        """Return the settings of preprocess of one trial."""
        settings = {**self.fixed, **chosen}
        return {name.removeprefix("data_"): settings[name] for name in PREPROCESSING if name in settings}

    def identity(self) -> dict[str, object]:
        """Return all that must stay the same for a study to be resumed, as JSON."""
        space = {dimension.name: str(dimension) for dimension in self.dimensions}
        fixed = {name: str(value) for name, value in self.fixed.items()}
        return {"architecture": self.architecture, "search": space, "fixed": fixed, "objective": self.objective}


def open_study(path: Path, name: str, search: Search) -> optuna.Study:
    """Open the study in the SQLite file `path`.

    Trials that a killed process left unfinished are queued again.

    Raises:
        UsageError: the study was begun with another search.
    """
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    path.parent.mkdir(parents=True, exist_ok=True)
    fewest = max(1, round(UNPRUNED_SHARE * search.configuration({}).epochs))
    study = optuna.create_study(
        storage=f"sqlite:///{path}",
        study_name=name,
        load_if_exists=True,
        direction="maximize",
        pruner=optuna.pruners.MedianPruner(n_startup_trials=UNPRUNED_TRIALS, n_warmup_steps=fewest),
    )
    # Another seed for each call, or it would draw the same settings again.
    study.sampler = optuna.samplers.TPESampler(seed=search.configuration({}).seed + len(study.trials))
    began_with = study.user_attrs.get("search")
    if began_with is None:
        study.set_user_attr("search", search.identity())
    elif began_with != search.identity():
        raise UsageError(f"the study {name} was begun with another search ({began_with}): give another --study")
    for trial in study.get_trials(deepcopy=False, states=(optuna.trial.TrialState.RUNNING,)):
        study.tell(trial.number, state=optuna.trial.TrialState.FAIL)
        study.enqueue_trial(trial.params)
    return study


def finished(study: optuna.Study) -> int:
    """Return the number of trials that were trained, pruned or refused, not killed."""
    from optuna.trial import TrialState

    ended = [TrialState.COMPLETE, TrialState.PRUNED]
    return sum(trial.state in ended or "refused" in trial.user_attrs for trial in study.trials)


def tune(
    search: Search, study: optuna.Study, cohort: Path, prepare: Prepare, tracking: MlflowClient, parent: str
) -> None:
    """Train trial after trial until the study has the requested number.

    A trial whose settings contradict each other, whose loss becomes NaN or that does not fit into memory counts as
    refused, and the search continues.

    Args:
        search: space and length.
        study: of `open_study`.
        cohort: output of ingest.
        prepare: returns the records.
        tracking: MLflow client.
        parent: MLflow run that the trials are nested in.
    """
    import optuna
    from optuna.trial import TrialState

    distributions = {dimension.name: dimension.distribution() for dimension in search.dimensions}
    while (done := finished(study)) < search.trials:
        trial = study.ask(distributions)
        chosen = {name: readable(value) for name, value in trial.params.items()}
        trial.set_user_attr("settings", chosen)
        shown = ", ".join(f"{name}={value}" for name, value in chosen.items())
        logger.info("trial %d (%d of %d): %s", trial.number, done + 1, search.trials, shown)
        try:
            score = _score(search, trial, chosen, cohort, prepare, tracking, parent)
        except optuna.TrialPruned as pruned:
            logger.info("pruned: %s", pruned)
            study.tell(trial, state=TrialState.PRUNED)
        except MetsegError as error:
            logger.warning("refused: %s", error)
            trial.set_user_attr("refused", str(error))
            study.tell(trial, state=TrialState.FAIL)
        else:
            study.tell(trial, score)
            best = study.best_trial
            logger.info("%s %.4f; best %.4f of trial %d", search.objective, score, study.best_value, best.number)


def _score(
    search: Search,
    trial: optuna.Trial,
    chosen: Mapping[str, object],
    cohort: Path,
    prepare: Prepare,
    tracking: MlflowClient,
    parent: str,
) -> float:
    """Train with the chosen settings and return the score on validation patients.

    The trial has a run in MLflow, which is closed in any case.

    Raises:
        optuna.TrialPruned: the validation Dice lies below the median of earlier trials at the same epoch.
    """
    import optuna

    settings, configuration = Settings.from_environment(), search.configuration(chosen)
    manifest, records = Manifest.read(cohort / "manifest.json"), prepare(search.preprocessing(chosen))
    specification = PreprocessingSpecification.read(records / "preprocessing.json")
    tags = {
        "architecture": search.architecture,
        "data.version": manifest.version,
        "git.commit": git_commit(),
        "metseg.kind": "trial",
    }
    parameters = {**asdict(configuration), "preprocessing": specification.to_json()}
    run = mlflow_runs.start_run(tracking, settings, f"trial {trial.number}", parameters, tags, parent=parent)
    trial.set_user_attr("run", run)

    def report(epoch: int, figures: dict[str, float]) -> None:
        mlflow_runs.log_metrics(tracking, run, figures, step=epoch + 1)
        trial.report(figures["val_dice"], epoch)
        if epoch + 1 < configuration.epochs and trial.should_prune():
            dice = f"{figures['val_dice']:.3f} after epoch {epoch + 1}"
            raise optuna.TrialPruned(f"validation Dice {dice} lies below the median of the others")

    status, started = "FAILED", time.monotonic()
    decisive = (manifest.digest(), specification.digest(), training_code_digest())
    state = settings.state / configuration.digest("tune", *decisive)
    try:
        judged = _train(cohort, records, manifest, specification, configuration, state, report)
        figures = {
            "validation_dice": judged.point.dice,
            "validation_lesion_f1": judged.point.lesion_f1,
            "parameters": judged.exported.parameters,
            "training_seconds": time.monotonic() - started,
        }
        mlflow_runs.log_metrics(tracking, run, figures, step=configuration.epochs)
        status = "FINISHED"
        return float(getattr(judged.point, search.objective))
    except optuna.TrialPruned:
        # As in Optuna's own integrations.
        status = "KILLED"
        raise
    finally:
        tracking.set_terminated(run, status)


def _train(
    cohort: Path,
    records: Path,
    manifest: Manifest,
    specification: PreprocessingSpecification,
    configuration: TrainingConfiguration,
    state: Path,
    report: EpochReport,
) -> JudgedHeads:
    """Train and judge one network; only a killed process leaves checkpoints in `state`."""
    import optuna

    import_tensorflow()
    from metseg.training.loop import forget, train_heads
    from metseg.training.network_building import clear_networks
    from metseg.training.operating_point_search import judge_heads

    clear_networks()
    try:
        stacked, _ = train_heads(records, specification.context_slices, configuration, state, report)
        judged = judge_heads(stacked, cohort, records, manifest, specification, configuration.inference_head)
    except (MetsegError, optuna.TrialPruned):
        forget(state)
        raise
    forget(state)
    return judged
