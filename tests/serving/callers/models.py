"""Two small networks as metseg exports them: one that marks what is bright, and an untrained Attention U-Net."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

MODEL = "metastases"
CHANNELS = ("t1n", "t2f", "t1c")
THRESHOLD = 0.5
MINIMUM_VOLUME_MM3 = 60.0
CONTEXT = 1


def bright_network(specification: Any) -> Any:
    """The logistic function of the mean over 3×3 pixels, all channels and all neighbouring slices."""
    import keras

    channels, side = specification.network_channels, specification.image_size
    image = keras.Input((side, side, channels))
    convolution = keras.layers.Conv2D(1, 3, padding="same", activation="sigmoid")
    network = keras.Model(image, convolution(image))
    convolution.set_weights([np.full((3, 3, channels, 1), 40 / (9 * channels), np.float32), np.float32([-24.0])])
    return network


def untrained_network(specification: Any) -> Any:
    import keras

    import models

    keras.utils.set_random_seed(3)
    return models.inference_model(
        models.build("attention_unet", channels=specification.network_channels, filters=4, depth=2)
    )


def export_models(base_path: Path) -> None:
    """Version 1 marks what is bright; version 2 is untrained, equalises, and has the same channels."""
    import tensorflow as tf

    from metseg.imaging.preprocessing.specification import PreprocessingSpecification
    from metseg.training.export import ServedSegmentation, signatures

    for version, build in ((1, bright_network), (2, untrained_network)):
        specification = PreprocessingSpecification(
            channels=CHANNELS, image_size=32, clahe=version == 2, context_slices=CONTEXT
        )
        description = {
            "architecture": "attention_unet",
            "channels": list(CHANNELS),
            "threshold": THRESHOLD,
            "minimum_volume_mm3": MINIMUM_VOLUME_MM3,
            "preprocessing": asdict(specification),
            "metseg.version": "0.1.0",
            "exported": version,
        }
        module = ServedSegmentation(build(specification), specification, THRESHOLD, description)
        tf.saved_model.save(module, str(base_path / str(version)), signatures=signatures(module))


if __name__ == "__main__":
    import sys

    export_models(Path(sys.argv[1]))
