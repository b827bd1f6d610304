"""The client on volumes: chunks that give the same bits, one version a volume, lesions, what is tried again."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from concurrent import futures
from typing import Any

import grpc
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import ndimage

from metseg.errors import DeadlineExceeded, NotServed, RequestRefused, ServerBusy, ServerUnavailable, ServingError
from metseg.imaging.geometry import Geometry
from metseg.serving.client.segmentation_client import BLOCK, SegmentationClient, chunks_of
from metseg.tensorflow_protos import predict_pb2, prediction_service_pb2_grpc
from tests.serving.callers.conftest import head
from tests.serving.callers.models import MINIMUM_VOLUME_MM3, MODEL, THRESHOLD

SPACING = (3.0, 0.8, 0.9)
PLACE = Geometry(
    ((0.9, 0.0, 0.0, -20.0), (0.0, 0.8, 0.0, -30.0), (0.0, 0.0, 3.0, -12.0), (0.0, 0.0, 0.0, 1.0)), SPACING, True
)


def volume(slices: int = 6) -> NDArray[np.float32]:
    return np.stack([head(slices, seed=seed) for seed in range(3)], axis=-1).astype(np.float32)


@given(
    slices=st.integers(1, 300),
    slice_bytes=st.integers(1, 1000),
    context=st.integers(0, 9),
    limit=st.integers(1, 50_000),
)
def test_chunks_cover_the_volume_once_with_all_context_in_blocks(
    slices: int, slice_bytes: int, context: int, limit: int
) -> None:
    chunks = chunks_of(slices, slice_bytes, context, limit)
    kept = [place for chunk in chunks for place in range(chunk.first, chunk.last)]
    assert kept == list(range(slices))
    fewest = -(-2 * context // 8) * 8 + 8
    for chunk in chunks:
        assert chunk.start <= max(chunk.first - context, 0) and chunk.stop >= min(chunk.last + context, slices)
        assert chunk.start % 8 == 0 and (chunk.stop % 8 == 0 or chunk.stop == slices)
        assert (chunk.stop - chunk.start) * slice_bytes <= limit or chunk.stop - chunk.start <= fewest


def test_blocks_are_those_of_the_exported_graph() -> None:
    from metseg.training.network_building import INFERENCE_BLOCK

    assert BLOCK == INFERENCE_BLOCK


@pytest.mark.parametrize("label", ["stable", "canary"])
@pytest.mark.parametrize("slices", [9, 37])
def test_a_volume_in_chunks_has_the_bits_of_one_request(address: str, label: str, slices: int) -> None:
    image = volume(slices)
    image += np.random.default_rng(slices).normal(0, 80, image.shape).astype(np.float32)
    whole = SegmentationClient(address, MODEL, label=label).predict(image)
    chunked = SegmentationClient(address, MODEL, label=label, chunk_bytes=1).predict(image)
    assert chunked.probability.tobytes() == whole.probability.tobytes()
    np.testing.assert_array_equal(chunked.mask, whole.mask)
    assert chunked.version == whole.version == {"stable": 1, "canary": 2}[label]
    assert len(chunks_of(slices, 48 * 48 * 12, 1, 1)) == {9: 1 + (slices > 16), 37: 4}[slices]
    assert np.unique(whole.probability).size > 100, "an answer with something in it"


def test_segment_drops_small_lesions_and_measures_the_rest(client: SegmentationClient) -> None:
    image = volume()
    image[5, 20:25, 12:17] += 600
    found = client.segment(image, PLACE)
    bare = client.predict(image)
    np.testing.assert_array_equal(found.probability, bare.probability)
    at_threshold = found.probability >= np.float32(THRESHOLD)
    labels, count = ndimage.label(at_threshold, np.ones((3, 3, 3)))
    volumes = ndimage.sum_labels(at_threshold, labels, range(1, count + 1)) * 3.0 * 0.8 * 0.9
    assert sorted(volumes > MINIMUM_VOLUME_MM3) == [False, True], "one lesion above the minimum and one below it"
    expected = labels == 1 + int(np.argmax(volumes))
    np.testing.assert_array_equal(found.mask, expected)
    assert found.voxels_at_threshold == at_threshold.sum() > expected.sum()
    (lesion,) = found.lesions
    assert lesion.volume_mm3 == pytest.approx(volumes.max())
    z, y, x = ndimage.center_of_mass(expected)
    assert lesion.centroid_mm == pytest.approx((0.9 * x - 20, 0.8 * y - 30, 3 * z - 12))
    assert lesion.mean_probability == pytest.approx(found.probability[expected].mean(), rel=1e-5)
    assert found.version == 1 and found.description.fields["exported"] == 1


def test_unknown_spacing_counts_voxels(client: SegmentationClient) -> None:
    found = client.segment(volume())
    assert found.lesions[0].volume_mm3 == (found.mask > 0).sum()


def test_progress_is_told_chunk_by_chunk(address: str) -> None:
    told: list[tuple[int, int]] = []
    with SegmentationClient(address, MODEL, label="stable", chunk_bytes=1) as client:
        client.segment(volume(37), PLACE, lambda done, total: told.append((done, total)))
    assert told == [(15, 37), (23, 37), (31, 37), (37, 37)]


def test_wrong_number_of_channels_names_those_of_the_model(client: SegmentationClient) -> None:
    with pytest.raises(ServingError, match=r"2 channel\(s\).*takes 3, in this order: t1n, t2f, t1c"):
        client.segment(volume()[..., :2])


class Moody(prediction_service_pb2_grpc.PredictionServiceServicer):  # type: ignore[misc, name-defined]
    """A server that ends calls as it is told to before it passes them on to a real one."""

    def __init__(self, address: str) -> None:
        self.channel = grpc.insecure_channel(address, [("grpc.enable_http_proxy", 0)])
        self.real = prediction_service_pb2_grpc.PredictionServiceStub(self.channel)
        self.moods: list[tuple[grpc.StatusCode, str]] = []
        self.asked: list[Any] = []

    def Predict(self, request: Any, context: grpc.ServicerContext) -> Any:
        self.asked.append(request)
        if self.moods:
            context.abort(*self.moods.pop(0))
        return self.real.Predict(request)

    def GetModelMetadata(self, request: Any, context: grpc.ServicerContext) -> Any:
        return self.real.GetModelMetadata(request)


@pytest.fixture
def moody(address: str) -> Any:
    server = grpc.server(futures.ThreadPoolExecutor(2))
    servicer = Moody(address)
    prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(servicer, server)
    servicer.port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield servicer
    server.stop(0).wait()
    servicer.channel.close()


def test_what_is_safe_to_try_again_is_tried_again(moody: Any) -> None:
    moody.moods = [(grpc.StatusCode.UNAVAILABLE, "restarting"), (grpc.StatusCode.RESOURCE_EXHAUSTED, "queue full")]
    with SegmentationClient(f"127.0.0.1:{moody.port}", MODEL) as client:
        assert client.predict(volume()).version == 2
    assert len(moody.asked) == 3


@pytest.mark.parametrize(
    ("code", "details", "kind", "tries"),
    [
        (grpc.StatusCode.INVALID_ARGUMENT, "no", RequestRefused, 1),
        (grpc.StatusCode.FAILED_PRECONDITION, "no", RequestRefused, 1),
        (grpc.StatusCode.NOT_FOUND, "no", NotServed, 1),
        (grpc.StatusCode.INTERNAL, "no", ServingError, 1),
        (grpc.StatusCode.UNAVAILABLE, "no", ServerUnavailable, 4),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, "queue full", ServerBusy, 4),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, "Received message larger than max (5 vs. 4)", ServerBusy, 1),
    ],
)
def test_each_refusal_has_its_kind(moody: Any, code: Any, details: str, kind: type[Exception], tries: int) -> None:
    moody.moods = [(code, details)] * 9
    with SegmentationClient(f"127.0.0.1:{moody.port}", MODEL) as client, pytest.raises(ServingError) as refused:
        client.predict(volume())
    assert type(refused.value) is kind
    assert len(moody.asked) == tries


def test_the_deadline_holds_for_all_tries_together(moody: Any) -> None:
    moody.moods = [(grpc.StatusCode.UNAVAILABLE, "no")] * 9
    began = time.monotonic()
    client = SegmentationClient(f"127.0.0.1:{moody.port}", MODEL, timeout=0.5)
    with client, pytest.raises(ServerUnavailable):
        client.predict(volume())
    assert time.monotonic() - began < 1.5 and len(moody.asked) < 4


def test_late_answers_have_their_kind(address: str) -> None:
    with SegmentationClient(address, MODEL, timeout=0.01) as client, pytest.raises(DeadlineExceeded):
        client.predict(volume(60))


def test_a_version_unloaded_under_way_is_left_for_the_one_that_came(moody: Any) -> None:
    chunk = (grpc.StatusCode.NOT_FOUND, "Servable not found for request: Specific(metastases, 1)")
    with SegmentationClient(f"127.0.0.1:{moody.port}", MODEL, label="stable", chunk_bytes=1) as client:
        describe = client.describe
        describe()
        moody.asked.clear()
        original = client._request_chunk
        seen: list[int] = []

        def fail_second(spec: Any, piece: Any, *more: Any) -> None:
            seen.append(piece.start)
            if len(seen) == 2:
                moody.moods = [chunk]
            original(spec, piece, *more)

        client._request_chunk = fail_second  # type: ignore[method-assign]
        found = client.segment(volume(37), PLACE)
    assert found.version == 1 and seen == [0, 8, 0, 8, 16, 24]
    chunks = [request for request in moody.asked if request.model_spec.signature_name == "windowed"]
    assert all(request.model_spec.version.value == 1 for request in chunks), "chunks ask a version, not a label"


def test_threads_share_one_client(client: SegmentationClient) -> None:
    expected = client.segment(volume(), PLACE).mask
    answers: list[NDArray[np.uint8]] = []
    threads = [threading.Thread(target=lambda: answers.append(client.segment(volume(), PLACE).mask)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(answers) == 4 and all(np.array_equal(answer, expected) for answer in answers)


def test_the_client_starts_in_under_a_second_without_tensorflow(address: str) -> None:
    code = f"""
import sys
import time
import numpy as np
from metseg.serving.client import SegmentationClient
client = SegmentationClient("{address}", "{MODEL}")
print(time.process_time())
client.segment(np.ones((1, 16, 16, 3)))
print("tensorflow" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    seconds, loaded = done.stdout.split()
    assert loaded == "False"
    # Of the processor, the interpreter's own start included: the clock on the wall measures who else is at work.
    assert float(seconds) < 1.0


def test_an_answer_asks_for_no_more_than_it_needs(moody: Any) -> None:
    with SegmentationClient(f"127.0.0.1:{moody.port}", MODEL) as client:
        client.segment(volume(), PLACE)
    assert list(moody.asked[-1].output_filter) == ["probability"]
    assert predict_pb2.PredictRequest().output_filter == []
