"""Records of a trained network: `training.json` of train and `evaluation.json` of evaluate."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from metseg.imaging.preprocessing.specification import PreprocessingSpecification
from metseg.records import Record, read_object
from metseg.scoring.calibration import VoxelScores
from metseg.scoring.flip_gain import FlipComparison
from metseg.scoring.network_evaluation import Scored
from metseg.scoring.operating_point import OperatingPoint
from metseg.scoring.threshold_baseline import ThresholdBaseline
from metseg.scoring.unscored_champion import Absent, Incomparable
from metseg.training.configuration import TrainingConfiguration

TRAINING = "training.json"
EVALUATION = "evaluation.json"
_DOTTED = {
    name.replace(".", "_"): name for name in ("data.version", "git.commit", "metseg.version", "tensorflow.version")
}
"""Names of versions in the served description, by field of `ModelDescription`."""


@dataclass(frozen=True)
class ModelDescription:
    """Origin and use of an exported network.

    Attributes:
        architecture: name of the network.
        inference_head: the exported head.
        channels: image channels, in order.
        labels: label values that count as lesion.
        threshold: probability from which a voxel is lesion.
        minimum_volume_mm3: volume in mm³ under which a predicted component is dropped.
        preprocessing: frozen with the network.
        data_version: of the cohort.
        git_commit: of the code.
        metseg_version, tensorflow_version: of the training.
    """

    architecture: str
    inference_head: str
    channels: tuple[str, ...]
    labels: tuple[str, ...]
    threshold: float
    minimum_volume_mm3: float
    preprocessing: PreprocessingSpecification
    data_version: str
    git_commit: str
    metseg_version: str
    tensorflow_version: str

    def served(self) -> dict[str, object]:
        """Return the response of the signature `describe`; versions have dotted names there."""
        return {_DOTTED.get(name, name): value for name, value in asdict(self).items()}


@dataclass(frozen=True)
class HeadScores:
    """One network that a trained one can be exported as, at its own operating point.

    Attributes:
        inference_head: `L1`, `L2`, … for the sub-network of a level, `average` of all heads, `last` of a single head.
        parameters: number of its weights.
        multiply_accumulates: of its convolutions, for one slice.
        threshold: probability from which a voxel is lesion, chosen for it.
        minimum_volume_mm3: volume in mm³ under which a predicted component is dropped, chosen for it.
        dice: mean over validation patients.
        lesion_f1: mean over validation patients.
        exported: whether the run exported it.
    """

    inference_head: str
    parameters: int
    multiply_accumulates: int
    threshold: float
    minimum_volume_mm3: float
    dice: float
    lesion_f1: float
    exported: bool

    @property
    def name(self) -> str:
        """Suffix of the network's name; empty for the whole network."""
        return "" if self.inference_head == "last" else self.inference_head


@dataclass(frozen=True)
class TrainingRecord(Record):
    """One finished training run: `training.json`.

    Attributes:
        run: its MLflow run.
        configuration: its settings.
        parameters: number of weights of the exported network.
        history: figures of each epoch by name, `loss` and `val_dice` among them.
        seconds: duration of the fit.
        operating_point: of the exported network.
        heads: every network that could have been exported, from the smallest on.
        description: of the exported network.
        training_patients, validation_patients: of the cohort.
    """

    run: str
    configuration: TrainingConfiguration
    parameters: int
    history: tuple[Mapping[str, float], ...]
    seconds: float
    operating_point: OperatingPoint
    heads: tuple[HeadScores, ...]
    description: ModelDescription
    training_patients: tuple[str, ...]
    validation_patients: tuple[str, ...]

    @classmethod
    def upgraded(cls, values: dict[str, Any], format: int) -> dict[str, object]:
        """Rename the versions in the description, which had dots in their names."""
        description = values["description"]
        renamed = {field: description[dotted] for field, dotted in _DOTTED.items() if dotted in description}
        return {**values, "description": {**description, **renamed}}


@dataclass(frozen=True, kw_only=True)
class EvaluationRecord(Scored, Record):
    """A network scored on the test patients: `evaluation.json`.

    Attributes:
        training: record of the network's training run.
        version: number in the registry, of the current champion; None for a network of this run.
        mean_scores: mean of each score over the test patients that have it.
        savedmodel_sha256: digest of the SavedModel.
        served_volumes_compared: volumes behind `served_check`.
        threshold_baseline: the best single intensity threshold on the same patients.
        voxels_in_head: calibration and ROC curve of the voxels inside the heads.
        test_time_flips: None if they were not tried.
    """

    kind: Literal["scored"] = "scored"
    training: TrainingRecord
    version: int | None = None
    mean_scores: Mapping[str, float | None]
    savedmodel_sha256: str
    served_volumes_compared: int
    threshold_baseline: ThresholdBaseline
    voxels_in_head: VoxelScores
    test_time_flips: FlipComparison | None = None

    @classmethod
    def upgraded(cls, values: dict[str, Any], format: int) -> dict[str, object]:
        """Gather the fields of the training run, which were spread over the file."""
        same = ("run", "configuration", "parameters", "history", "description", "training_patients")
        training = {
            **{name: values[name] for name in same},
            "seconds": values["training_seconds"],
            "operating_point": {**values["operating_point"], "curve": ()},
            "heads": (),
            "validation_patients": (),
        }
        return {
            **values,
            "training": TrainingRecord.upgraded(training, format),
            "mean_scores": values["mean"],
            "savedmodel_sha256": values["savedmodel.sha256"],
        }


def read_opponent(evaluation: Path) -> EvaluationRecord | Absent | Incomparable:
    """Read the champion's evaluation from the output of its task.

    Raises:
        DataError: the file is damaged.
    """
    path = evaluation / EVALUATION
    values = read_object(path)
    if "absent" in values:  # files without a format name no kind
        values = {"kind": "absent", "reason": values["absent"]}
    kind = values.get("kind", "incomparable" if "incomparable" in values else "scored")
    records: dict[object, type[EvaluationRecord | Absent | Incomparable]] = {
        "absent": Absent,
        "incomparable": Incomparable,
    }
    return records.get(kind, EvaluationRecord).from_dict(values, str(path))
