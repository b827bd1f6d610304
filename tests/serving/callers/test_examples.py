"""The examples of docs/serving.md, run as they stand there against a real server; and TLS."""

from __future__ import annotations

import contextlib
import datetime
import io
import ipaddress
import json
import re
import socket
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path

import grpc
import numpy as np
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from google.protobuf import descriptor_pb2, descriptor_pool, json_format, message_factory

from metseg.errors import ServerUnavailable, UsageError
from metseg.serving.client import SegmentationClient, Tls
from tests.conftest import ROOT
from tests.serving.callers.conftest import head, write_head
from tests.serving.callers.models import MODEL, THRESHOLD

TEXT = (ROOT / "docs" / "serving.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
NAME = "brain-mets-segmentation"


def block(holding: str) -> str:
    (found,) = [one for one in BLOCKS if holding in one]
    return found


def run(code: str, address: str) -> tuple[str, dict]:
    """What the code prints and leaves; the model of the tests has another name."""
    said, names = io.StringIO(), {}
    code = code.replace("127.0.0.1:8500", address).replace(NAME, MODEL)
    if "SegmentationClient(" in code:
        code = code.replace(f'"{address}", ', f'"{address}", "{MODEL}", ')
    with contextlib.redirect_stdout(said):
        exec(compile(code, "example", "exec"), names)
    return said.getvalue(), names


def test_quick_start(address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_head(tmp_path / "scans")
    code = block("find_cases")
    assert len([line for line in code.splitlines() if line.strip()]) <= 10
    said, names = run(code, address)
    assert said.startswith("head [((") and len(names["found"].lesions) == 1


def test_plain_tensorflow_serving_api(address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    image = np.stack([head(seed=seed) for seed in range(3)], axis=-1)
    np.save("volume.npy", image)
    _, names = run(block("make_tensor_proto"), address)
    with SegmentationClient(address, MODEL, label="stable") as client:
        np.testing.assert_array_equal(names["mask"], client.predict(image).probability >= np.float32(THRESHOLD))


def test_what_grpcurl_sends(address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The descriptor file and the JSON, by protobuf's own JSON mapping, which grpcurl follows."""
    monkeypatch.chdir(tmp_path)
    run(block("serving.protoset"), address)
    described = descriptor_pb2.FileDescriptorSet.FromString(Path("serving.protoset").read_bytes())
    waiting, pool = {file.name: file for file in described.file}, descriptor_pool.DescriptorPool()

    def add(name: str) -> None:
        file = waiting.pop(name, None)
        if file is not None:
            for needed in file.dependency:
                add(needed)
            pool.Add(file)

    for name in list(waiting):
        add(name)
    method = pool.FindServiceByName("tensorflow.serving.PredictionService").FindMethodByName("Predict")
    text = re.search(r"<<'JSON'\n(.*?)JSON\n", TEXT, re.DOTALL)[1].replace(NAME, MODEL)
    request = json_format.Parse(text, message_factory.GetMessageClass(method.input_type)(), descriptor_pool=pool)
    answer_type = message_factory.GetMessageClass(method.output_type)
    with grpc.insecure_channel(address, [("grpc.enable_http_proxy", 0)]) as channel:
        call = channel.unary_unary(
            "/tensorflow.serving.PredictionService/Predict",
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=answer_type.FromString,
        )
        answer = json_format.MessageToDict(call(request), descriptor_pool=pool)
    import base64

    described_as = json.loads(base64.b64decode(answer["outputs"]["specification"]["stringVal"][0]))
    assert described_as["exported"] == 1 and answer["modelSpec"]["version"] == "1"


@pytest.fixture
def certificate(tmp_path: Path) -> tuple[Path, Path]:
    """A self-signed certificate of 127.0.0.1, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "tests")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), True)
        .sign(key, hashes.SHA256())
    )
    certificate, private = tmp_path / "cert.pem", tmp_path / "key.pem"
    certificate.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    private.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return certificate, private


@contextlib.contextmanager
def tls_proxy(address: str, certificate: Path, key: Path) -> Iterator[str]:
    """A proxy that takes TLS and passes on what is in it, as one puts before a model server."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    context.set_alpn_protocols(["h2"])
    listening = socket.create_server(("127.0.0.1", 0))

    def pass_on(source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                target.sendall(data)
            target.shutdown(socket.SHUT_WR)

    def accept() -> None:
        with contextlib.suppress(OSError):
            while True:
                plain, _ = listening.accept()
                threading.Thread(target=serve, args=(plain,), daemon=True).start()

    def serve(plain: socket.socket) -> None:
        with contextlib.suppress(OSError):
            host, _, port = address.partition(":")
            inner = socket.create_connection((host, int(port)))
            outer = context.wrap_socket(plain, server_side=True)
            threading.Thread(target=pass_on, args=(inner, outer), daemon=True).start()
            pass_on(outer, inner)

    threading.Thread(target=accept, daemon=True).start()
    try:
        yield f"127.0.0.1:{listening.getsockname()[1]}"
    finally:
        listening.close()


def test_tls(address: str, certificate: tuple[Path, Path]) -> None:
    image = np.stack([head(seed=seed) for seed in range(3)], axis=-1)
    with tls_proxy(address, *certificate) as secure:
        with SegmentationClient(secure, MODEL, tls=Tls(root_certificates=certificate[0])) as client:
            assert client.segment(image).version == 2
        with SegmentationClient(secure, MODEL, tls=Tls(), timeout=3) as stranger, pytest.raises(ServerUnavailable):
            stranger.describe()
        with SegmentationClient(secure, MODEL, timeout=3) as plain, pytest.raises(ServerUnavailable):
            plain.describe()


def test_tls_files_are_checked(tmp_path: Path) -> None:
    (tmp_path / "no.pem").write_text("nothing")
    for path, complaint in ((tmp_path / "absent.pem", "cannot be read"), (tmp_path / "no.pem", "is no PEM file")):
        with pytest.raises(UsageError, match=complaint):
            SegmentationClient(tls=Tls(root_certificates=path))
    with pytest.raises(UsageError, match="go together"):
        Tls(client_key=tmp_path / "no.pem")
