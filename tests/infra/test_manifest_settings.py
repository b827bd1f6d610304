"""Settings, commands and variables of the manifests: those that the programs read."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

from metseg.environment_settings import ResourceSettings
from metseg.retention import Retention
from metseg.serving.gateway.settings import GatewaySettings
from metseg.serving.model_config import read_message
from metseg.serving.server.flags import parse_flags
from metseg.serving.viewer.options import ViewerOptions
from metseg.settings import Settings
from metseg.tensorflow_protos import MonitoringConfig
from pipelines.placement import (
    MLFLOW_SECRET,
    SETTINGS_MAP,
    STATE_CLAIM,
    STORAGE_SECRET,
)
from tests.conftest import ROOT
from tests.infra.rendering import KUBERNETES, containers, of_kind, overlay, pods

OURS = re.compile(r"(^|/)metseg-(data|serve):")
SETTINGS = {
    "METSEG_MLFLOW_TRACKING_URI",
    "METSEG_MODEL_SERVER",
    "METSEG_RECONCILER",
    "METSEG_S3_REGION",
    "METSEG_CACHE_GB",
}
SETTINGS_MORE = {
    "METSEG_S3_ENDPOINT_URL",
    "METSEG_KUBEFLOW_URL",
    "METSEG_MLFLOW_URL",
    "METSEG_PSEUDONYMS",
    "METSEG_KEEP_CHECKPOINTS",
    "METSEG_PATIENCE_SECONDS",
    "METSEG_WORKERS",
}


def test_the_page_names_every_setting_of_the_namespace_of_runs():
    page = (ROOT / "docs/kubeflow.md").read_text(encoding="utf-8")
    (row,) = (line for line in page.splitlines() if line.startswith(f"| ConfigMap | `{SETTINGS_MAP}` |"))
    assert set(re.findall(r"METSEG_\w+", row)) == SETTINGS | SETTINGS_MORE


def test_pipeline_finds_its_settings_secrets_and_claim(objects, secrets):
    (settings,) = [entry for entry in of_kind(objects, "ConfigMap") if entry["metadata"]["name"] == SETTINGS_MAP]
    namespace = settings["metadata"]["namespace"]
    # MLFLOW_… would collide with what Kubeflow's MLflow plugin injects, AWS_… steer Kubeflow's launcher.
    assert SETTINGS <= set(settings["data"]) <= SETTINGS | SETTINGS_MORE
    claims = {(e["metadata"]["namespace"], e["metadata"]["name"]) for e in of_kind(objects, "PersistentVolumeClaim")}
    assert (namespace, STATE_CLAIM) in claims
    assert {"username", "password"} <= secrets[namespace, MLFLOW_SECRET]
    assert {"access-key-id", "secret-access-key"} <= secrets[namespace, STORAGE_SECRET]
    assert secrets[namespace, "metseg-pseudonyms"] == {"key"}
    services = {entry["metadata"]["name"]: entry["spec"]["ports"] for entry in of_kind(objects, "Service")}
    for address in (
        settings["data"]["METSEG_MLFLOW_TRACKING_URI"].removeprefix("http://"),
        settings["data"]["METSEG_MODEL_SERVER"],
    ):
        host, _, port = address.partition(":")
        assert int(port) in {entry["port"] for entry in services[host.removesuffix(".metseg")]}, address


def test_serving_files_and_flags_are_what_tensorflow_serving_reads(objects, tmp_path):
    (files,) = [e["data"] for e in of_kind(objects, "ConfigMap") if e["metadata"]["name"].startswith("metseg-serving")]
    (tmp_path / "monitoring.config").write_text(files["monitoring.config"])
    metrics_config = read_message(tmp_path / "monitoring.config", MonitoringConfig())
    template = pods(objects)["model-server"]
    assert metrics_config.prometheus_config.enable
    assert metrics_config.prometheus_config.path == template["metadata"]["annotations"]["prometheus.io/path"]
    server = next(c for c in containers(template) if c["name"] == "tensorflow-serving")
    options = parse_flags(server["args"])
    ports = {port["name"]: port["containerPort"] for port in server["ports"]}
    assert (options.port, options.rest_api_port) == (ports["grpc"], ports["rest"])
    mounts = {mount["mountPath"]: mount for mount in server["volumeMounts"]}
    assert (
        str(Path(options.model_config_file).parent) in mounts
        and str(Path(options.monitoring_config_file).parent) in mounts
    )
    assert mounts["/models"]["readOnly"] and options.allow_version_labels_for_unavailable_models
    reconciler = next(c for c in containers(template) if c["name"] == "reconciler")
    assert {"name": "METSEG_MODEL_BASE_PATH", "value": "/models"} in reconciler["env"]


def test_tensorflow_serving_is_of_the_release_whose_messages_we_speak(objects):
    locked = re.search(r"^tensorflow-serving-api==(\S+)", (ROOT / "requirements.lock").read_text(), re.MULTILINE)
    images = {c["image"] for template in pods(objects).values() for c in containers(template)}
    (serving,) = [image for image in images if image.startswith("tensorflow/serving")]
    assert locked and serving.removesuffix("-gpu") == f"tensorflow/serving:{locked[1]}"


def expanded(container: dict[str, Any]) -> list[str]:
    """The command line with what Kubernetes puts in place of `$(NAME)`."""
    return [
        re.sub(r"\$\((\w+)\)", "127.0.0.1:8500", part) for part in [*container["command"], *container.get("args", [])]
    ]


def test_commands_of_our_images_exist_with_their_options():
    told: dict[str, str] = {}
    for name, template in pods(overlay("local")).items():
        for container in containers(template):
            if not OURS.search(container["image"]) or container["command"][0] not in ("metseg", "mlflow"):
                continue
            program, command, *rest = expanded(container)
            if f"{program} {command}" not in told:
                binary = Path(sys.executable).parent / program
                environment = {"PATH": "/usr/bin", "COLUMNS": "200", "PYTHONPATH": str(ROOT), "HOME": "/tmp"}
                answer = subprocess.run(
                    [binary, command, "--help"], capture_output=True, text=True, check=True, env=environment
                )
                told[f"{program} {command}"] = answer.stdout
            for option in (part.partition("=")[0] for part in rest if part.startswith("--")):
                assert re.search(rf"{option}\b", told[f"{program} {command}"]), (name, option)


def test_variables_of_our_containers_are_read_by_the_program(objects):
    programs = [*(ROOT / "metseg").rglob("*.py"), *(KUBERNETES / "base/services/mlflow").glob("*.py")]
    sources = "\n".join(path.read_text(encoding="utf-8") for path in programs)
    own = {
        entry["name"]
        for template in pods(objects).values()
        for container in containers(template)
        for entry in container.get("env", [])
        if entry["name"].startswith("METSEG_")
    }
    assert own >= {"METSEG_API_KEYS", "METSEG_MODEL_BASE_PATH"}
    fields = {
        str(info.validation_alias or f"{kind.model_config['env_prefix']}{field}".upper())
        for kind in (Settings, GatewaySettings, ResourceSettings, ViewerOptions, Retention)
        for field, info in kind.model_fields.items()
    }
    for name in own - fields:
        assert f'"{name}"' in sources, name


def test_gateway_accepts_its_settings(objects, monkeypatch):
    settings = next(
        e["data"] for e in of_kind(objects, "ConfigMap") if e["metadata"]["name"].startswith("metseg-services")
    )
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("METSEG_API_KEYS", "0" * 48)
    assert GatewaySettings.from_environment().server == "model-server:8500"
    assert Settings.from_environment().tracking_uri == "http://mlflow:5000"
