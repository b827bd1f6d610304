"""Split patients by a hash of the patient, so that growth moves no patient."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from metseg.errors import DataError

SPLITS = ("train", "validation", "test")
BOUNDS = {"train": (0.0, 0.6), "validation": (0.6, 0.8), "test": (0.8, 1.0)}
"""Range of the hashes of each split; the upper bound is excluded."""


@dataclass(frozen=True)
class Assignment:
    """The split of a patient.

    Attributes:
        split: `train`, `validation` or `test`.
        forced: True if the split is not that of the patient's own hash.
    """

    split: str
    forced: bool


def position(patient: str) -> float:
    """Return the patient's position in [0, 1): the first 52 bits of the SHA-256 of the name."""
    return int(hashlib.sha256(patient.encode()).hexdigest()[:13], 16) / 16**13


def own_split(patient: str) -> str:
    """Return the split of the patient's hash."""
    place = position(patient)
    return next(split for split, (lower, upper) in BOUNDS.items() if lower <= place < upper)


def distance(patient: str, split: str) -> float:
    """Return the distance of the patient's hash from the nearest boundary of `split`; 0 inside it."""
    lower, upper = BOUNDS[split]
    return max(lower - position(patient), position(patient) - upper, 0.0)


def split_patients(patients: Iterable[str], earlier: Mapping[str, str] | None = None) -> dict[str, Assignment]:
    """Assign each patient to a split.

    About 60, 20 and 20 of a hundred patients train, validate and test. If a split would be empty, the patient whose
    hash lies nearest to its boundary moves there and is marked as forced; a split that this empties is filled in the
    same way by another patient. More patients never move one that was not forced.

    Args:
        patients: names; repetitions count once.
        earlier: splits from earlier runs, which stay.

    Returns:
        Assignment of every patient, by name in rising order.

    Raises:
        DataError: fewer than three patients, an unknown split in `earlier`, or no patient left to fill a split.
    """
    names = sorted(set(patients))
    fixed = {name: split for name, split in (earlier or {}).items() if name in set(names)}
    if unknown := sorted(set(fixed.values()) - set(SPLITS)):
        raise DataError(f"Earlier assignments name the splits {', '.join(unknown)}; expected {', '.join(SPLITS)}.")
    if len(names) < len(SPLITS):
        raise DataError(
            f"{len(names)} patients found ({', '.join(names) or 'none'}); at least {len(SPLITS)} are needed, one each "
            "to train, validate and test. Add patients. In a folder of pictures, names that differ only in a trailing "
            "_<number> are slices of one patient."
        )
    splits = {name: fixed.get(name, own_split(name)) for name in names}
    movable = set(names) - set(fixed)
    while empty := [split for split in SPLITS if split not in splits.values()]:
        if not movable:
            raise DataError(
                f"No patient is in {empty[0]}, and earlier assignments leave none that could move there. Add patients, "
                "or drop the earlier assignments (a run under another model_name has none)."
            )
        chosen = min(movable, key=lambda name: (distance(name, empty[0]), name))
        splits[chosen] = empty[0]
        movable.remove(chosen)
    return {name: Assignment(splits[name], splits[name] != own_split(name)) for name in names}
