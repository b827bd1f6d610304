"""Pages of preprocess and train in the Kubeflow UI.

Each is one HTML file with every picture inside it.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from metseg.dataset.slice_files import RecordFile
from metseg.files import temporary_folder
from metseg.imaging.preprocessing.specification import PreprocessingSpecification
from metseg.report.page_templates import Drawn, write_page
from metseg.report.style import name_of
from metseg.report.training_batch_figure import SHOWN, batch_sheet


def write_declined_page(path: Path, architecture: str) -> None:
    """Write the page of an unselected network."""
    name = name_of(architecture)
    nothing = f"The run does not train {name}: train_architectures does not name it."
    write_page(path, "step.html.j2", title=f"Training of {name}", figures=[], facts={}, nothing=nothing)


def write_training_page(path: Path, model: Path) -> None:
    """Write the page of a training run.

    It has curves, cost and scores of its sub-networks, and the chosen operating point.

    Args:
        path: file to write, atomically.
        model: output of train.
    """
    from metseg.report.figures import cost_figure, training_figure
    from metseg.report.report_data import NetworkContent
    from metseg.training.result_records import TRAINING, TrainingRecord

    training = TrainingRecord.read(model / TRAINING)
    point = training.operating_point
    network = NetworkContent(
        architecture=training.configuration.architecture,
        parameters=training.parameters,
        threshold=point.threshold,
        minimum_volume_mm3=point.minimum_volume_mm3,
        patients={},
        history=training.history,
        heads=training.heads,
    )
    figures = [
        Drawn(training_figure([network], "loss", "Training loss"), "Training loss by epoch"),
        Drawn(
            training_figure([network], "val_dice", "Dice on validation slices"), "Dice on validation slices by epoch"
        ),
        Drawn(cost_figure([network]), "Validation Dice of each sub-network against its multiply-adds"),
    ]
    facts = {
        "MLflow run": training.run,
        "epochs": len(training.history),
        "seconds": f"{training.seconds:.0f}",
        "parameters": f"{training.parameters:,}",
        "Dice on validation patients": f"{point.dice:.3f}",
        "lesion F1 on validation patients": f"{point.lesion_f1:.3f}",
        "threshold chosen there": f"{point.threshold:g}",
        "minimum lesion volume chosen there": f"{point.minimum_volume_mm3:g} mm³",
        "validation patients": len(training.validation_patients),
    }
    write_page(path, "step.html.j2", title=f"Training of {network.name}", figures=figures, facts=facts)


def write_records_page(path: Path, records: Path) -> None:
    """Write the page of preprocessed slices: of some training cases the one with most lesion.

    Args:
        path: file to write, atomically.
        records: output of preprocess.
    """
    specification = PreprocessingSpecification.read(records / "preprocessing.json")
    files = sorted((records / "train").glob("*.npy"))
    chosen = [files[place] for place in np.unique(np.linspace(0, len(files) - 1, min(SHOWN, len(files))).astype(int))]
    slices = []
    for file in chosen:
        case = RecordFile(file)
        slices.append(case.read(int(np.argmax(case.lesion_counts))))
    figures = []
    if slices:
        with temporary_folder() as folder:
            sheet = folder / "slices.png"
            images = np.stack([image for image, _ in slices])
            masks = np.stack([mask for _, mask in slices])[..., None].astype(np.float32)
            batch_sheet(sheet, images, masks, specification.channels, "Training cases after preprocessing")
            figures = [Drawn(sheet.read_bytes(), "The slice with most lesion of some training cases")]
    counts = {split: len(list((records / split).glob("*.npy"))) for split in ("train", "validation", "test")}
    facts: dict[str, object] = {f"{split} cases": count for split, count in counts.items()}
    facts |= {
        "channels": ", ".join(specification.channels),
        "side in pixels": specification.image_size,
        "window": f"percentiles {specification.lower_percentile:g} to {specification.upper_percentile:g} of the head",
        "CLAHE": "on" if specification.clahe else "off",
        "context slices": specification.context_slices,
    }
    nothing = "There are no training cases."
    write_page(path, "step.html.j2", title="What the networks see", figures=figures, facts=facts, nothing=nothing)
