"""The REST port of the embedded server with callers that send too much, too slowly or invalid data."""

from __future__ import annotations

import gzip
import json
import shutil
import socket
import time
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from metseg.serving import http_guard
from metseg.serving.server import json_tensors, rest
from tests.serving.conformance.test_rest import http_request
from tests.serving.conftest import MODEL, Running, run_server
from tests.serving.ports import free_port

PREDICT = f"/v1/models/{MODEL}:predict"
SOUND = b'{"inputs": [[[[[1]]]]]}'


@pytest.fixture(scope="module")
def running(saved_models: dict[int, Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    base_path = tmp_path_factory.mktemp("rest") / MODEL
    shutil.copytree(saved_models[1], base_path / "1")
    yield from run_server(
        base_path, rest_api_port=free_port(), rest_api_enable_cors_support=True, rest_api_timeout_in_ms=1000
    )


def error_of(response: tuple[int, dict[str, str], bytes]) -> tuple[int, str]:
    return response[0], json.loads(response[2])["error"]


def raw(running: Running, request: bytes, timeout: float = 30) -> bytes:
    """All that comes back when these bytes are sent."""
    with socket.create_connection(("127.0.0.1", running.rest_port), timeout=timeout) as connection:
        connection.sendall(request)
        received = b""
        while chunk := connection.recv(2**16):
            received += chunk
        return received


def posted(length: int, body: bytes = b"", **headers: str) -> bytes:
    lines = [f"POST {PREDICT} HTTP/1.1", "Host: x", f"Content-Length: {length}", "Connection: close"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode() + body


@pytest.mark.parametrize("headers", [{}, {"Expect": "100-continue"}], ids=["at once", "on demand"])
def test_a_body_beyond_the_limit_is_refused_before_it_is_sent(running: Running, headers: dict[str, str]) -> None:
    response = raw(running, posted(http_guard.LARGEST_BODY_BYTES + 1, **headers))
    assert response.startswith(b"HTTP/1.1 413 ")
    assert b"send volumes by gRPC" in response


def test_a_chunked_body_beyond_the_limit_is_refused_while_it_comes(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_guard, "LARGEST_BODY_BYTES", 2**16)
    head = f"POST {PREDICT} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n".encode()
    chunk = b"10000\r\n" + b" " * 2**16 + b"\r\n"
    assert raw(running, head + chunk * 100 + b"0\r\n\r\n").startswith(b"HTTP/1.1 413 ")


def test_a_bomb_is_not_unpacked_beyond_the_limit(running: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_guard, "LARGEST_BODY_BYTES", 2**20)
    bomb = gzip.compress(b" " * 2**24)
    assert len(bomb) < 2**16
    status, error = error_of(http_request(running.rest, PREDICT, bomb, **{"Content-Encoding": "gzip"}))
    assert status == 413 and "larger than 1048576 bytes" in error


@pytest.mark.parametrize(
    ("body", "complaint"),
    [(b"no gzip", "not gzip"), (gzip.compress(SOUND)[:-9], "cut off"), (zlib.compress(SOUND), "not gzip")],
    ids=["plain", "truncated", "zlib"],
)
def test_a_broken_gzip_body_is_refused(running: Running, body: bytes, complaint: str) -> None:
    status, error = error_of(http_request(running.rest, PREDICT, body, **{"Content-Encoding": "gzip"}))
    assert status == 400 and complaint in error


def test_requests_that_together_take_too_much_are_rejected(running: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_guard, "LARGEST_BODIES_BYTES", 2**17)
    with socket.create_connection(("127.0.0.1", running.rest_port), timeout=30) as slow:
        slow.sendall(posted(2**20, b" " * 2**16))
        time.sleep(0.5)
        response = raw(running, posted(2**17, b" " * 2**17))
        assert response.startswith(b"HTTP/1.1 429 ") and b"try again later" in response
    time.sleep(0.5)
    assert http_request(running.rest, PREDICT, SOUND)[0] == 200


def test_a_body_that_does_not_arrive_times_out(running: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_guard, "BODY_SECONDS", 0.5)
    monkeypatch.setattr(http_guard, "DRAIN_SECONDS", 0.5)
    response = raw(running, posted(100, b"{"))
    assert response.startswith(b"HTTP/1.1 408 ") and b"did not arrive within 0.5 s" in response


@pytest.fixture(scope="module")
def impatient(saved_models: dict[int, Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A server that waits one second for the headers of a request."""
    base_path = tmp_path_factory.mktemp("impatient") / MODEL
    shutil.copytree(saved_models[1], base_path / "1")
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(rest, "HEADER_SECONDS", 1)
        yield from run_server(base_path, rest_api_port=free_port())


@pytest.mark.parametrize("sent", [b"", b"POST /v1/models/le", SOUND[:5]], ids=["nothing", "half a line", "nonsense"])
def test_headers_that_do_not_arrive_time_out(impatient: Running, sent: bytes) -> None:
    began = time.monotonic()
    raw(impatient, sent)
    assert time.monotonic() - began < 10


def test_second_headers_that_do_not_arrive_time_out(impatient: Running) -> None:
    began = time.monotonic()
    response = raw(impatient, f"GET /v1/models/{MODEL} HTTP/1.1\r\nHost: x\r\n\r\nGET /v1/mod".encode())
    assert response.startswith(b"HTTP/1.1 200 ")
    assert time.monotonic() - began < 10


def test_a_document_that_would_fill_the_memory_is_not_decoded(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(json_tensors, "LARGEST_DOCUMENT_BYTES", 2**20)
    lists = b"[" + b"[]," * 20_000 + b"[]]"
    status, error = error_of(http_request(running.rest, PREDICT, b'{"inputs": ' + lists + b"}"))
    assert status == 429 and "send volumes by gRPC" in error


def test_the_bound_of_a_document_holds() -> None:
    import tracemalloc

    for body in (
        b'{"inputs": [' + b"[]," * 9999 + b"[]]}",
        b'{"inputs": [' + b"{}," * 9999 + b"{}]}",
        b'{"inputs": [' + b'{"a":{"b":1}},' * 9999 + b"{}]}",
        b'{"inputs": [' + b'"ab",' * 9999 + b'"ab"]}',
        b'{"inputs": [' + b"1.25," * 9999 + b"1]}",
        b'{"inputs": [' + b"123456789012," * 9999 + b"1]}",
    ):
        tracemalloc.start()
        document = json_tensors.parse_request(body)
        taken, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert document and taken <= json_tensors.document_bytes(body), body[:40]


@pytest.mark.parametrize("depth", [200, 100_000])
def test_deep_nesting_is_refused(running: Running, depth: int) -> None:
    status, error = error_of(
        http_request(running.rest, PREDICT, b'{"inputs": ' + b"[" * depth + b"1" + b"]" * depth + b"}")
    )
    assert status == 400 and "nested too deeply" in error


def test_a_computation_that_takes_too_long_is_stopped(running: Running) -> None:
    body = json.dumps({"signature_name": "slow", "inputs": 1_000_000}).encode()
    began = time.monotonic()
    assert http_request(running.rest, PREDICT, body)[0] == 504
    assert time.monotonic() - began < 10


@pytest.mark.parametrize("call", ["classify", "regress"])
def test_unimplemented_calls_are_reported(running: Running, call: str) -> None:
    status, error = error_of(http_request(running.rest, f"/v1/models/{MODEL}:{call}", b'{"examples": [{}]}'))
    assert (status, error) == (
        501,
        f"{call.capitalize()} is not implemented by metseg's embedded model server; call Predict, or run TF Serving",
    )


def test_pages_of_other_origins_may_call(running: Running) -> None:
    _, headers, _ = http_request(running.rest, PREDICT, SOUND)
    assert headers["access-control-allow-origin"] == "*"
    response = raw(running, f"OPTIONS {PREDICT} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
    assert response.startswith(b"HTTP/1.1 200 ") and b"access-control-allow-methods: POST, GET" in response


def test_garbage_gets_an_error_and_the_server_continues(running: Running) -> None:
    for garbage in (
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" * 20 + b"\r\n\r\n",
        b"GET\r\n\r\n",
        b"\x00" * 70_000,
    ):
        assert raw(running, garbage).startswith(b"HTTP/1.1 400 ")
    assert http_request(running.rest, PREDICT, SOUND)[0] == 200


def test_metrics_are_served_only_if_configured(running: Running, tmp_path: Path, saved_models: Any) -> None:
    assert http_request(running.rest, "/monitoring/prometheus/metrics")[0] == 404
    config = tmp_path / "monitoring.config"
    config.write_text('prometheus_config { enable: true path: "/metrics" }')
    shutil.copytree(saved_models[1], tmp_path / MODEL / "1")
    flags = {"rest_api_port": free_port(), "monitoring_config_file": str(config)}
    for other in run_server(tmp_path / MODEL, **flags):
        assert http_request(other.rest, "/v1/models/somebody-else:predict", SOUND)[0] == 404
        status, headers, page = http_request(other.rest, "/metrics")
        assert (status, headers["content-type"]) == (200, "text/plain")
        assert b':tensorflow:serving:request_count{model_name="(unknown)",status="NOT_FOUND"} 1\n' in page
        assert b':tensorflow:cc:saved_model:load_attempt_count{model_path="' in page
