"""Cost of `SegmentationClient` over a bare Predict of the same volume: `python -m benchmarks.callers`.

The bare call sends a message made beforehand and does not decode the response. The client encodes, reads the model's
description, decodes, drops small lesions and measures the others. Both take turns against one `metseg serve` with an
untrained network of the size that `make run` trains.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.figures import OUT, Figure, table, write_figures
from benchmarks.served_model import MODEL, export_model, serving

MOST_OVERHEAD = 1.03
SHAPE = (32, 240, 240, 3)


def overhead(address: str, rounds: int) -> list[Figure]:
    """Median time of the client over that of the bare call, taking turns."""
    import grpc
    import numpy as np

    from metseg.imaging.geometry import Geometry
    from metseg.serving.client import SegmentationClient
    from metseg.tensorflow_protos import predict_pb2, prediction_service_pb2_grpc
    from tests.serving.tensor_protos import to_tensor_proto

    image = np.random.default_rng(5).gamma(2.0, 100.0, SHAPE).astype(np.float32)
    request = predict_pb2.PredictRequest(output_filter=["probability"])
    request.model_spec.name = MODEL
    request.inputs["image"].CopyFrom(to_tensor_proto(image[np.newaxis]))
    options = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
    channel = grpc.insecure_channel(address, [*options, ("grpc.enable_http_proxy", 0)])
    bare_predict = prediction_service_pb2_grpc.PredictionServiceStub(channel).Predict
    client = SegmentationClient(address, MODEL)
    calls: dict[str, Callable[[], Any]] = {
        "bare": lambda: bare_predict(request),
        "client": lambda: client.segment(image, Geometry.unknown()),
    }
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for call in calls.values():
        call()
    for turn in range(rounds):
        for name in sorted(calls, reverse=turn % 2 == 1):
            began = time.perf_counter()
            calls[name]()
            seconds[name].append(time.perf_counter() - began)
    medians = {name: statistics.median(taken) for name, taken in seconds.items()}
    size = "×".join(map(str, SHAPE))
    note = f"{medians['client']:.3f} s against {medians['bare']:.3f} s, median of {rounds}"
    return [
        Figure(
            f"SegmentationClient over bare Predict, {size}",
            medians["client"] / medians["bare"],
            at_most=MOST_OVERHEAD,
            note=note,
        )
    ]


def main() -> None:
    """Print the table, write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=OUT / "callers.json")
    parser.add_argument("--rounds", type=int, default=7)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="metseg-benchmark-") as folder:
        base_path = Path(folder) / MODEL
        export_model(base_path)
        with serving(base_path) as served:
            figures = overhead(served.address, given.rounds)
    print(table(figures))
    write_figures(given.out, figures)


if __name__ == "__main__":
    main()
