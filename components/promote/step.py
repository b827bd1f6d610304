"""Promote: the only way to serving. Publish, load, compare golden answers, label, move the alias; then report."""

from __future__ import annotations

import logging
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from metseg.errors import PublishError
from metseg.files import read_json, write_json
from metseg.report.files import FIGURES, OVERLAY, REPORT, SUMMARY
from metseg.scoring import overlap
from metseg.serving.model_config import write_model_config
from metseg.serving.publish import publish, saved_model_digest, unpublish
from metseg.settings import Settings
from metseg.tracking import registry, runs

if TYPE_CHECKING:
    from mlflow import MlflowClient

    from metseg.serving.client import SegmentationClient

logger = logging.getLogger(__name__)

TOLERANCE = 1e-5
CONFIG = "models.config"


@dataclass(frozen=True)
class Serving:
    """Where the model is served from.

    Attributes:
        name: registered model and TF Serving model.
        root: folder that holds `models.config` and one folder a model.
    """

    name: str
    root: Path

    @property
    def base(self) -> Path:
        """The model's base path."""
        return self.root / self.name

    def configure(self, labels: dict[str, int]) -> None:
        """Write the config file with the labelled versions, all other models untouched."""
        self.root.mkdir(parents=True, exist_ok=True)
        write_model_config(self.root / CONFIG, self.name, self.base, sorted(set(labels.values())), labels)


def _compare(client: SegmentationClient, golden: Path) -> float:
    """Largest difference between the server's answers and the stored ones; masks must be identical.

    Raises:
        PublishError: the answers differ.
    """
    worst = 0.0
    with np.load(golden) as stored:
        for key in [name for name in stored.files if name.startswith("image_")]:
            expected = stored[key.replace("image", "probability")]
            answer = client.predict(stored[key])
            worst = max(worst, float(np.abs(answer.probability - expected).max()))
            if not np.array_equal(answer.mask, (expected >= stored["threshold"]).astype(np.uint8)):
                raise PublishError("the server's masks of the golden requests differ from the trained model's")
    if worst > TOLERANCE:
        raise PublishError(f"the server's probabilities differ from the trained model's by {worst:.1e} > {TOLERANCE}")
    return worst


def _reference_answer(client: SegmentationClient, evaluation: Path) -> dict[str, float | int | str]:
    """What the server answers on a test patient, against the independent path and against the truth."""
    with np.load(evaluation / "reference.npz") as stored:
        answer = client.predict(stored["image"])
        truth = stored["truth"]
        return {
            "version": int(answer.version),
            "max_abs_difference": float(np.abs(answer.probability - stored["probability"]).max()),
            "dice": overlap.dice(overlap.count_overlap(truth, answer.mask > 0)),
            "patient_case": str(stored["case"]),
        }


def _publish_registered(tracking: MlflowClient, serving: Serving, version: registry.Version) -> None:
    """Copy the registered artifact to the base path, after its digest was found to be the registered one."""
    with tempfile.TemporaryDirectory() as scratch:
        saved_model = registry.download(tracking, version.name, version.number, Path(scratch)) / "tf2model"
        digest = saved_model_digest(saved_model)
        if digest != version.tags.get("savedmodel.sha256"):
            raise PublishError(
                f"version {version.number} of {version.name} has digest {digest}, but was registered with "
                f"{version.tags.get('savedmodel.sha256')}: the artifact store was changed; nothing was published"
            )
        publish(saved_model, serving.base, version.number)
    logger.info("published version %d to %s", version.number, serving.base)


def _with_server(serving: Serving) -> Any:
    """An embedded server on a free port that serves what the config file says."""
    from metseg.serving.server import ModelServer, ServerOptions

    return ModelServer(
        ServerOptions(
            port=0,
            model_config_file=str(serving.root / CONFIG),
            allow_version_labels_for_unavailable_models=True,
            max_num_load_retries=0,
        )
    )


def _client(port: int, name: str, **target: Any) -> SegmentationClient:
    from metseg.serving.client import SegmentationClient

    return SegmentationClient(f"127.0.0.1:{port}", name, **target)


def _promote_version(
    tracking: MlflowClient, serving: Serving, number: int, evaluation: Path, automatic: bool
) -> dict[str, Any] | None:
    """Publish and verify a registered version; move the champion's alias and label if `automatic`."""
    entry = next(found for found in registry.versions(tracking, serving.name) if found.number == number)
    reigning = registry.version_of_alias(tracking, serving.name, registry.CHAMPION)
    before = {"stable": reigning.number} if reigning else {}
    after = {"stable": number} if automatic else {**before, "canary": number}
    try:
        _publish_registered(tracking, serving, entry)
        serving.configure({**before, "canary": number})
        with _with_server(serving) as server:
            candidate = _client(server.port, serving.name, version=number)
            candidate.wait_until_available(number, timeout=120)
            worst = _compare(candidate, evaluation / "golden.npz")
            logger.info("golden answers of version %d differ by %.1e", number, worst)
            serving.configure(after)
            if not automatic:
                return None
            candidate.reload_config(serving.root / CONFIG)
            served = _reference_answer(_client(server.port, serving.name, label="stable"), evaluation)
    except PublishError:
        if before:
            serving.configure(before)
        unpublish(serving.base, number)
        tracking.delete_registered_model_alias(serving.name, registry.CHALLENGER)
        tracking.set_model_version_tag(serving.name, str(number), "gate", "failed in serving")
        raise
    registry.move_champion(tracking, serving.name, number)
    tracking.delete_registered_model_alias(serving.name, registry.CHALLENGER)
    logger.info("version %d is champion and answers as stable", number)
    return served


def _served_by_champion(tracking: MlflowClient, serving: Serving, champion: Path) -> dict[str, Any] | None:
    """What `stable` answers on the test patient where nothing was promoted."""
    reigning = registry.version_of_alias(tracking, serving.name, registry.CHAMPION)
    if reigning is None or not (champion / "reference.npz").exists():
        return None
    _publish_registered(tracking, serving, reigning)
    serving.configure({"stable": reigning.number})
    with _with_server(serving) as server:
        client = _client(server.port, serving.name, label="stable")
        client.wait_until_available(reigning.number, timeout=120)
        return _reference_answer(client, champion)


def promote(
    registration: Path,
    evaluations: dict[str, Path],
    champion: Path,
    model_name: str,
    promotion: str,
    promoted: Path,
) -> None:
    """Bring a registered version to serving, or say what is served where none was registered.

    Args:
        registration: output of register.
        evaluations: outputs of evaluate by architecture.
        champion: output of the champion's evaluation.
        model_name: registered model.
        promotion: `automatic` moves the alias `champion` after the answer was verified; `manual` stops before.
        promoted: folder to write `promotion.json` to.
    """
    settings = Settings.from_environment()
    tracking = runs.client(settings)
    serving = Serving(model_name, settings.model_base_path)
    record = read_json(registration / "registration.json")
    verdict = read_json(registration / "verdict.json")
    registered = record["registered"]
    if registered is None:
        served = _served_by_champion(tracking, serving, champion)
    else:
        evaluation = evaluations[verdict["winner"]]
        served = _promote_version(
            tracking, serving, registered["version"], evaluation, automatic=promotion == "automatic"
        )
        aliases = next(
            found.aliases for found in registry.versions(tracking, model_name) if found.number == registered["version"]
        )
        registered = {"name": model_name, "version": registered["version"], "aliases": list(aliases)}
    promoted.mkdir(parents=True, exist_ok=True)
    write_json(promoted / "promotion.json", {"registered": registered, "served": served})
    runs.finish(tracking, record["run"])


def log_report(registration: Path, promoted: Path, patient_pictures_in_mlflow: bool) -> None:
    """Keep the run's summary and charts in MLflow, and with `patient_pictures_in_mlflow` its report and overlays too.

    Args:
        registration: output of register, which names the run.
        promoted: folder that holds what `write_run_report` wrote.
        patient_pictures_in_mlflow: whether what shows slices of patients is kept there.
    """
    tracking = runs.client(Settings.from_environment())
    run = read_json(registration / "registration.json")["run"]
    for name in (SUMMARY, REPORT, OVERLAY) if patient_pictures_in_mlflow else (SUMMARY,):
        tracking.log_artifact(run, str(promoted / name), "report")
    tracking.log_artifacts(run, str(promoted / FIGURES), f"report/{FIGURES}")
