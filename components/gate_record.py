"""What the gate judged, kept small in the output of register: promote serves and reports from it.

So neither register nor promote brings the cohort's images into its pod.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from metseg.report.run_summary import RunFolders
from metseg.training.configuration import ARCHITECTURES

FOLDER = "judged"
VALIDATION, EVALUATIONS, CHAMPION = "validation", "evaluations", "champion"
RECORDS = ("evaluation.json", "training.json")
PROOFS = ("reference.npz", "overlays")
"""What a report shows of the winner, and what the server's answer is compared with."""


def keep(registration: Path, validation: Path, evaluations: Mapping[str, Path], champion: Path, winner: str) -> None:
    """Copy what promote needs.

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
        _copy(evaluation, folder / EVALUATIONS / name, (*RECORDS, *(PROOFS if name == winner else ())))
    _copy(champion, folder / CHAMPION, (*RECORDS, "reference.npz"))


def _copy(source: Path, target: Path, names: Sequence[str]) -> None:
    target.mkdir(parents=True)
    for name in names:
        if (source / name).is_dir():
            shutil.copytree(source / name, target / name)
        elif (source / name).exists():
            shutil.copyfile(source / name, target / name)


def run_folders(registration: Path, promoted: Path) -> RunFolders:
    """Return where the report finds what the steps left.

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
