"""What the client gives, and what it says when it cannot."""

from __future__ import annotations

import socket
import threading
import time
from pathlib import Path

import grpc
import numpy as np
import pytest

from metseg.errors import NotServed, ServingError, UsageError
from metseg.serving.client import SegmentationClient, VersionStatus
from metseg.serving.model_config import read_configuration
from metseg.serving.publishing import publish
from metseg.serving.server.flags import ServerOptions
from metseg.serving.server.model_server import ModelServer
from tests.serving.conftest import MODEL, Running


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def test_prediction_has_the_geometry_of_the_image(running: Running) -> None:
    image = np.random.default_rng(3).random((3, 7, 5, 2), np.float32)
    with running.client() as client:
        prediction = client.predict(image)
    np.testing.assert_allclose(prediction.probability, image.mean(axis=-1), rtol=1e-6)
    assert prediction.probability.dtype == np.float32
    assert prediction.mask.dtype == np.uint8
    np.testing.assert_array_equal(prediction.mask, image.mean(axis=-1) >= 0.5)
    assert prediction.version == 2


def test_label_and_version_choose_who_answers(running: Running) -> None:
    image = np.zeros((1, 2, 2, 2), np.int16)
    assert running.client(label="stable").predict(image).version == 1
    assert running.client(version=1).predict(image).version == 1
    description = running.client(label="canary").describe()
    assert description.fields == {"exported": 2, "channels": ["t1c", "t2f"]}
    assert description.channels == ("t1c", "t2f") and description.labels == ()


def test_status_lists_the_versions(running: Running) -> None:
    states = running.client().versions(MODEL)
    assert list(states.items()) == [(2, VersionStatus("AVAILABLE")), (1, VersionStatus("AVAILABLE"))]
    assert running.client().versions("nobody") == {}


def test_absent_server_is_named_with_a_remedy() -> None:
    address = f"127.0.0.1:{free_port()}"
    began = time.monotonic()
    with pytest.raises(ServingError, match=f"no model server responds at {address}.*metseg serve"):
        SegmentationClient(address, MODEL).predict(np.zeros((1, 2, 2, 2)))
    assert 1.7 < time.monotonic() - began < 30, "a few tries with growing delays"


def test_client_outlives_a_server_that_starts_late(tmp_path: Path, saved_models: dict[int, Path]) -> None:
    publish(saved_models[1], tmp_path, 1)
    port = free_port()
    server = ModelServer(ServerOptions(port=port, model_name=MODEL, model_base_path=str(tmp_path)))
    threading.Timer(1.0, server.start).start()
    client = SegmentationClient(f"127.0.0.1:{port}", MODEL, timeout=30, retry_delays=[0.2] * 100)
    client.wait_until_available(MODEL, 1, timeout=30)
    assert client.predict(np.zeros((1, 2, 2, 2))).version == 1
    server.stop()


def test_version_that_never_comes_is_given_up(running: Running) -> None:
    with pytest.raises(NotServed, match=r"version 9 did not become available in 0\.3 s; it is unknown to the server"):
        running.client().wait_until_available(MODEL, 9, timeout=0.3)


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ({"model_name": "nobody"}, r"Servable not found for request: Latest\(nobody\); request a model"),
        ({"label": "nobody"}, r"refused the request \(INVALID_ARGUMENT\): Unrecognized servable version label"),
    ],
)
def test_refusal_says_what_to_do(running: Running, arguments: dict[str, object], complaint: str) -> None:
    with pytest.raises(ServingError, match=complaint) as refused:
        running.client(**arguments).predict(np.zeros((1, 2, 2, 2)))
    assert isinstance(refused.value.__cause__, grpc.RpcError)


def test_late_answer_is_not_waited_for(running: Running) -> None:
    with pytest.raises(ServingError, match=r"did not respond within 0\.01 s.*give a longer timeout"):
        running.client(timeout=0.01).predict(np.zeros((60, 240, 240, 2)))


def test_wrong_calls_are_refused_before_anything_is_sent() -> None:
    with pytest.raises(UsageError, match="label stable and version 3"):
        SegmentationClient(label="stable", version=3)
    with pytest.raises(ServingError, match=r"\(2, 2, 2\); expected \(slices, height, width, channels\)"):
        SegmentationClient().predict(np.zeros((2, 2, 2)))
    with pytest.raises(UsageError, match="cannot be read"):
        SegmentationClient().reload(read_configuration(Path("missing.config")))
