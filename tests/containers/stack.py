"""The services of infra/compose, with images that need no registry, up while a block runs."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.conftest import ROOT
from tests.serving.ports import free_port

HERE = Path(__file__).parent
COMPOSE = ROOT / "infra" / "compose"
PORTS = ("MLFLOW_PORT", "S3_PORT", "MODEL_SERVER_PORT", "MODEL_SERVER_REST_PORT", "GATEWAY_PORT", "VIEWER_PORT")
FROM_REGISTRY, FROM_PACKAGES = "python:3.11-slim-bookworm", "metseg-base:bookworm"
ANYONE = "54321:0"
"""A user that no image knows, as OpenShift gives one to a pod."""
PROJECT = "metseg-test"


def docker(*arguments: str) -> str:
    """Standard output of a docker command."""
    return subprocess.run(["docker", *arguments], capture_output=True, text=True, check=True).stdout.strip()


def has_image(name: str) -> bool:
    return bool(docker("image", "ls", "--quiet", name))


def base_image() -> str:
    """What to build on: as BASE_IMAGE says, else what is there, else made of Debian's packages."""
    if chosen := os.environ.get("BASE_IMAGE"):
        return chosen
    if has_image(FROM_REGISTRY):
        return FROM_REGISTRY
    if not has_image(FROM_PACKAGES):
        subprocess.run([ROOT / "infra/docker/base.sh", FROM_PACKAGES], check=True, stdout=sys.stderr)
    return FROM_PACKAGES


def build() -> str:
    """Build our images and the two that stand in for a registry's; gives what the former's build said of sizes."""
    base = base_image()
    build_py = [sys.executable, str(ROOT / "infra/docker/build.py"), "--base-image", base]
    said = subprocess.run(build_py, stdout=subprocess.PIPE, stderr=sys.stderr, text=True, check=False)
    assert said.returncode == 0, said.stdout[-3000:]
    for target in ("postgres", "s3"):
        command = ["docker", "build", "--quiet", "--tag", f"metseg-test-{target}", "--target", target]
        subprocess.run([*command, "--build-arg", f"BASE_IMAGE={base}", str(HERE)], check=True, stdout=sys.stderr)
    return "\n".join(line for line in said.stdout.splitlines() if " GB" in line)


def composer() -> list[str]:
    """Compose, as Docker's plugin or as a program of its own."""
    if subprocess.run(["docker", "compose", "version"], capture_output=True, check=False).returncode == 0:
        return ["docker", "compose"]
    found = shutil.which("docker-compose")
    assert found, "neither `docker compose` nor docker-compose is here: apt-get install docker-compose"
    return [found]


@dataclass(frozen=True)
class Stack:
    """What is up.

    Attributes:
        environment: what a process of this machine needs to use it, as docs/containers.md has it.
        settings: what its .env file holds.
        command: compose with its files.
        project: compose's name of all of it.
    """

    environment: dict[str, str]
    settings: dict[str, str]
    command: list[str]
    project: str = PROJECT

    def url(self, port: str) -> str:
        """Address of a service by the name of its port."""
        return f"http://127.0.0.1:{self.settings[port]}"

    def containers(self) -> dict[str, dict]:
        """What Docker says of each container, by its service."""
        found = json.loads(docker("inspect", *docker("ps", "-aq", "--filter", self._label()).split()))
        return {entry["Config"]["Labels"]["com.docker.compose.service"]: entry for entry in found}

    def _label(self) -> str:
        return f"label=com.docker.compose.project={self.project}"

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """A compose command."""
        return subprocess.run([*self.command, *arguments], capture_output=True, text=True, check=False, env=composing())

    def await_health(self, *services: str, seconds: float = 240) -> None:
        """Wait until services are healthy, by their own health checks."""
        ends = time.monotonic() + seconds
        while time.monotonic() < ends:
            states = self.containers()
            health = {
                name: states[name]["State"].get("Health", {}).get("Status") for name in services if name in states
            }
            if [health.get(name) for name in services] == ["healthy"] * len(services):
                return
            time.sleep(1)
        raise AssertionError(f"not healthy: {health}\n{self.run('logs', '--tail=40', *services).stdout[-6000:]}")


def composing() -> dict[str, str]:
    """Environment of compose: without variables that would stand before those of the file."""
    return {name: value for name, value in os.environ.items() if not name.startswith(("METSEG_", "MLFLOW_", "AWS_"))}


@contextmanager
def up(folder: Path, project: str = PROJECT, services: Sequence[str] = ()) -> Iterator[Stack]:
    """The named services, or all, on free ports; everything of them is gone afterwards, volumes too."""
    file = folder / "compose.env"
    subprocess.run([COMPOSE / "secrets.sh", file], check=True, stdout=sys.stderr)
    settings = dict(line.split("=", 1) for line in file.read_text().splitlines() if "=" in line and line[0] != "#")
    settings |= {name: str(free_port()) for name in PORTS}
    file.write_text("".join(f"{name}={value}\n" for name, value in settings.items()))
    command = [*composer(), "--env-file", str(file), "--project-name", project]
    command += ["-f", str(COMPOSE / "compose.yaml"), "-f", str(HERE / "services.yaml")]
    stack = Stack(
        environment={
            "MLFLOW_TRACKING_URI": f"http://127.0.0.1:{settings['MLFLOW_PORT']}",
            "MLFLOW_TRACKING_USERNAME": "admin",
            "MLFLOW_TRACKING_PASSWORD": settings["MLFLOW_PASSWORD"],
            "METSEG_MODEL_SERVER": f"127.0.0.1:{settings['MODEL_SERVER_PORT']}",
            "METSEG_RECONCILER": "elsewhere",
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{settings['S3_PORT']}",
            "AWS_ACCESS_KEY_ID": settings["S3_ACCESS_KEY_ID"],
            "AWS_SECRET_ACCESS_KEY": settings["S3_SECRET_ACCESS_KEY"],
            "AWS_DEFAULT_REGION": "us-east-1",
        },
        settings=settings,
        command=command,
        project=project,
    )
    try:
        brought = stack.run("up", "--detach", *services)
        assert brought.returncode == 0, brought.stderr[-3000:] + stack.run("logs", "--tail=40").stdout[-6000:]
        yield stack
    finally:
        stack.run("down", "--volumes", "--timeout", "5")
