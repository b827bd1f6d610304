"""Records of a training run that never took place, for tests of what reads them."""

from __future__ import annotations

from metseg.imaging.preprocessing.specification import PreprocessingSpecification
from metseg.scoring.operating_point import OperatingPoint
from metseg.training.configuration import TrainingConfiguration
from metseg.training.result_records import ModelDescription, TrainingRecord

COMMIT = "0123456789abcdef0123456789abcdef01234567"
POINT = OperatingPoint(0.45, 10.0, lesion_f1=0.8, dice=0.8, patients=5, curve=())


def training_record(
    architecture: str = "unet",
    channels: tuple[str, ...] = ("t1n", "t1c"),
    labels: tuple[str, ...] = ("1", "3"),
    commit: str = COMMIT,
    point: OperatingPoint = POINT,
    **fields: object,
) -> TrainingRecord:
    """The record of a finished training run; `fields` replace those of the record."""
    description = ModelDescription(
        architecture=architecture,
        inference_head="average",
        channels=channels,
        labels=labels,
        threshold=point.threshold,
        minimum_volume_mm3=point.minimum_volume_mm3,
        preprocessing=PreprocessingSpecification(channels),
        data_version="0.dir",
        git_commit=commit,
        metseg_version="0.1.0",
        tensorflow_version="2.21.0",
    )
    usual = {
        "run": "ab12",
        "configuration": TrainingConfiguration(architecture),
        "parameters": 568_881,
        "history": (),
        "seconds": 1.0,
        "operating_point": point,
        "heads": (),
        "description": description,
        "training_patients": (),
        "validation_patients": (),
    }
    return TrainingRecord(**{**usual, **fields})
