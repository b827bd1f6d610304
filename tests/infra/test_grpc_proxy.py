"""gRPC from outside: the component's own nginx.conf, run by a real nginx in front of the embedded server."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import grpc
import numpy as np
import pytest

from metseg.serving.client import SegmentationClient, Tls
from metseg.serving.client.channel import open_channel
from metseg.tensorflow_protos import (
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_management_pb2,
    model_service_pb2_grpc,
    prediction_service_pb2_grpc,
)
from tests.conftest import ROOT
from tests.infra.rendering import KUBERNETES, containers, of_kind, pods, rendered_with
from tests.serving.conformance.model import MODEL, export_tiny_model
from tests.serving.conftest import Running, predict_request, run_server
from tests.serving.ports import free_port
from tests.serving.test_tls import certificate

CONFIGURATION = KUBERNETES / "components/grpc-tls/nginx.conf"


@dataclass(frozen=True)
class Proxy:
    """nginx in front of a server, and the files of a caller."""

    address: str
    tls: Tls
    stranger: Tls
    folder: Path


@pytest.fixture(scope="module")
def served(tmp_path_factory) -> Iterator[Running]:
    base_path = tmp_path_factory.mktemp("served") / MODEL
    export_tiny_model(base_path / "1", 1)
    yield from run_server(base_path)


def documented_certificates(folder: Path) -> None:
    """Run the commands of docs/cluster.md that make a CA of callers and a caller's certificate."""
    text = (ROOT / "docs/cluster.md").read_text(encoding="utf-8").split("## gRPC from outside")[1].split("\n## ")[0]
    commands = [line for line in text.splitlines() if line.startswith("openssl ")]
    assert len(commands) == 3
    for command in commands:
        subprocess.run(shlex.split(command), cwd=folder, check=True, capture_output=True)


@pytest.fixture(scope="module")
def proxy(served, tmp_path_factory) -> Iterator[Proxy]:
    nginx = shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin")
    if not nginx:
        pytest.skip("LOUD: nginx is not installed, so gRPC from outside was not tried; apt-get install nginx-light")
    folder = tmp_path_factory.mktemp("proxy")
    documented_certificates(folder)
    for name, content in zip(("tls.key", "tls.crt"), certificate(folder, "localhost"), strict=True):
        (folder / name).write_bytes(content)
    port = free_port()
    text = CONFIGURATION.read_text()
    for old, new in {
        " /tmp/": f" {folder}/",
        "listen 8443": f"listen 127.0.0.1:{port}",
        "model-server:8500": served.address,
        "/etc/metseg/tls/": f"{folder}/",
        "/dev/stdout": f"{folder}/access.log",
    }.items():
        assert old in text
        text = text.replace(old, new)
    (folder / "nginx.conf").write_text(text)
    # As root it would give its workers to a user who may not read here.
    user = "user root; " if os.getuid() == 0 else ""
    command = [nginx, "-p", str(folder), "-c", str(folder / "nginx.conf"), "-g", f"{user}daemon off;"]
    with (folder / "nginx.log").open("w") as log:
        process = subprocess.Popen(command, stderr=log)
    server, client = folder / "tls.crt", (folder / "client.crt", folder / "client.key")
    made = Proxy(f"127.0.0.1:{port}", Tls(server, *client), Tls(server), folder)
    try:
        with open_channel(made.address, made.tls) as channel:
            grpc.channel_ready_future(channel).result(timeout=30)
        yield made
    finally:
        process.terminate()
        process.wait(20)


def failure(proxy: Proxy, tls: Tls | None, method: str, request: object) -> grpc.StatusCode:
    """What a call ends with."""
    with open_channel(proxy.address, tls) as channel:
        service = model_service_pb2_grpc if "Model" in method.partition(".")[0] else prediction_service_pb2_grpc
        stub = getattr(service, f"{method.partition('.')[0]}Stub")(channel)
        with pytest.raises(grpc.RpcError) as refused:
            getattr(stub, method.partition(".")[2])(request, timeout=20)
        return refused.value.code()


def small_request() -> object:
    return predict_request("", image=np.zeros((1, 1, 2, 2, 1), np.float32))


def test_a_caller_with_a_certificate_is_answered(proxy, served):
    image = np.linspace(0, 1, 40 * 64 * 64, dtype=np.float32).reshape(1, 40, 64, 64, 1)
    with open_channel(proxy.address, proxy.tls) as channel:
        answer = prediction_service_pb2_grpc.PredictionServiceStub(channel).Predict(
            predict_request("", image=np.repeat(image, 16, axis=0)), timeout=60
        )
        metadata = get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=["signature_def"])
        metadata.model_spec.name = MODEL
        assert (
            prediction_service_pb2_grpc.PredictionServiceStub(channel).GetModelMetadata(metadata, timeout=20).metadata
        )
        status = get_model_status_pb2.GetModelStatusRequest()
        status.model_spec.name = MODEL
        found = model_service_pb2_grpc.ModelServiceStub(channel).GetModelStatus(status, timeout=20)
    assert [one.version for one in found.model_version_status] == [1]
    assert answer.model_spec.version.value == 1
    with open_channel(served.address, None) as channel:
        plain = prediction_service_pb2_grpc.PredictionServiceStub(channel).Predict(
            predict_request("", image=np.repeat(image, 16, axis=0)), timeout=60
        )
    assert answer.outputs["probability"] == plain.outputs["probability"]


def test_a_caller_without_a_certificate_is_refused(proxy):
    """nginx ends the call with HTTP 400, which gRPC takes as INTERNAL; without TLS there is no connection at all."""
    assert failure(proxy, proxy.stranger, "PredictionService.Predict", small_request()) is grpc.StatusCode.INTERNAL
    assert failure(proxy, None, "PredictionService.Predict", small_request()) is grpc.StatusCode.UNAVAILABLE


def test_a_certificate_of_another_authority_is_refused(proxy, tmp_path):
    certificate(tmp_path, "other")
    other = Tls(proxy.folder / "tls.crt", tmp_path / "other.pem", tmp_path / "other.key")
    assert failure(proxy, other, "PredictionService.Predict", small_request()) is grpc.StatusCode.INTERNAL


def test_the_reload_call_is_refused_and_changes_nothing(proxy, served):
    request = model_management_pb2.ReloadConfigRequest()
    request.config.model_config_list.SetInParent()
    code = failure(proxy, proxy.tls, "ModelService.HandleReloadConfigRequest", request)
    assert code is grpc.StatusCode.PERMISSION_DENIED
    with SegmentationClient(served.address, MODEL) as client:
        assert client.describe() is not None


@pytest.mark.parametrize("path", ["/tensorflow.serving.ModelService/HandleReloadConfigRequest/",
                                  "//tensorflow.serving.ModelService/HandleReloadConfigRequest",
                                  "/tensorflow.serving.ModelService/../tensorflow.serving.ModelService/HandleReloadConfigRequest",
                                  "/tensorflow.serving.ModelService/HandleReload%43onfigRequest"])  # fmt: skip
def test_no_spelling_of_the_reload_call_passes(proxy, path):
    with open_channel(proxy.address, proxy.tls) as channel:
        call = channel.unary_unary(path, request_serializer=bytes, response_deserializer=bytes)
        with pytest.raises(grpc.RpcError) as refused:
            call(b"", timeout=20)
    assert refused.value.code() is grpc.StatusCode.PERMISSION_DENIED


def test_the_manifest_mounts_what_the_configuration_reads():
    objects = rendered_with("local", "grpc-tls")
    template = pods(objects)["grpc"]
    (container,) = containers(template)
    mounts = {mount["mountPath"] for mount in container["volumeMounts"]}
    assert mounts == {"/etc/metseg/nginx", "/etc/metseg/tls", "/tmp"}
    assert f"{'/etc/metseg/nginx'}/nginx.conf" in container["command"]
    (secret,) = [volume["secret"] for volume in template["spec"]["volumes"] if "secret" in volume]
    keys = {item["path"] for item in secret["items"]}
    assert all(f"/etc/metseg/tls/{key};" in CONFIGURATION.read_text() for key in keys)
    services = {entry["metadata"]["name"]: entry["spec"] for entry in of_kind(objects, "Service")}
    assert services["grpc"]["ports"][0]["targetPort"] == container["ports"][0]["name"]
    assert "listen 8443 " in CONFIGURATION.read_text() and container["ports"][0]["containerPort"] == 8443
    assert services["model-server"].get("type", "ClusterIP") == "ClusterIP", "its own port stays inside"
