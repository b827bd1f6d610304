"""The model card: what a registered version is for, what it was made from, how it was judged and where it fails."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from metseg.dataset.manifest import Manifest
from metseg.files import written_beside
from metseg.scoring.lesions import sensitivity_by_size
from metseg.scoring.patient import PatientScores, summarise_scores
from metseg.scoring.verdict import Verdict
from metseg.training.records import EvaluationRecord

FILE = "model_card.md"
FOLDER = "model"
"""Where the winner's run keeps the file: in the folder that the registered version consists of."""

WORST_PATIENTS = 5

_NAMES = {
    "dice": "Dice",
    "iou": "IoU",
    "sensitivity": "Sensitivity, voxels",
    "precision": "Precision, voxels",
    "lesion_f1": "Lesion F1, lesions ≥ 4 mm",
    "lesion_sensitivity": "Lesion sensitivity, lesions ≥ 4 mm",
    "lesion_wise_dice": "Lesion-wise Dice, BraTS-METS 2023",
    "lesion_wise_hd95_mm": "Lesion-wise HD95 in mm, BraTS-METS 2023",
    "false_positives": "False positives a patient",
    "hd95_mm": "HD95 in mm",
    "surface_dice": "Surface Dice at 1 mm",
    "volume_error_mm3": "Volume error in mm³",
}


@dataclass(frozen=True)
class CardIdentity:
    """Which version a card describes, and what it came from.

    Attributes:
        name: registered model.
        version: number in the registry.
        run: MLflow run of the pipeline.
        image: container image that it was trained in; None outside a container.
        created: when, as it shall read.
    """

    name: str
    version: int
    run: str
    image: str | None
    created: str


@dataclass(frozen=True)
class CardPicture:
    """A picture of a failure: its path relative to the card, and what it shows."""

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
        identity: which version.
        evaluation: of the winner.
        verdict: of the gate.
        manifest: of the cohort.
        pictures: of failures; without any, the card names the report.
    """
    unit = "mm" if all(scores.spacing_known for scores in evaluation.patients.values()) else "voxels"
    parts = [
        [f"# Model card: {identity.name}, version {identity.version}"],
        ["**Not a medical device.** For research; its output must not guide diagnosis or treatment."],
        _use(evaluation, manifest),
        _model(evaluation, unit),
        _data(manifest),
        _scores(evaluation, unit),
        _sizes(evaluation.patients.values(), unit),
        _failures(evaluation, pictures, unit),
        _verdict(verdict),
        _limits(evaluation, manifest, verdict, unit),
        _origin(identity, evaluation, manifest),
    ]
    return "\n\n".join("\n".join(lines) for lines in parts) + "\n"


def _use(evaluation: EvaluationRecord, manifest: Manifest) -> list[str]:
    channels, labels = ", ".join(evaluation.channels), ", ".join(evaluation.labels)
    return [
        "## Intended use",
        "",
        f"Marks lesions in MRI of the brain, voxel by voxel, as its data's masks do (labels: {labels}), for research:",
        "as a draft that a reader corrects, or to count and measure in studies in which a reader checks every case.",
        f"It needs these channels, registered with each other, in this order: {channels}. Intensities may be raw.",
        "",
        "Not for: diagnosis, treatment planning, triage, images without a reader; other organs, other lesions; other",
        f"channels or channels from another kind of sequence than those of layout `{manifest.layout}`.",
    ]


def _model(evaluation: EvaluationRecord, unit: str) -> list[str]:
    training, description = evaluation.training, evaluation.training.description
    head, threshold = description.inference_head, description.threshold
    volume = f"{description.minimum_volume_mm3:g} {_unit('mm³', unit)}"
    return [
        "## Model",
        "",
        f"`{evaluation.architecture}`, {training.parameters:,} parameters, answer of head `{head}`, slice by",
        f"slice. A voxel is lesion from a probability of {threshold:g}; components under {volume}",
        "are dropped. Both were chosen on validation patients, by lesion F1, and frozen. The served graph holds the",
        "preprocessing.",
    ]


def _data(manifest: Manifest) -> list[str]:
    lines = [
        "## Data",
        "",
        f"`{manifest.reference}`, version `{manifest.version}`, layout `{manifest.layout}`.",
        "Patients were assigned by a hash of their name; all scans of a patient are in one split.",
        "",
        "| split | patients | cases | cases without lesion |",
        "|---|---:|---:|---:|",
    ]
    for split in ("train", "validation", "test"):
        cases = manifest.cases_in(split)
        free = sum(entry.lesion_voxels == 0 for entry in cases)
        lines.append(f"| {split} | {len(manifest.patients(split))} | {len(cases)} | {free} |")
    notes = [f"- {note}" for note in manifest.notes]
    return lines + (["", *notes] if notes else [])


def _scores(evaluation: EvaluationRecord, unit: str) -> list[str]:
    patients = evaluation.patients
    lines = [
        "## Scores",
        "",
        f"Mean over {len(patients)} test patients in original geometry, with 95 % bootstrap intervals. None was",
        f"seen in training: {', '.join(patients)}.",
        "",
        "| score | mean | 95 % interval | patients |",
        "|---|---:|---:|---:|",
    ]
    for name, summary in summarise_scores(patients).items():
        digits = 1 if name in ("hd95_mm", "lesion_wise_hd95_mm", "volume_error_mm3", "false_positives") else 3
        low, high = (f"{limit:.{digits}f}" for limit in summary.interval)
        lines.append(
            f"| {_unit(_NAMES[name], unit)} | {summary.mean:.{digits}f} | {low} to {high} | {summary.patients} |"
        )
    if unit == "voxels":
        lines += ["", "The spacing is unknown: lengths and volumes are in voxels, distances of surfaces are left out."]
    return lines


def _sizes(patients: Iterable[PatientScores], unit: str) -> list[str]:
    lines = [
        "## Lesions found, by size",
        "",
        "| diameter of the sphere of equal volume | lesions | found | sensitivity |",
        "|---|---:|---:|---:|",
    ]
    for entry in sensitivity_by_size(lesion for scores in patients for lesion in scores.lesions):
        share = "–" if entry.sensitivity is None else f"{entry.sensitivity:.2f}"
        lines.append(f"| {_unit(entry.name, unit)} | {entry.lesions} | {entry.detected} | {share} |")
    return lines


def _failures(evaluation: EvaluationRecord, pictures: Sequence[CardPicture], unit: str) -> list[str]:
    worst = sorted(evaluation.patients, key=lambda name: (evaluation.patients[name].dice, name))[:WORST_PATIENTS]
    lines = [
        "## Where it fails",
        "",
        "The test patients with the lowest Dice:",
        "",
        f"| patient | Dice | lesions | missed | largest missed, {unit} | false positives |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    for name in worst:
        scores = evaluation.patients[name]
        missed = [lesion.diameter_mm for lesion in scores.lesions if not lesion.matched]
        largest = f"{max(missed):.1f}" if missed else "–"
        counts = f"{len(scores.lesions)} | {len(missed)} | {largest} | {scores.false_positives:g}"
        lines.append(f"| {_cell(name)} | {scores.dice:.3f} | {counts} |")
    lines.append("")
    if pictures:
        return lines + [f"![{picture.caption}]({picture.path})\n*{picture.caption}*\n" for picture in pictures]
    return [*lines, "Pictures of the best, the median and the worst patient are in the run's `report.html`."]


def _verdict(verdict: Verdict) -> list[str]:
    lines = ["## Verdict of the gate", "", verdict.summary, "", "| check | passed | found |", "|---|---|---|"]
    lines += [
        f"| {check.name} | {'yes' if check.passed else 'NO'} | {_cell(check.detail)} |" for check in verdict.checks
    ]
    gains = [gain.detail for gain in verdict.gains]
    return lines + (["", *gains] if gains else [])


def _limits(evaluation: EvaluationRecord, manifest: Manifest, verdict: Verdict, unit: str) -> list[str]:
    patients = evaluation.patients.values()
    count = len(evaluation.patients)
    lines = [
        "## Limits",
        "",
        f"- Judged on {count} patients of the same cohort: on no other hospital, scanner or protocol.",
    ]
    if verdict.underpowered:
        lines.append("- Too few test patients for a statistical comparison: point estimates decided.")
    if not any(not scores.lesions for scores in patients):
        lines.append("- No test patient is free of lesions: how often it marks a head without any is unknown.")
    for entry in sensitivity_by_size(lesion for scores in patients for lesion in scores.lesions):
        if entry.lesions < 10:
            known = "hardly" if entry.lesions else "not"
            lines.append(
                f"- Lesions of {_unit(entry.name, unit)} among the test patients: {entry.lesions}. "
                f"How many of such it finds is {known} known."
            )
    spacings = [entry.spacing for entry in manifest.cases if entry.spacing is not None]
    if spacings:
        sides = [_range(side) for side in zip(*spacings, strict=True)]
        lines.append(f"- Seen voxels: {sides[0]} mm between slices, {sides[1]} × {sides[2]} mm within.")
    if len(spacings) < len(manifest.cases):
        lines.append(f"- {len(manifest.cases) - len(spacings)} cases came without spacing, which was taken as 1 mm.")
    lines.append("- The truth is what readers drew; the scores say how far it agrees with them, not who is right.")
    return lines


def _origin(identity: CardIdentity, evaluation: EvaluationRecord, manifest: Manifest) -> list[str]:
    commit = f", commit `{manifest.commit}`" if manifest.commit else ""
    return [
        "## Origin",
        "",
        f"- registered: {identity.name} version {identity.version}, {identity.created}",
        f"- runs: pipeline `{identity.run}`, training `{evaluation.training.run}`",
        f"- data: `{manifest.resolved or manifest.reference}`, version `{manifest.version}`{commit}",
        f"- code: Git commit `{evaluation.training.description.git_commit}`",
        f"- image: {f'`{identity.image}`' if identity.image else 'none, trained outside a container'}",
        f"- SavedModel: SHA-256 `{evaluation.savedmodel_sha256}`",
        "",
        f"`metseg lineage {identity.version} --model-name {identity.name}` checks each of them.",
    ]


def _range(values: Sequence[float]) -> str:
    low, high = min(values), max(values)
    return f"{low:g}" if low == high else f"{low:g} to {high:g}"


def _cell(text: str) -> str:
    """Escape text from the data for a cell of a table."""
    return text.replace("|", "\\|").replace("\n", " ")


def _unit(words: str, unit: str) -> str:
    """Replace mm in words by voxels if the spacing is unknown."""
    return words if unit == "mm" else words.replace("mm³", unit).replace("mm", unit)
