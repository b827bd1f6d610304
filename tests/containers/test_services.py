"""What the services cost at rest, and what MLflow holds under load: five minutes each, as Docker's accounts have it.

They run beside what the pipeline's tests left: runs, versions, a champion that is served.
"""

from __future__ import annotations

import os
import threading
import time

import docker as docker_api
import pytest

from tests.containers.load import load
from tests.containers.stack import Stack

pytestmark = pytest.mark.containers

SECONDS = float(os.environ.get("METSEG_MEASURED_SECONDS", "300"))
CORES_AT_REST = 0.05
MEMORY_UNDER_LOAD = 0.8
SERVICES = ("postgres", "s3", "mlflow", "model-server", "reconciler", "gateway", "viewer")
STAND_INS = ("s3", "model-server")
"""Of these what a real stack has is another program, whose figures are not measured here."""


def statistics(stack: Stack, service: str) -> dict:
    client = docker_api.from_env()
    try:
        return client.containers.get(stack.containers()[service]["Id"]).stats(stream=False)
    finally:
        client.close()


def cpu_seconds(stack: Stack) -> dict[str, float]:
    return {name: statistics(stack, name)["cpu_stats"]["cpu_usage"]["total_usage"] / 1e9 for name in SERVICES}


def memory(stack: Stack) -> tuple[float, float]:
    """Bytes that MLflow holds, without what the kernel caches of files, and its limit."""
    found = statistics(stack, "mlflow")["memory_stats"]
    cached = found["stats"].get("total_inactive_file", found["stats"].get("inactive_file", 0))
    return found["usage"] - cached, found["limit"]


def workers(stack: Stack) -> set[str]:
    """Processes of MLflow's container, by their ids."""
    client = docker_api.from_env()
    try:
        top = client.containers.get(stack.containers()["mlflow"]["Id"]).top()
    finally:
        client.close()
    column = top["Titles"].index("PID")
    return {row[column] for row in top["Processes"] if "mlflow" in row[-1] or "spawn_main" in row[-1]}


def killed_by_the_limit(stack: Stack) -> int:
    """How many processes of MLflow's container the kernel killed for memory."""
    look = "cat /sys/fs/cgroup/memory.events /sys/fs/cgroup/memory/memory.oom_control 2> /dev/null"
    told = stack.run("exec", "-T", "mlflow", "sh", "-c", look).stdout.split()
    assert "oom_kill" in told, told
    return int(told[told.index("oom_kill") + 1])


def test_services_at_rest_take_little(stack, capsys):
    stack.await_health("mlflow", "reconciler", "gateway", "viewer")
    time.sleep(30)
    before, began = cpu_seconds(stack), time.monotonic()
    time.sleep(SECONDS)
    after, seconds = cpu_seconds(stack), time.monotonic() - began
    cores = {name: (after[name] - before[name]) / seconds for name in SERVICES}
    with capsys.disabled():
        print("\ncores at rest:", ", ".join(f"{name} {value:.4f}" for name, value in cores.items()))
        print(f"in all {sum(cores.values()):.4f}; of it stand-ins {sum(cores[name] for name in STAND_INS):.4f}")
    assert sum(cores.values()) < CORES_AT_REST, cores


def test_mlflow_under_load_stays_below_its_limit_and_loses_no_worker(stack, capsys):
    os.environ |= {name: value for name, value in stack.environment.items() if name.startswith("MLFLOW_")}
    assert stack.containers()["mlflow"]["HostConfig"]["Memory"] > 0, "no limit, nothing to hold"
    before, done, seen = workers(stack), threading.Event(), [memory(stack)]

    def watch() -> None:
        while not done.wait(3):
            seen.append(memory(stack))

    watching = threading.Thread(target=watch)
    watching.start()
    try:
        rounds = load(stack.environment["MLFLOW_TRACKING_URI"], SECONDS)
    finally:
        done.set()
        watching.join()
    most, limit = max(used for used, _ in seen), seen[0][1]
    with capsys.disabled():
        print(f"\nMLflow under load: {most / 2**20:.0f} MiB of {limit / 2**20:.0f}, {rounds} rounds, "
              f"{len(before)} processes")  # fmt: skip
    assert most < MEMORY_UNDER_LOAD * limit
    assert before <= workers(stack), "a process is not there any more"
    assert killed_by_the_limit(stack) == 0 and stack.containers()["mlflow"]["RestartCount"] == 0
    assert rounds > 20
