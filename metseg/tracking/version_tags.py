"""Tags of a registered version, and its description in Markdown."""

from __future__ import annotations

from typing import TYPE_CHECKING

from metseg.dataset.manifest import Manifest
from metseg.scoring.patient_scores import ScoreSummary, summarise_scores

if TYPE_CHECKING:
    from mlflow import MlflowClient

    from metseg.scoring.verdict import Verdict
    from metseg.training.result_records import EvaluationRecord

SPLITS = ("train", "validation", "test")
DESCRIBED = ("dice", "iou", "sensitivity", "precision", "lesion_f1")

TAG_LENGTH = 20_000
"""What any database behind MLflow holds in a tag; longer lists of patients are in the manifest of the run alone."""

DESCRIPTION_LENGTH = 5000
"""What MLflow's database holds of a description."""


def image_of(tracking: MlflowClient, run: str) -> str | None:
    """Return the container image of a training run, by its tags; None outside a container."""
    image: str | None = tracking.get_run(run).data.tags.get("container.image")
    return image


def version_tags(
    winner: EvaluationRecord, verdict: Verdict, manifest: Manifest, run: str, image: str | None
) -> dict[str, str]:
    """Return the tags of a version that passed the gate.

    Args:
        winner: its evaluation.
        verdict: of the gate.
        manifest: of the cohort.
        run: MLflow run of the pipeline.
        image: container image that it was trained in.
    """
    description = winner.training.description
    optional = {"data.commit": manifest.commit, "container.image": image}
    return {
        "architecture": winner.architecture,
        "inference_head": description.inference_head,
        "channels": ",".join(winner.channels),
        "labels": ",".join(winner.labels),
        "data.version": manifest.version,
        "data.reference": manifest.resolved or manifest.reference,
        **{name: value for name, value in optional.items() if value},
        **{f"patients.{split}": _patients(manifest, split) for split in SPLITS},
        "git.commit": description.git_commit,
        "metseg.version": description.metseg_version,
        "pipeline.run_id": run,
        "gate": "passed",
        "verdict": verdict.summary[:TAG_LENGTH],
        "threshold": str(description.threshold),
        "minimum_volume_mm3": str(description.minimum_volume_mm3),
        "preprocessing.sha256": description.preprocessing.digest(),
        "savedmodel.sha256": winner.savedmodel_sha256,
        **_score_tags(winner),
    }


def version_description(winner: EvaluationRecord, verdict: Verdict, manifest: Manifest, run: str) -> str:
    """Return the description of a version as Markdown.

    The model card among its files has the details.
    """
    summaries = summarise_scores(winner.patients)
    rows = [f"| {name} | {summaries[name].mean:.3f} | {_interval(summaries[name], 3)} |" for name in DESCRIBED]
    patients = ", ".join(f"{len(manifest.patients(split))} {split}" for split in SPLITS)
    commit = winner.training.description.git_commit
    origin = f"Data version `{manifest.version}`, patients: {patients}. Git commit `{commit}`."
    text = "\n".join(
        [
            f"**{winner.architecture}** on {', '.join(winner.channels)}. {verdict.summary}",
            "",
            f"| score, {len(winner.patients)} test patients | mean | 95 % interval |",
            "|---|---:|---:|",
            *rows,
            "",
            f"{origin} Pipeline run `{run}`, training run `{winner.training.run}`.",
            "",
            "Not a medical device. `model_card.md` among this version's files describes its use and its failures.",
        ]
    )
    return text[:DESCRIPTION_LENGTH]


def _patients(manifest: Manifest, split: str) -> str:
    """Return the number and names of the patients of a split."""
    patients = manifest.patients(split)
    text = f"{len(patients)}: {', '.join(patients)}"
    return text if len(text) <= TAG_LENGTH else f"{len(patients)}: named in data/manifest.json of the pipeline's run"


def _score_tags(winner: EvaluationRecord) -> dict[str, str]:
    """Return the mean and 95 % interval of each score over the test patients."""
    tags = {}
    for name, summary in summarise_scores(winner.patients).items():
        tags[f"test.{name}"] = f"{summary.mean:.6f}"
        tags[f"test.{name}.interval"] = _interval(summary, 4)
    return tags


def _interval(summary: ScoreSummary, digits: int) -> str:
    low, high = summary.interval
    return f"{low:.{digits}f} to {high:.{digits}f}"
