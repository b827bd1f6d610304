"""Copies of the gate's inputs in the output of register.

With them, promote needs neither images nor models.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from metseg.report.run_summary import RunFolders
from metseg.training.configuration import ARCHITECTURES

FOLDER = "judged"
VALIDATION, EVALUATIONS, CHAMPION = "validation", "evaluations", "champion"
PROOFS = ("reference.npz", "overlays")
"""Arrays of the winner: for the report's pictures, and to compare the server's predictions with."""


def copy(registration: Path, validation: Path, evaluations: Mapping[str, Path], champion: Path, winner: str) -> None:
    """Copy the inputs of promote.

    Args:
        registration: output of register.
        validation: output of validate.
        evaluations: outputs of evaluate by network.
        champion: output of the champion's evaluation.
        winner: network that the gate chose.
    """
    folder = registration / FOLDER
    shutil.rmtree(folder, ignore_errors=True)
    _copy(validation, folder / VALIDATION, ("manifest.json", "verdict.json"))
    for name, evaluation in evaluations.items():
        _copy(evaluation, folder / EVALUATIONS / name, ("evaluation.json", *(PROOFS if name == winner else ())))
    _copy(champion, folder / CHAMPION, ("evaluation.json", "reference.npz"))


def _copy(source: Path, target: Path, names: Sequence[str]) -> None:
    target.mkdir(parents=True)
    for name in names:
        if (source / name).is_dir():
            shutil.copytree(source / name, target / name)
        elif (source / name).exists():
            shutil.copyfile(source / name, target / name)


def run_folders(registration: Path, promoted: Path) -> RunFolders:
    """Return the folders that the report reads.

    Args:
        registration: output of register.
        promoted: output of promote.
    """
    folder = registration / FOLDER
    evaluations = [folder / EVALUATIONS / architecture for architecture in ARCHITECTURES]
    return RunFolders(
        validation=folder / VALIDATION,
        evaluations=[evaluation for evaluation in evaluations if evaluation.exists()],
        champion=folder / CHAMPION,
        registration=registration,
        promoted=promoted,
    )
