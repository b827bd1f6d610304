"""The model card of a registered version: use, origin, verdict and failures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from metseg.dataset.manifest import Manifest
from metseg.files import written_beside
from metseg.html_templates import environment
from metseg.scoring.lesion_scores import sensitivity_by_size
from metseg.scoring.patient_scores import summarise_scores
from metseg.scoring.verdict import Verdict
from metseg.training.result_records import EvaluationRecord

FILE = "model_card.md"
FOLDER = "model"
"""Where the winner's run keeps the file: in the folder that the registered version consists of."""

WORST_PATIENTS = 5


@dataclass(frozen=True)
class CardIdentity:
    """Version that a card describes, and its origin.

    Attributes:
        name: registered model.
        version: number in the registry.
        run: MLflow run of the pipeline.
        image: container image that it was trained in; None outside a container.
        created: date of registration, formatted.
    """

    name: str
    version: int
    run: str
    image: str | None
    created: str


@dataclass(frozen=True)
class CardPicture:
    """A picture of a failure: its path relative to the card, and its caption."""

    path: str
    caption: str


def write_model_card(
    path: Path,
    identity: CardIdentity,
    evaluation: EvaluationRecord,
    verdict: Verdict,
    manifest: Manifest,
    pictures: Sequence[CardPicture] = (),
) -> None:
    """Write `model_card` to `path`, atomically."""
    with written_beside(path) as temporary:
        temporary.write_text(model_card(identity, evaluation, verdict, manifest, pictures), encoding="utf-8")


def model_card(
    identity: CardIdentity,
    evaluation: EvaluationRecord,
    verdict: Verdict,
    manifest: Manifest,
    pictures: Sequence[CardPicture] = (),
) -> str:
    """Return the card as Markdown.

    Args:
        identity: of the version.
        evaluation: of the winner.
        verdict: of the gate.
        manifest: of the cohort.
        pictures: of failures; without any, the card names the report.
    """
    patients = evaluation.patients
    unit = "mm" if all(scores.spacing_known for scores in patients.values()) else "voxels"

    def in_unit(words: str) -> str:
        """Replace mm in words by voxels if the spacing is unknown."""
        return words if unit == "mm" else words.replace("mm³", unit).replace("mm", unit)

    spacings = [entry.spacing for entry in manifest.cases if entry.spacing is not None]
    templates = environment(Path(__file__).parent)
    templates.filters |= {"in_unit": in_unit, "cell": _cell}
    return templates.get_template("model_card.html.j2").render(
        identity=identity,
        evaluation=evaluation,
        verdict=verdict,
        manifest=manifest,
        pictures=pictures,
        unit=unit,
        scores=summarise_scores(patients),
        sizes=sensitivity_by_size(lesion for scores in patients.values() for lesion in scores.lesions),
        worst=sorted(patients, key=lambda name: (patients[name].dice, name))[:WORST_PATIENTS],
        sides=[_range(side) for side in zip(*spacings, strict=True)],
        without_spacing=len(manifest.cases) - len(spacings),
    )


def _range(values: Sequence[float]) -> str:
    low, high = min(values), max(values)
    return f"{low:g}" if low == high else f"{low:g} to {high:g}"


def _cell(text: str) -> str:
    """Escape text from the data for a cell of a table."""
    return text.replace("|", "\\|").replace("\n", " ")
