"""Check: refuse a run that cannot end well, before anything is read and long before a training starts."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import fields
from typing import Any

from metseg.errors import UsageError
from metseg.training.configuration import DEFAULT_ARCHITECTURES, TrainingConfiguration, asked_for

MODEL_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
"""What is a name for the registry, a folder of the base path and a model of TF Serving alike."""
LARGEST_IMAGE, MOST_CONTEXT = 1024, 8


def check(parameters: Mapping[str, Any]) -> None:
    """Hold pipeline parameters to what the steps accept; one that is not given has its default, which is right.

    Raises:
        UsageError: a value is out of range; the message names the parameter and what is expected.
    """
    from metseg.imaging.layouts import AUTO, LAYOUTS
    from metseg.imaging.layouts.dicom import ALL_REGIONS
    from metseg.imaging.layouts.masks import lesion_labels

    asked_for(parameters.get("architectures", DEFAULT_ARCHITECTURES))
    names = {field.name for field in fields(TrainingConfiguration)}
    TrainingConfiguration(architecture="nested_unet", **{k: v for k, v in parameters.items() if k in names})
    if parameters.get("labels", "") not in ("", ALL_REGIONS):
        lesion_labels(parameters["labels"])
    layouts = (AUTO, *(layout.name for layout in LAYOUTS))
    depth = parameters.get("depth", TrainingConfiguration.depth)
    rules: dict[str, tuple[Callable[[Any], object], str]] = {
        "layout": (lambda value: value in layouts, ", ".join(layouts)),
        "model_name": (MODEL_NAME.fullmatch, "letters, digits, dots, dashes and underscores, such as brain-mets"),
        "mask_threshold": (lambda value: -1 <= value < 255, "a grey value of 0 to 254, or -1"),
        "image_size": (
            lambda value: 2**depth <= value <= LARGEST_IMAGE,
            f"{2**depth} (2 to the power of depth) to {LARGEST_IMAGE}",
        ),
        "context_slices": (lambda value: 0 <= value <= MOST_CONTEXT, f"0 to {MOST_CONTEXT}"),
        "floor_dice": (lambda value: 0.0 <= value <= 1.0, "0 to 1"),
        "floor_lesion_f1": (lambda value: 0.0 <= value <= 1.0, "0 to 1"),
        "promotion": (lambda value: value in ("automatic", "manual"), "automatic or manual"),
        "accelerator_count": (lambda value: value >= 0, "0 or more"),
    }
    for name, (holds, expected) in rules.items():
        if name in parameters and not holds(parameters[name]):
            raise UsageError(f"parameter {name}={parameters[name]!r}: expected {expected}")
