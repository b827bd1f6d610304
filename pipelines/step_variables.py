"""Variables that each step gets from the caller's environment, by what the step needs."""

from __future__ import annotations

import os

from metseg.child_environment import DATA, FOLDERS, GIT, HARDWARE, MLFLOW, SETTINGS, STORAGE, of_this_process
from metseg.child_environment import child_environment as of_machine
from metseg.settings import Settings
from pipelines.placement import NEEDS

PATHS = FOLDERS | GIT | {"AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE", "AWS_WEB_IDENTITY_TOKEN_FILE"}
"""Paths of this machine, which a container does not have."""


def step_variables(step: str, settings: Settings) -> frozenset[str]:
    """Return the names of the variables of metseg and its libraries that a step needs.

    Args:
        step: its folder in `components`.
        settings: where things are kept; for artifacts in a bucket, MLflow's client needs keys.
    """
    needs, names = NEEDS[step], SETTINGS | FOLDERS
    if needs.mlflow:
        names |= MLFLOW
    if needs.mlflow and settings.artifact_root.startswith("s3:"):
        names |= STORAGE
    return names | DATA if needs.data else names


def withheld(step: str, settings: Settings) -> list[str]:
    """Return the names of variables that a step on this machine must not get."""
    return sorted(os.environ.keys() - of_machine(step_variables(step, settings)).keys())


def for_container(step: str, settings: Settings) -> dict[str, str]:
    """Return the variables that a step in a container gets."""
    return of_this_process(step_variables(step, settings) - PATHS, HARDWARE)
