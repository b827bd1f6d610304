"""gRPC over TLS, by `--ssl_config_file`."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

from metseg.errors import UsageError
from metseg.serving.server.flags import ServerOptions
from metseg.serving.server.model_server import ModelServer
from metseg.tensorflow_protos import prediction_service_pb2_grpc
from tests.serving.conftest import MODEL, predict_request, run_server

OPENSSL = shutil.which("openssl")


def certificate(folder: Path, name: str) -> tuple[bytes, bytes]:
    """Key and self-signed certificate of `localhost`."""
    if OPENSSL is None:
        pytest.skip("no openssl to make certificates with")
    key, cert = folder / f"{name}.key", folder / f"{name}.pem"
    subprocess.run(
        [
            *(OPENSSL, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", f"/CN={name}"),
            *("-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1", "-keyout", str(key), "-out", str(cert)),
        ],
        check=True,
        capture_output=True,
    )
    return key.read_bytes(), cert.read_bytes()


def ssl_config(path: Path, **fields: Any) -> Path:
    """An SSLConfig in protobuf's text format."""

    def text(value: Any) -> str:
        return str(value).lower() if isinstance(value, bool) else '"' + value.decode().replace("\n", "\\n") + '"'

    path.write_text("\n".join(f"{name}: {text(value)}" for name, value in fields.items()))
    return path


def version_asked(address: str, credentials: grpc.ChannelCredentials) -> int:
    with grpc.secure_channel(address, credentials, [("grpc.enable_http_proxy", 0)]) as channel:
        stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        request = predict_request("", image=np.zeros((1, 1, 2, 2, 1), np.float32))
        return int(stub.Predict(request, timeout=30).model_spec.version.value)


def test_callers_check_the_server(tmp_path: Path, saved_models: dict[int, Path]) -> None:
    key, cert = certificate(tmp_path, "server")
    config = ssl_config(tmp_path / "ssl.config", server_key=key, server_cert=cert)
    shutil.copytree(saved_models[1], tmp_path / MODEL / "1")
    for running in run_server(tmp_path / MODEL, ssl_config_file=str(config)):
        assert version_asked(running.address, grpc.ssl_channel_credentials(cert)) == 1
        _, other = certificate(tmp_path, "other")
        with pytest.raises(grpc.RpcError) as refused:
            version_asked(running.address, grpc.ssl_channel_credentials(other))
        assert refused.value.code() is grpc.StatusCode.UNAVAILABLE


def test_the_server_checks_callers_where_it_is_told_to(tmp_path: Path, saved_models: dict[int, Path]) -> None:
    key, cert = certificate(tmp_path, "server")
    client_key, client_cert = certificate(tmp_path, "client")
    config = ssl_config(
        tmp_path / "ssl.config", server_key=key, server_cert=cert, custom_ca=client_cert, client_verify=True
    )
    shutil.copytree(saved_models[1], tmp_path / MODEL / "1")
    for running in run_server(tmp_path / MODEL, ssl_config_file=str(config)):
        known = grpc.ssl_channel_credentials(cert, client_key, client_cert)
        assert version_asked(running.address, known) == 1
        with pytest.raises(grpc.RpcError) as refused:
            version_asked(running.address, grpc.ssl_channel_credentials(cert))
        assert refused.value.code() is grpc.StatusCode.UNAVAILABLE


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ('server_key: "k"', "expected server_key and server_cert"),
        ('server_key: "k" server_cert: "c" client_verify: true', "client_verify needs custom_ca"),
        ("surprise: 1", "not a SSLConfig.*surprise"),
    ],
)
def test_a_file_that_cannot_be_honoured_is_named(tmp_path: Path, text: str, complaint: str) -> None:
    config = tmp_path / "ssl.config"
    config.write_text(text)
    server = ModelServer(ServerOptions(port=0, model_base_path=str(tmp_path), ssl_config_file=str(config)))
    with pytest.raises(UsageError, match=rf"ssl\.config.*{complaint}"):
        server.start()
