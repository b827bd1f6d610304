"""Data reference and model name of a run: own data, or the phantom cohort."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from metseg.commands.phantom import phantom
from metseg.serving_defaults import MODEL_NAME

if TYPE_CHECKING:
    from metseg.settings import Settings

PHANTOM_BUDGET = {"train_epochs": 8, "train_steps_per_epoch": 64, "train_batch_size": 4}
"""Training budget on the phantom cohort: both networks in minutes on two cores."""


@dataclass(frozen=True)
class TrainingData:
    """Data of a run and what follows from them.

    Attributes:
        reference: data reference that any process of the run can resolve.
        model_name: registered model of a run on these data.
        budget: default training budget.
        phantom: folder of the phantom cohort to make if it does not exist; None for the user's own data.
    """

    reference: str
    model_name: str
    budget: dict[str, int]
    phantom: Path | None = None

    @classmethod
    def of(cls, data: str | None, settings: Settings) -> TrainingData:
        """Return the data that the option `--data` names; the phantom cohort by default.

        Raises:
            UsageError: the reference is malformed.
        """
        if data is None:
            return cls(str(settings.data), MODEL_NAME, PHANTOM_BUDGET, settings.data)
        reference, name = _named(data)
        return cls(reference, f"{MODEL_NAME}-{re.sub(r'[^A-Za-z0-9]+', '-', name).strip('-').lower()}", {})

    def make_phantom(self) -> None:
        """Make the phantom cohort if the run reads it and it does not exist yet."""
        if self.phantom is not None and not self.phantom.is_dir():
            phantom(self.phantom)


def _named(data: str) -> tuple[str, str]:
    """Return the reference with an absolute path, and a short name of the data."""
    from metseg.dataset.references.syntax import Archive, Folder, GitRevision, S3Archive, parse

    parsed = parse(data)
    if isinstance(parsed, Folder):
        return str(parsed.path.resolve()), parsed.path.resolve().name
    if isinstance(parsed, Archive):
        return str(parsed.path.resolve()), parsed.path.name.partition(".")[0]
    if isinstance(parsed, GitRevision):
        return data, parsed.url.rpartition("/")[2].removesuffix(".git")
    if isinstance(parsed, S3Archive):
        return data, parsed.key.rpartition("/")[2].partition(".")[0]
    return data, parsed.prefix.rpartition("/")[2] or parsed.bucket
