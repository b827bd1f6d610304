"""An untrained network as a SavedModel, and `metseg serve` with it as a process."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from benchmarks.processes import free_port

MODEL = "untrained"
CHANNELS = ("t1n", "t2f", "t1c")
_START_SECONDS = 300.0

_EXPORT = f"""
import sys
from pathlib import Path
from dataclasses import asdict
import keras, tensorflow as tf
import models
from metseg.imaging.preprocessing.specification import PreprocessingSpecification
from metseg.training.configuration import TrainingConfiguration
from metseg.training.export import ServedSegmentation, signatures
from metseg.training.warmup_requests import write_warm_up
specification = PreprocessingSpecification(channels={CHANNELS!r})
chosen = TrainingConfiguration(architecture="nested_unet")
folder, seed, threshold = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
keras.utils.set_random_seed(seed)
network = models.inference_model(
    models.build("nested_unet", channels=specification.network_channels, filters=chosen.filters, depth=chosen.depth)
)
description = {{
    "channels": specification.channels,
    "threshold": threshold,
    "minimum_volume_mm3": 20.0,
    "preprocessing": asdict(specification),
}}
module = ServedSegmentation(network, specification, threshold, description)
tf.saved_model.save(module, folder, signatures=signatures(module))
write_warm_up(Path(folder), specification)
"""


@dataclass(frozen=True)
class Served:
    """A running `metseg serve`: `host:port` of its gRPC API, and its process number."""

    address: str
    process: int


def export_network(folder: Path, seed: int, threshold: float) -> Path:
    """Export an untrained UNet++ of the default size; return its folder."""
    arguments = [str(folder), str(seed), str(threshold)]
    subprocess.run([sys.executable, "-c", _EXPORT, *arguments], check=True, stderr=subprocess.DEVNULL)
    return folder


def export_model(base_path: Path) -> Path:
    """Export version 1 of such a network; return its folder."""
    return export_network(base_path / "1", seed=2023, threshold=0.6)


@contextmanager
def serving(base_path: Path, *flags: str) -> Iterator[Served]:
    """Run `metseg serve` with version 1 available; more flags as on its command line."""
    from metseg.errors import ServerUnavailable
    from metseg.serving.client import ModelClient

    port = free_port()
    arguments = [f"--port={port}", f"--model_name={MODEL}", f"--model_base_path={base_path}", *flags]
    command = [sys.executable, "-c", "from metseg.cli import main; main()", "serve", *arguments]
    server = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    try:
        with ModelClient(f"127.0.0.1:{port}", retry_delays=()) as client:
            ends = time.monotonic() + _START_SECONDS
            while time.monotonic() < ends:
                with suppress(ServerUnavailable):
                    client.wait_until_available(MODEL, 1, _START_SECONDS)
                    break
                time.sleep(0.1)
        yield Served(f"127.0.0.1:{port}", server.pid)
    finally:
        server.terminate()
        server.wait(60)
