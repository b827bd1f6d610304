"""Opponent of a run's candidates: the champion at the start of the run."""

from __future__ import annotations

from metseg.errors import MetsegError
from metseg.settings import Settings
from metseg.tracking import mlflow_runs, model_registry
from metseg.tracking.registry_values import version_number
from metseg.tracking.serving_labels import CHAMPION

OPPONENT_TAG = "gate.champion"
NO_OPPONENT = "none"


def opponent_of(run: str, model_name: str) -> model_registry.Version | None:
    """Return the version that a run competes with; None if there was no champion.

    The first call notes it in the run: a step that is repeated after promotion must not meet the run's own model.

    Args:
        run: MLflow run of the pipeline.
        model_name: registered model.

    Raises:
        MetsegError: the version is gone from the registry.
    """
    tracking = mlflow_runs.client(Settings.from_environment())
    noted = tracking.get_run(run).data.tags.get(OPPONENT_TAG)
    if noted is None:
        champion = model_registry.version_of_alias(tracking, model_name, CHAMPION)
        tracking.set_tag(run, OPPONENT_TAG, str(champion.number) if champion else NO_OPPONENT)
        return champion
    if noted == NO_OPPONENT:
        return None
    number = version_number(noted)
    version = model_registry.version(tracking, model_name, number) if number is not None else None
    if version is None:
        raise MetsegError(
            f"version {noted} of {model_name} was champion when run {run} began, and the registry no longer holds it: "
            "start a new run"
        )
    return version
