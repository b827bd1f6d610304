"""One way of asking a model, as a process: `python -m benchmarks.load_generator KIND WHERE`.

KIND is `grpc` or `stub` with the address of a server, or `in-process` or `in-process-kept` with the folder of a
SavedModel: as TensorFlow comes, or in a process that keeps freed memory, as `metseg serve` and `metseg predict` do.

Each line that it reads is a JSON object: `shape` of the image that it asks with, and `calls` or `seconds`, how often or
how long. It answers with a line: the seconds that each call took, from the NumPy array of the image to the NumPy arrays
of probability and mask, and how long all took together. The first image of a shape is asked with once beforehand.
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
Ask = Callable[[Image], dict[str, NDArray[Any]]]
OUTPUTS = ("probability", "mask")


def in_process(folder: str) -> Ask:
    """TensorFlow's own way: the SavedModel is loaded, and its signature called."""
    import tensorflow as tf

    loaded = tf.saved_model.load(folder)
    call = loaded.signatures["serving_default"]

    def ask(image: Image) -> dict[str, NDArray[Any]]:
        _ = loaded
        return {name: tensor.numpy() for name, tensor in call(image=tf.constant(image)).items()}

    return ask


def channel_to(address: str) -> Any:
    """A channel that takes messages of any size."""
    import grpc

    options = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
    return grpc.insecure_channel(address, [*options, ("grpc.enable_http_proxy", 0)])


def over_grpc(address: str) -> Ask:
    """The messages of metseg's own client: those of Predict, written and read as whole arrays."""
    from metseg.serving.client.model_client import PREDICT
    from metseg.serving.codec.predict_messages import predict_request, read_predict_response
    from metseg.tensorflow_protos import model_pb2

    predict = channel_to(address).unary_unary(PREDICT)
    spec = model_pb2.ModelSpec(name=MODEL)

    def ask(image: Image) -> dict[str, NDArray[Any]]:
        _, tensors = read_predict_response(predict(predict_request(spec, {"image": image})))
        return {name: tensors[name].array() for name in OUTPUTS}

    return ask


def by_stub(address: str) -> Ask:
    """The official stub and its messages, filled and read as anyone may."""
    from metseg.serving.codec.tensor_proto import from_tensor_proto, to_tensor_proto
    from metseg.tensorflow_protos import predict_pb2, prediction_service_pb2_grpc

    stub = prediction_service_pb2_grpc.PredictionServiceStub(channel_to(address))

    def ask(image: Image) -> dict[str, NDArray[Any]]:
        request = predict_pb2.PredictRequest()
        request.model_spec.name = MODEL
        request.inputs["image"].CopyFrom(to_tensor_proto(image))
        response = stub.Predict(request)
        return {name: from_tensor_proto(response.outputs[name]) for name in OUTPUTS}

    return ask


KINDS = {"in-process": in_process, "in-process-kept": in_process, "grpc": over_grpc, "stub": by_stub}
PLAIN = ("in-process", "stub")
"""Kinds that do not keep freed memory."""


def image_of(shape: tuple[int, ...]) -> Image:
    """Grey values as a scanner's are spread, the same for the same shape."""
    return np.random.default_rng(5).gamma(2.0, 100.0, shape).astype(np.float32)


def timed(ask: Ask, image: Image, calls: int | None, seconds: float | None) -> dict[str, Any]:
    """So many calls, or as many as begin within so many seconds."""
    taken: list[float] = []
    began = time.perf_counter()
    while len(taken) < calls if calls is not None else time.perf_counter() - began < (seconds or 0):
        start = time.perf_counter()
        ask(image)
        taken.append(time.perf_counter() - start)
    return {"seconds": taken, "elapsed": time.perf_counter() - began}


def main() -> None:
    """Answer line by line until there are no more."""
    kind, where = sys.argv[1:]
    if kind not in PLAIN:
        keep_freed_memory()
    ask = KINDS[kind](where)
    images: dict[tuple[int, ...], Image] = {}
    for line in sys.stdin:
        order = json.loads(line)
        shape = tuple(order["shape"])
        if shape not in images:
            images = {shape: image_of(shape)}
            ask(images[shape])
        print(json.dumps(timed(ask, images[shape], order.get("calls"), order.get("seconds"))), flush=True)


@dataclass(frozen=True)
class Taken:
    """Seconds of each call, and of all of them together."""

    seconds: list[float]
    elapsed: float


class Asking:
    """A process that asks in one way, until the block ends; `kind` and `where` are its arguments."""

    def __init__(self, kind: str, where: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.load_generator", kind, where],
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

    def begin(self, shape: tuple[int, ...], **much: float) -> None:
        """Let it ask with an image of a shape: `calls=20`, or `seconds=5`."""
        self._in.write(json.dumps({"shape": shape, **much}) + "\n")
        self._in.flush()

    def end(self) -> Taken:
        """What that took, once it is done; raises RuntimeError where the process failed."""
        line = self._out.readline()
        if not line:
            raise RuntimeError(f"{' '.join(map(str, self._process.args))} ended")  # type: ignore[arg-type]
        return Taken(**json.loads(line))

    def ask(self, shape: tuple[int, ...], **much: float) -> Taken:
        """`begin` and `end`."""
        self.begin(shape, **much)
        return self.end()


if __name__ == "__main__":
    main()
