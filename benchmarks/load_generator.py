"""A caller of a model in a process of its own: `python -m benchmarks.load_generator KIND TARGET`.

KIND is `grpc` or `stub` with the address of a server, or `in-process` or `in-process-kept` with the folder of a
SavedModel: TensorFlow by default, or in a process that keeps freed memory, as `metseg serve` and `metseg predict` do.

Each line of its input is a JSON object: the `shape` of the image, and `calls` or `seconds`, the amount of work. Its
output is a line with the seconds of each call, from the NumPy array of the image to the NumPy arrays of probability and
mask, and the seconds of all. The first image of a shape is sent once beforehand.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from benchmarks.served_model import MODEL
from metseg.malloc import keep_freed_memory

Image = NDArray[np.float32]
Predict = Callable[[Image], dict[str, NDArray[Any]]]
OUTPUTS = ("probability", "mask")


def in_process(folder: str) -> Predict:
    """Return TensorFlow's own way: load the SavedModel and call its signature."""
    import tensorflow as tf

    loaded = tf.saved_model.load(folder)
    call = loaded.signatures["serving_default"]

    def predict_image(image: Image) -> dict[str, NDArray[Any]]:
        _ = loaded
        return {name: tensor.numpy() for name, tensor in call(image=tf.constant(image)).items()}

    return predict_image


def channel_to(address: str) -> Any:
    """Return a channel for messages of any size."""
    import grpc

    options = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
    return grpc.insecure_channel(address, [*options, ("grpc.enable_http_proxy", 0)])


def over_grpc(address: str) -> Predict:
    """Return Predict with the messages of metseg's own client, written and read as whole arrays."""
    from metseg.serving.client.model_client import PREDICT
    from metseg.serving.codec.predict_messages import predict_request, read_predict_response
    from metseg.tensorflow_protos import model_pb2

    predict = channel_to(address).unary_unary(PREDICT)
    spec = model_pb2.ModelSpec(name=MODEL)

    def predict_image(image: Image) -> dict[str, NDArray[Any]]:
        _, tensors = read_predict_response(predict(predict_request(spec, {"image": image})))
        return {name: tensors[name].array() for name in OUTPUTS}

    return predict_image


def by_stub(address: str) -> Predict:
    """Return Predict with the official stub and its messages."""
    from metseg.serving.codec.tensor_proto import ReceivedTensor
    from metseg.tensorflow_protos import predict_pb2, prediction_service_pb2_grpc
    from tests.serving.tensor_protos import to_tensor_proto

    stub = prediction_service_pb2_grpc.PredictionServiceStub(channel_to(address))

    def predict_image(image: Image) -> dict[str, NDArray[Any]]:
        request = predict_pb2.PredictRequest()
        request.model_spec.name = MODEL
        request.inputs["image"].CopyFrom(to_tensor_proto(image))
        response = stub.Predict(request)
        return {name: ReceivedTensor(response.outputs[name]).array() for name in OUTPUTS}

    return predict_image


KINDS = {"in-process": in_process, "in-process-kept": in_process, "grpc": over_grpc, "stub": by_stub}
PLAIN = ("in-process", "stub")
"""Kinds that return freed memory to the system."""


def image_of(shape: tuple[int, ...]) -> Image:
    """Return intensities with the distribution of a scanner's, the same for the same shape."""
    return np.random.default_rng(5).gamma(2.0, 100.0, shape).astype(np.float32)


def timed(predict: Predict, image: Image, calls: int | None, seconds: float | None) -> dict[str, Any]:
    """Time a number of calls, or all calls that begin within a time."""
    taken: list[float] = []
    began = time.perf_counter()
    while len(taken) < calls if calls is not None else time.perf_counter() - began < (seconds or 0):
        start = time.perf_counter()
        predict(image)
        taken.append(time.perf_counter() - start)
    return {"seconds": taken, "elapsed": time.perf_counter() - began}


def main() -> None:
    """Process orders line by line until the input ends."""
    kind, target = sys.argv[1:]
    if kind not in PLAIN:
        keep_freed_memory()
    predict = KINDS[kind](target)
    images: dict[tuple[int, ...], Image] = {}
    for line in sys.stdin:
        order = json.loads(line)
        shape = tuple(order["shape"])
        if shape not in images:
            images = {shape: image_of(shape)}
            predict(images[shape])
        print(json.dumps(timed(predict, images[shape], order.get("calls"), order.get("seconds"))), flush=True)


@dataclass(frozen=True)
class Timing:
    """Seconds of each call, and of all of them together."""

    seconds: list[float]
    elapsed: float


class LoadGenerator:
    """A process that calls a model until the block ends."""

    def __init__(self, kind: str, target: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.load_generator", kind, target],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        assert self._process.stdin is not None and self._process.stdout is not None
        self._in, self._out = self._process.stdin, self._process.stdout

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._in.close()
        self._process.wait(60)

    def begin(self, shape: tuple[int, ...], **amount: float) -> None:
        """Start calls with an image of a shape: `calls=20`, or `seconds=5`."""
        self._in.write(json.dumps({"shape": shape, **amount}) + "\n")
        self._in.flush()

    def end(self) -> Timing:
        """Return the timing of the calls; raises RuntimeError if the process failed."""
        line = self._out.readline()
        if not line:
            raise RuntimeError(f"{' '.join(map(str, self._process.args))} ended")  # type: ignore[arg-type]
        return Timing(**json.loads(line))

    def call(self, shape: tuple[int, ...], **amount: float) -> Timing:
        """`begin` and `end`."""
        self.begin(shape, **amount)
        return self.end()


if __name__ == "__main__":
    main()
