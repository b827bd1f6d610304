"""Training images per second of metseg, a plain PyTorch loop, and medicai.

The PyTorch loop has the same network.

Each contestant trains on one constant batch in a process of its own; they take turns, and medians of the rounds count.
Ours is the step of `metseg.training` as `train` runs it: fused normalisation, deterministic kernels, clipped gradients,
moving average of the weights. PyTorch's has none of the last three. medicai has its own networks, which are larger.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import statistics
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.figures import OUT, Figure, table, write_figures
from benchmarks.processes import answered
from metseg.malloc import keep_freed_memory
from metseg.process_environment import apply_defaults

PEERS = Path(__file__).resolve().parents[1] / ".bench-peers"
"""Where `make bench` puts PyTorch and medicai."""
ARCHITECTURES = ("nested_unet", "attention_unet")
CONTESTANTS = ("ours", "torch", "medicai")
CHANNELS = 3
DEPTH = 4
WARM_UP = 2
MOST_DIFFERENCE = 1e-3
"""Between the probabilities of the two networks with the same weights; they sum in different orders."""
PEER_BAR = 1.0


@dataclass(frozen=True)
class Size:
    """Size of the task of every contestant.

    It has slices per step, their side in pixels, filters of the first level, and timed steps.
    """

    batch: int = 16
    side: int = 128
    filters: int = 16
    steps: int = 4

    def constant_batch(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Noise with one bright square a slice, and the squares."""
        generator = np.random.default_rng(0)
        masks = np.zeros((self.batch, self.side, self.side, 1), np.float32)
        for mask in masks:
            row, column = generator.integers(0, self.side - self.side // 8, 2)
            mask[row : row + self.side // 8, column : column + self.side // 8] = 1.0
        images = generator.random((self.batch, self.side, self.side, CHANNELS), np.float32)
        return images + masks, masks


Step = tuple[float, float, float, int]
"""Wall and CPU seconds of a step, its loss, and the trained parameters of the network."""


def fitted(network: Any, stream: Any, steps: int) -> list[Step]:
    """Each of `steps` steps of `fit` on the batches of a `tf.data.Dataset`."""
    import keras

    taken: list[Step] = []
    parameters = sum(int(np.prod(weight.shape)) for weight in network.trainable_weights)

    class Clock(keras.callbacks.Callback):  # type: ignore[misc]
        def on_train_begin(self, logs: dict[str, float] | None = None) -> None:
            self.wall, self.cpu = time.perf_counter(), time.process_time()

        def on_train_batch_end(self, batch: int, logs: dict[str, float] | None = None) -> None:
            loss = float((logs or {})["loss"])
            wall, cpu = time.perf_counter(), time.process_time()
            taken.append((wall - self.wall, cpu - self.cpu, loss, parameters))
            self.wall, self.cpu = wall, cpu

    network.fit(stream, steps_per_epoch=steps, verbose=0, callbacks=[Clock()])
    return taken


def compiled_network(architecture: str, deterministic: bool = True, **settings: Any) -> Any:
    """Our network, ready to train as `train` does."""
    import tensorflow as tf

    from metseg.training.configuration import TrainingConfiguration
    from metseg.training.network_building import build_network, training_network

    keep_freed_memory()
    if deterministic:
        tf.config.experimental.enable_op_determinism()
    configuration = TrainingConfiguration(architecture=architecture, depth=DEPTH, **settings)
    return training_network(build_network(configuration, CHANNELS), configuration)


def constant_stream(size: Size) -> Any:
    """The constant batch for ever, handed on as a run hands on its batches."""
    from metseg.training.batches import stream

    images, masks = size.constant_batch()
    return stream(lambda step: (images, masks), (images.shape, masks.shape))


def ours(architecture: str, size: Size, steps: int) -> list[Step]:
    """Steps of `metseg.training`."""
    network = compiled_network(architecture, filters=size.filters, batch_size=size.batch)
    return fitted(network, constant_stream(size), steps)


def medicai(architecture: str, size: Size, steps: int) -> list[Step]:
    """Steps of medicai's own network of that kind, under metseg's loss.

    The network is built as in medicai's documentation.
    """
    import keras
    from medicai.models import AttentionUNet, UNetPlusPlus  # type: ignore[import-not-found]

    from metseg.training.network_building import build_loss

    kind = {"nested_unet": UNetPlusPlus, "attention_unet": AttentionUNet}[architecture]
    network = kind(encoder_name="resnet18", input_shape=(size.side, size.side, CHANNELS), num_classes=1)
    # Without XLA, whose compilation would take minutes and gains nothing on a processor.
    network.compile(keras.optimizers.AdamW(2e-3, weight_decay=1e-4), loss=build_loss("dice_bce"), jit_compile=False)
    return fitted(network, constant_stream(size), steps)


def torch(architecture: str, size: Size, steps: int) -> list[Step]:
    """Steps of the same network in PyTorch."""
    from benchmarks.torch_networks import train_steps

    stream = train_steps(architecture, *size.constant_batch(), size.filters, DEPTH, len(os.sched_getaffinity(0)))
    return list(itertools.islice(stream, steps))


def largest_difference(architecture: str, size: Size) -> float:
    """Between the probabilities that ours and PyTorch's network give with the same weights."""
    import keras
    import torch as pytorch  # type: ignore[import-not-found]

    from benchmarks.torch_networks import TWINS, take_weights
    from metseg.training.configuration import TrainingConfiguration
    from metseg.training.network_building import build_network

    network = build_network(TrainingConfiguration(architecture, filters=size.filters, depth=DEPTH), CHANNELS)
    twin = TWINS[architecture](CHANNELS, size.filters, DEPTH).eval()
    take_weights(twin, network)
    images, _ = size.constant_batch()
    with pytorch.no_grad():
        theirs = pytorch.sigmoid(twin(pytorch.from_numpy(images).permute(0, 3, 1, 2))).permute(0, 2, 3, 1).numpy()
    heads = keras.tree.flatten(network(images, training=False))
    return float(np.abs(theirs - np.concatenate([np.asarray(head) for head in heads], axis=-1)).max())


def measure(contestant: str, architecture: str, size: Size) -> None:
    """Do one contestant's steps in this process and print its figures as JSON."""
    if contestant == "same":
        print(json.dumps({"difference": largest_difference(architecture, size)}))
        return
    work = {"ours": ours, "torch": torch, "medicai": medicai}[contestant]
    taken = work(architecture, size, WARM_UP + size.steps)
    wall, cpu = (statistics.median(step[clock] for step in taken[WARM_UP:]) for clock in (0, 1))
    rates = {"images_per_second": size.batch / wall, "images_per_cpu_second": size.batch / cpu}
    print(json.dumps({**rates, "loss": taken[-1][2], "parameters": taken[-1][3]}))


def measured(contestant: str, architecture: str, size: Size) -> dict[str, Any]:
    """One contestant in a process of its own."""
    threads = {"OMP_NUM_THREADS": str(len(os.sched_getaffinity(0))), "KERAS_BACKEND": "tensorflow"}
    path = {} if contestant == "ours" else {"PYTHONPATH": str(PEERS)}
    sizes = [f"--{name}={value}" for name, value in vars(size).items()]
    return answered("benchmarks.speed", ["--measure", contestant, architecture, *sizes], {**threads, **path})


def contest(architecture: str, size: Size, rounds: int) -> tuple[list[Figure], dict[str, list[dict[str, Any]]]]:
    """Run rounds of all contestants by turns; return figures and results of each process."""
    difference = measured("same", architecture, size)["difference"]
    if difference > MOST_DIFFERENCE:
        raise RuntimeError(f"{architecture}: the two networks differ by {difference} with the same weights")
    taken: dict[str, list[dict[str, Any]]] = {name: [] for name in CONTESTANTS}
    for turn in range(rounds):
        for name in CONTESTANTS:
            taken[name].append(measured(name, architecture, size))
            speed = taken[name][-1]["images_per_second"]
            print(f"  round {turn + 1}/{rounds}: {architecture}, {name}: {speed:.2f} images/s", flush=True)
    if taken["ours"][0]["parameters"] != taken["torch"][0]["parameters"]:
        raise RuntimeError(f"{architecture}: the two networks have different numbers of parameters")
    return figures_of(architecture, size, taken), taken


def figures_of(architecture: str, size: Size, taken: dict[str, list[dict[str, Any]]]) -> list[Figure]:
    """Medians of each contestant and of the ratios round by round."""
    what = f"{architecture}, {size.side}², {size.filters} filters, batch {size.batch}"

    def ratio(peer: str, clock: str) -> float:
        pairs = zip(taken["ours"], taken[peer], strict=True)
        return float(statistics.median(own[clock] / other[clock] for own, other in pairs))

    figures = []
    for name in CONTESTANTS:
        median = statistics.median(one["images_per_second"] for one in taken[name])
        note = f"{taken[name][0]['parameters']:,} parameters"
        figures.append(Figure(f"training speed of {name}: {what}", median, unit="images/s", note=note))
    near = "as near 1 as can be"
    figures.append(Figure(f"  ours over PyTorch, {architecture}", ratio("torch", "images_per_second"), note=near))
    figures.append(Figure(f"  ours over PyTorch, {architecture}, CPU time", ratio("torch", "images_per_cpu_second")))
    figures.append(Figure(f"  ours over medicai, {architecture}", ratio("medicai", "images_per_second"), PEER_BAR))
    return figures


def speed_figures(size: Size, rounds: int) -> tuple[list[Figure], dict[str, Any]]:
    """The contests of both networks, or why there is none."""
    if not (PEERS / "torch").is_dir() or not (PEERS / "medicai").is_dir():
        why = f"PyTorch or medicai is not in {PEERS.name}/: see docs/benchmarks.md"
        return [
            Figure(f"training speed compared with PyTorch and medicai, {name}", None, note=why)
            for name in ARCHITECTURES
        ], {}
    figures, processes = [], {}
    for architecture in ARCHITECTURES:
        measured, processes[architecture] = contest(architecture, size, rounds)
        figures += measured
    return figures, processes


def main() -> None:
    """Hold the contests, print the table, write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    for name, value in vars(Size()).items():
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=OUT / "speed.json")
    parser.add_argument("--measure", nargs=2, metavar=("CONTESTANT", "ARCHITECTURE"), help=argparse.SUPPRESS)
    given = parser.parse_args()
    apply_defaults()
    size = Size(given.batch, given.side, given.filters, given.steps)
    if given.measure:
        measure(given.measure[0], given.measure[1], size)
        return
    figures, processes = speed_figures(size, given.rounds)
    print(table(figures))
    write_figures(given.out, figures, rounds=given.rounds, size=vars(size), processes=processes)


if __name__ == "__main__":
    main()
