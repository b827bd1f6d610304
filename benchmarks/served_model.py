"""An untrained network of the size that `make run` trains, and `metseg serve` with it as a process of its own."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.processes import free_port

MODEL = "untrained"
CHANNELS = ("t1n", "t2f", "t1c")

_EXPORT = f"""
import sys
from pathlib import Path
from dataclasses import asdict
import keras, tensorflow as tf
import models
from metseg.imaging.specification import PreprocessingSpecification
from metseg.training.configuration import TrainingConfiguration
from metseg.training.export import ServedSegmentation, signatures
from metseg.training.warm_up import write_warm_up
specification = PreprocessingSpecification(channels={CHANNELS!r})
chosen = TrainingConfiguration(architecture="nested_unet")
keras.utils.set_random_seed(2023)
network = models.inference_model(
    models.build("nested_unet", channels=specification.network_channels, filters=chosen.filters, depth=chosen.depth)
)
description = {{
    "channels": specification.channels,
    "threshold": 0.6,
    "minimum_volume_mm3": 20.0,
    "preprocessing": asdict(specification),
}}
module = ServedSegmentation(network, specification, 0.6, description)
tf.saved_model.save(module, sys.argv[1], signatures=signatures(module))
write_warm_up(Path(sys.argv[1]), specification)
"""


@dataclass(frozen=True)
class Served:
    """A running `metseg serve`: `host:port` of its gRPC API, and its process."""

    address: str
    process: int


def export_model(base_path: Path) -> Path:
    """Version 1 of an untrained UNet++ of the default size, in a process that ends with it; returns its folder."""
    folder = base_path / "1"
    subprocess.run([sys.executable, "-c", _EXPORT, str(folder)], check=True, stderr=subprocess.DEVNULL)
    return folder


@contextmanager
def serving(base_path: Path, *flags: str) -> Iterator[Served]:
    """A `metseg serve` whose version 1 answers; more flags as on its command line."""
    from metseg.serving.client import SegmentationClient

    port = free_port()
    given = [f"--port={port}", f"--model_name={MODEL}", f"--model_base_path={base_path}", *flags]
    command = [sys.executable, "-c", "from metseg.cli import main; main()", "serve", *given]
    server = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    try:
        with SegmentationClient(f"127.0.0.1:{port}", MODEL) as client:
            client.wait_until_available(1, timeout=300)
        yield Served(f"127.0.0.1:{port}", server.pid)
    finally:
        server.terminate()
        server.wait(60)
