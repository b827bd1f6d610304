"""The compose file is what compose takes, names the settings of the overlay `local`, and nothing that is not there."""

from __future__ import annotations

import configparser
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from sqlalchemy.engine import make_url

from components.container_images import NAMES
from metseg.serving.gateway.settings import GatewaySettings
from metseg.serving.server.flags import parse_flags
from metseg.tracking.code_version import package_version
from tests.conftest import ROOT
from tests.infra.clusters import executable
from tests.infra.rendering import containers, of_kind, overlay, pods

COMPOSE = ROOT / "infra" / "compose"
PLACES = {
    "postgres": ("postgres", "postgres"),
    "s3": ("s3", "s3"),
    "mlflow": ("mlflow", "mlflow"),
    "prepare": ("model-server", "prepare"),
    "model-server": ("model-server", "tensorflow-serving"),
    "reconciler": ("model-server", "reconciler"),
    "gateway": ("gateway", "gateway"),
    "viewer": ("viewer", "viewer"),
}
"""Workload and container of the overlay that each service stands for."""
ELSEWHERE = {
    "MLFLOW_AUTH_CONFIG_PATH": "a Secret cannot be mounted by compose",
    "MLFLOW_SERVER_ALLOWED_HOSTS": "names of a cluster are none of compose's",
}
"""Settings whose values differ, and why."""


@pytest.fixture(scope="module")
def services() -> dict[str, dict[str, Any]]:
    """The services as written, merge keys resolved and variables not."""
    return yaml.safe_load((COMPOSE / "compose.yaml").read_text(encoding="utf-8"))["services"]


@pytest.fixture(scope="module")
def example() -> dict[str, str]:
    lines = (COMPOSE / ".env.example").read_text(encoding="utf-8").splitlines()
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))


@pytest.fixture(scope="module")
def local() -> dict[str, dict[str, Any]]:
    """The container of `local` that each service stands for."""
    templates = pods(overlay("local"))
    return {
        service: next(found for found in containers(templates[workload]) if found["name"] == name)
        for service, (workload, name) in PLACES.items()
    }


def settings_of(container: dict[str, Any]) -> dict[str, str | None]:
    """Variables of a container; None for what comes from a secret."""
    maps = {entry["metadata"]["name"]: entry["data"] for entry in of_kind(overlay("local"), "ConfigMap")}
    found: dict[str, str | None] = {}
    for entry in container.get("env", []):
        key = entry.get("valueFrom", {}).get("configMapKeyRef")
        if key and key.get("optional") and key["key"] not in maps[key["name"]]:
            continue
        found[entry["name"]] = maps[key["name"]][key["key"]] if key else entry.get("value")
    return found


def replaced(part: str, variables: dict[str, str]) -> str:
    """A word of a command with what Kubernetes puts in place of `$(NAME)`."""
    return re.sub(r"\$\((\w+)\)", lambda name: variables[name[1]], part)


def test_services_are_those_of_the_overlay_local(services):
    assert set(services) == set(PLACES)
    templates = pods(overlay("local"))
    assert {workload for workload, _ in PLACES.values()} == set(templates)


def test_each_service_names_the_same_settings_with_the_same_values(services, local):
    for service, container in local.items():
        expected, found = settings_of(container), services[service].get("environment", {})
        assert set(found) == set(expected), service
        for name, value in expected.items():
            if value is None:
                assert "${" in found[name] or name.endswith("USERNAME"), (service, name)
            elif name not in ELSEWHERE:
                assert found[name].replace(f"${{{name}:-{value}}}", value) == value, (service, name)


def test_each_service_runs_the_same_image_and_command(services, local):
    for service, container in local.items():
        image = services[service]["image"].replace("${METSEG_IMAGE_TAG:-0.2.0}", package_version())
        assert image == container["image"], service
        ours = [*services[service].get("entrypoint", []), *services[service].get("command", [])]
        theirs = [*container.get("command", []), *container.get("args", [])]
        if service == "mlflow":
            assert " ".join(theirs) in ours[-1], "behind the lines that write its configuration"
        else:
            variables = services[service].get("environment", {})
            resolved = [part if "$" not in part else replaced(part, variables) for part in theirs]
            beside = ["--server=127.0.0.1:8500" if part == "--server=model-server:8500" else part for part in ours]
            assert resolved in (ours, beside), service


def test_ports_are_on_loopback_and_those_of_the_overlay(services, local):
    for service, entry in services.items():
        inside = {port["containerPort"] for port in local[service].get("ports", [])}
        for port in entry.get("ports", []):
            host, _, number = port.rpartition(":")
            assert host.startswith("127.0.0.1:") and int(number) in inside, (service, port)


def test_services_of_ours_are_as_confined_as_in_a_cluster(services):
    for service, entry in services.items():
        if service in ("postgres", "s3"):
            continue
        assert entry["read_only"] is True and entry["cap_drop"] == ["ALL"] and entry["user"] == "1000:0", service
        assert "no-new-privileges:true" in entry["security_opt"] and "/tmp:mode=1777" in entry["tmpfs"], service


def test_example_holds_every_variable_and_no_secret(services, example):
    text = (COMPOSE / "compose.yaml").read_text(encoding="utf-8")
    assert set(re.findall(r"(?<!\$)\$\{(\w+)", text)) == set(example)
    assert {name for name, value in example.items() if not value} == {
        "POSTGRES_PASSWORD",
        "MLFLOW_PASSWORD",
        "VIEWER_MLFLOW_PASSWORD",
        "MLFLOW_FLASK_SERVER_SECRET_KEY",
        "S3_SECRET_ACCESS_KEY",
        "METSEG_API_KEYS",
    }
    assert example["METSEG_IMAGE_TAG"] == package_version()


def read(file: Path) -> dict[str, str]:
    return dict(line.split("=", 1) for line in file.read_text().splitlines() if line and line[0] != "#")


def test_secrets_are_made_anew_once_and_readable_to_their_owner_alone(tmp_path, example):
    first, second = tmp_path / "first", tmp_path / "second"
    for file in (first, second):
        subprocess.run([COMPOSE / "secrets.sh", file], check=True, capture_output=True)
    made = read(first)
    assert set(made) == set(example) and all(made.values())
    secret = {name for name, value in example.items() if not value}
    assert all(len(made[name]) == 48 for name in secret) and len({made[name] for name in secret}) == len(secret)
    assert first.read_text() != second.read_text() and first.stat().st_mode & 0o077 == 0
    before = first.read_bytes()
    subprocess.run([COMPOSE / "secrets.sh", first], check=True, capture_output=True)
    assert first.read_bytes() == before


def test_a_file_of_an_earlier_release_gets_what_it_lacks_and_keeps_the_rest(tmp_path, example):
    file = tmp_path / "env"
    file.write_text("# mine\nMLFLOW_PASSWORD=kept%20\nMLFLOW_PORT=5005\nMETSEG_API_KEYS=\nPOSTGRES_PASSWORD=also kept")
    subprocess.run([COMPOSE / "secrets.sh", file], check=True, capture_output=True)
    made = read(file)
    assert (made["MLFLOW_PASSWORD"], made["MLFLOW_PORT"], made["POSTGRES_PASSWORD"]) == ("kept%20", "5005", "also kept")
    assert set(made) == set(example) and len(made["METSEG_API_KEYS"]) == 48
    assert file.read_text().startswith("# mine\n") and file.read_text().count("METSEG_API_KEYS=") == 1


def test_a_percent_sign_in_the_database_uri_is_doubled_in_the_file_of_logins(services, tmp_path):
    """The lines before the server's start, run by a shell with a program in place of Python and MLflow."""
    command = services["mlflow"]["command"]
    assert command[:2] == ["sh", "-ec"]
    for program in ("python", "mlflow"):
        executable(tmp_path / program, "#!/bin/sh\n")
    file = tmp_path / "basic_auth.ini"
    uri = "postgresql+psycopg2://mlflow:p%40s@postgres:5432/mlflow"
    subprocess.run(
        ["sh", "-ec", command[2].replace("$$", "$")],
        check=True,
        env={
            "PATH": f"{tmp_path}:/usr/bin:/bin",
            "MLFLOW_BACKEND_STORE_URI": uri,
            "MLFLOW_AUTH_CONFIG_PATH": str(file),
        },
    )
    parser = configparser.ConfigParser()
    parser.read(file)
    assert parser["mlflow"]["database_uri"] == uri
    assert parser["mlflow"]["authorization_function"] == "mlflow.server.auth:authenticate_request_basic_auth"


def test_mlflow_has_the_memory_of_the_overlay(services, local):
    assert services["mlflow"]["mem_limit"] == "2g" and local["mlflow"]["resources"]["limits"]["memory"] == "2Gi"


def test_files_volumes_and_services_that_are_named_exist(services):
    volumes = yaml.safe_load((COMPOSE / "compose.yaml").read_text())["volumes"]
    for service, entry in services.items():
        for mount in entry.get("volumes", []):
            source = mount.split(":")[0]
            assert (COMPOSE / source).exists() if source.startswith(".") else source in volumes, (service, mount)
        assert set(entry.get("depends_on", [])) <= set(services), service
    writers = {mount.split(":")[1] for entry in services.values() for mount in entry.get("volumes", [])
               if entry["image"].startswith(tuple(NAMES.values())) and not mount.endswith(":ro")}  # fmt: skip
    dockerfile = (ROOT / "infra/docker/Dockerfile").read_text()
    assert writers and all(f" {folder} " in dockerfile for folder in writers), "else a new volume there is root's"


def test_flags_are_those_of_the_model_server(services):
    options = parse_flags(services["model-server"]["command"])
    assert (options.port, options.rest_api_port) == (8500, 8501)
    assert options.model_config_file == "/models/models.config"


def test_database_is_spoken_to_by_the_driver_that_is_installed(services):
    uri = services["mlflow"]["environment"]["MLFLOW_BACKEND_STORE_URI"].replace("${POSTGRES_PASSWORD}", "p")
    assert make_url(uri).get_dialect().import_dbapi().__name__ == "psycopg2"


def test_gateway_accepts_its_settings(services, monkeypatch):
    for name, value in services["gateway"]["environment"].items():
        monkeypatch.setenv(name, value if "$" not in value else "0" * 48)
    assert GatewaySettings.from_environment().server == "model-server:8500"


def test_compose_takes_the_file(tmp_path):
    plugin = (
        shutil.which("docker") and not subprocess.run(["docker", "compose", "version"], capture_output=True).returncode
    )
    command = ["docker", "compose"] if plugin else [str(shutil.which("docker-compose"))]
    if command == ["None"]:
        pytest.skip("LOUD: neither `docker compose` nor docker-compose is here: compose.yaml was not shown to one")
    subprocess.run([COMPOSE / "secrets.sh", tmp_path / "env"], check=True, capture_output=True)
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("METSEG_", "PYTHON"))}
    files = ["-f", str(COMPOSE / "compose.yaml")]
    answer = subprocess.run(
        [*command, "--env-file", str(tmp_path / "env"), *files, "config"],
        capture_output=True, text=True, check=False, env=environment,
    )  # fmt: skip
    assert answer.returncode == 0, answer.stderr
    told = yaml.safe_load(answer.stdout)
    assert set(told["services"]) == set(PLACES)
    refused = subprocess.run([*command, *files, "config"], capture_output=True, text=True, check=False,
                             env=environment, cwd=tmp_path)  # fmt: skip
    if not (COMPOSE / ".env").exists():
        assert refused.returncode != 0 and "secrets.sh" in refused.stderr
