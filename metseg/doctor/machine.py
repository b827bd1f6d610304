"""`metseg doctor`: examine this machine before a run on it."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import psutil

from metseg.child_environment import DOCKER, child_environment
from metseg.doctor.findings import Finding, broken, good, last_line, warning
from metseg.settings import Settings

PACKAGES = {
    "numpy": "numpy",
    "cv2": "opencv-python-headless",
    "great_expectations": "great-expectations",
    "mlflow": "mlflow",
    "kfp": "kfp",
}
"""Module and distribution of what every run needs; TensorFlow and Keras are imported in another process."""
TENSORFLOW = "import keras, tensorflow as t; print(t.__version__, len(t.config.list_physical_devices('GPU')))"
PORTS = {5000: "MLflow", 8500: "model server (gRPC)", 8501: "model server (REST)", 8080: "gateway", 8502: "viewer"}
LEAST_DISK = 5 * 2**30
LEAST_MEMORY = 2 * 2**30
"""Bytes; training on 60 phantoms used at most 1.7 GB (docs/results.md)."""
IMPORT_SECONDS = 180
SECONDS = 5


def examine(settings: Settings, docker: bool = False) -> list[Finding]:
    """Examine Python, packages, processor, memory, disk, ports, MLflow and model server; Docker on request."""
    findings = [_python(), *_packages(), _tensorflow(), _processor(), _memory()]
    findings += [_workspace(settings.workspace), *_ports(), _mlflow(settings), _model_server(settings)]
    return [*findings, _docker()] if docker else findings


def _python() -> Finding:
    release = ".".join(map(str, sys.version_info[:3]))
    if not (3, 11) <= sys.version_info[:2] < (3, 13):
        return broken("Python", release, "make install with Python 3.11 or 3.12")
    return good("Python", release)


def _packages() -> Iterator[Finding]:
    for module, distribution in PACKAGES.items():
        try:
            __import__(module)
            yield good(f"Package {distribution}", version(distribution))
        except (ImportError, PackageNotFoundError) as error:
            yield broken(f"Package {distribution}", str(error), "make install")


def _tensorflow() -> Finding:
    """Import TensorFlow in another process: a missing processor instruction would kill this one."""
    command = [sys.executable, "-c", TENSORFLOW]
    try:
        done = subprocess.run(
            command, env=child_environment(), capture_output=True, text=True, timeout=IMPORT_SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        return broken("TensorFlow", f"not imported in {IMPORT_SECONDS} s", "make install compiles its modules")
    if done.returncode < 0:
        return broken("TensorFlow", f"import ended by signal {-done.returncode}", "a processor with AVX")
    if done.returncode:
        return broken("TensorFlow", last_line(done.stderr), "make install")
    release, accelerators = done.stdout.split()[-2:]
    return good("TensorFlow", f"{release}, sees {accelerators} GPUs")


def _processor() -> Finding:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return good("Processor", f"{os.cpu_count()} cores")
    flags = {flag for line in lines if line.startswith("flags") for flag in line.split()}
    known = [name for name in ("avx", "avx2", "avx512f") if name in flags]
    features = f"{os.cpu_count()} cores, {', '.join(known) or 'no AVX'}"
    if flags and "avx" not in flags:
        return broken("Processor", features, "TensorFlow's packages need AVX: another machine, or another CPU model")
    return good("Processor", features)


def _memory() -> Finding:
    free = psutil.virtual_memory().available
    amount = f"{free / 2**30:.1f} GiB available"
    if free < LEAST_MEMORY:
        return warning("Memory", amount, "end other programs: training needs up to 2 GiB")
    return good("Memory", amount)


def _workspace(workspace: Path) -> Finding:
    what = f"Workspace {workspace}"
    try:
        with tempfile.TemporaryDirectory(dir=workspace):
            free = shutil.disk_usage(workspace).free
    except OSError as error:
        return broken(what, f"cannot be written ({error})", "set METSEG_WORKSPACE to a folder that can")
    state = f"writable, {free / 2**30:.1f} GiB free"
    if free < LEAST_DISK:
        return warning(what, state, "free some disk, or set METSEG_WORKSPACE to a larger one")
    return good(what, state)


def _ports() -> Iterator[Finding]:
    for port, service in PORTS.items():
        try:
            socket.create_server(("127.0.0.1", port)).close()
            yield good(f"Port {port}", "free")
        except OSError:
            remedy = f"nothing to do if it is metseg's ({service}); else give {service} another port"
            yield warning(f"Port {port}", "in use", remedy)


def _mlflow(settings: Settings) -> Finding:
    address = settings.tracking_uri
    if not address.startswith(("http://", "https://")):
        return good("MLflow", f"{address} (no server)")
    try:
        with urllib.request.urlopen(f"{address.rstrip('/')}/health", timeout=SECONDS):
            return good("MLflow", f"{address} responds")
    except urllib.error.HTTPError as error:
        return warning("MLflow", f"{address}: HTTP {error.code}", "see whether this is the address of an MLflow server")
    except OSError as error:
        remedy = "start the server, or correct MLFLOW_TRACKING_URI; unset it to keep runs in a file"
        return broken("MLflow", f"{address}: {error}", remedy)


def _model_server(settings: Settings) -> Finding:
    address = settings.model_server
    if not address:
        return good("Model server", "embedded (METSEG_MODEL_SERVER is not set)")
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host, int(port)), timeout=SECONDS).close()
        return good("Model server", f"{address} responds")
    except (OSError, ValueError) as error:
        remedy = "start it (`metseg serve`, `docker compose up`), or correct METSEG_MODEL_SERVER to HOST:PORT"
        return broken("Model server", f"{address}: {error}", remedy)


def _docker() -> Finding:
    remedy = "start Docker, or name it by DOCKER_HOST; only `metseg run --images` and infra/compose need it"
    try:
        command = ["docker", "version", "--format", "{{.Server.Version}}"]
        environment = child_environment(DOCKER)
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=30, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        return broken("Docker", str(error), remedy)
    if done.returncode:
        return broken("Docker", last_line(done.stderr), remedy)
    return good("Docker", done.stdout.strip())
