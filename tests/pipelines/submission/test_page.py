"""Commands of docs/kubeflow.md: `metseg submit` is run against the server of the published API, all others parsed."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
from functools import cache
from typing import Any

import pytest
import typer
import yaml

from components.configuration.parsing import parse_options
from components.configuration.setting_names import FIELDS, OPTIONS
from components.configuration.settings import Configuration
from metseg import cli
from pipelines.placement import CHECK_CPU, CHECK_MEMORY, NEEDS
from tests.conftest import ROOT
from tests.infra.rendering import of_kind, overlay

PAGE = (ROOT / "docs/kubeflow.md").read_text(encoding="utf-8")


@cache
def commands() -> list[str]:
    """Lines of the page's blocks of commands, without their comments."""
    found, fence = [], ""
    for line in PAGE.splitlines():
        if line.startswith("```"):
            fence = "" if fence else line
        elif fence == "```" and line and not line.startswith(("metseg:", "preprocess has waited")):
            found.append(re.sub(r"\s+#.*$", "", line))
    return found


def metseg_commands() -> list[list[str]]:
    return [words[1:] for line in commands() if (words := shlex.split(line))[0] == "metseg"]


def test_every_metseg_command_has_these_options():
    group: Any = typer.main.get_command(cli.app)
    checked = 0
    for name, *arguments in metseg_commands():
        command = group.commands[name]
        with command.make_context(name, arguments, resilient_parsing=False):
            checked += 1
    assert checked >= 15


@pytest.mark.parametrize("arguments", [words[1:] for words in metseg_commands() if words[0] == "submit"], ids=" ".join)
def test_every_submit_of_the_page_does_what_the_page_says(submit, kubeflow, leave, monkeypatch, arguments):
    if "--wait" in arguments:
        # The gate's verdict, which the steps of the run would have left in MLflow.
        kubeflow.started = lambda run: leave(run, verdict="promote", winner="nested_unet", registered_version="1")
    for action in ("--pause", "--resume", "--delete"):
        if action in arguments:
            submit("--cron", "0 3 * * 1", "--name", "weekly", "--param", "data_reference=s3://scans/current")
    code, said = submit(*arguments)
    assert code == 0, said
    if "--profile" in arguments:
        (run,) = kubeflow.runs.values()
        parameters = run["runtime_config"]["parameters"]
        assert set(parameters) <= {*FIELDS, *OPTIONS} and parameters["gpu_count"] == 0
        assert parse_options("pod_options", parameters["pod_options"])["pod_train_memory"] == "3584Mi"


def test_every_path_namespace_and_workload_exists():
    objects = overlay("local")
    known = {f"{entry['kind'].lower()}/{entry['metadata']['name']}" for entry in objects}
    services = {f"svc/{entry['metadata']['name']}" for entry in of_kind(objects, "Service")}
    theirs = {"svc/ml-pipeline-ui", "deployment/workflow-controller", "configmap/workflow-controller-configmap"}
    for command in commands():
        for path in re.findall(r"infra/[\w./-]+", command):
            assert (ROOT / path).exists(), command
        named = re.findall(r"\b(?:deployment|statefulset|svc|configmap)/[\w-]+", command)
        assert set(named) <= known | services | theirs, command


def test_kubectl_reads_every_command():
    if not shutil.which("kubectl"):
        pytest.skip("LOUD: kubectl is not installed, so no command of docs/kubeflow.md was parsed")
    checked = set()
    for line in commands():
        for command in re.findall(r"kubectl [a-z-]+(?: restart| status)?", line):
            answer = subprocess.run([*command.split(), "--help"], capture_output=True, text=True, check=False)
            assert answer.returncode == 0, command
            known = set(re.findall(r"--[a-z-]+", answer.stdout)) | {"--namespace", "--context", "--kubeconfig"}
            own = line.partition(command)[2].partition("|")[0].partition(")")[0]
            assert set(re.findall(r"(?<=\s)--[a-z-]+", own)) <= known, line
            checked.add(command)
    assert len(checked) >= 6


def test_the_steps_of_the_table_request_what_the_settings_say():
    pods = Configuration.of({"data_reference": "s3://scans/a"}).values()
    rows = {row.split("|")[1].strip(): [cell.strip() for cell in row.split("|")[2:-1]] for row in PAGE.splitlines()
            if row.startswith(tuple(f"| {step} | " for step in NEEDS)) and "GiB" in row}  # fmt: skip
    assert set(rows) == set(NEEDS)
    units = {"min": 60, "h": 3600, "day": 86400, "days": 86400}
    for step, (cpu, memory, _, ends, again) in rows.items():
        asked = pods.get(f"pod_{step}_cpu", CHECK_CPU), pods.get(f"pod_{step}_memory", CHECK_MEMORY)
        cores = float(asked[0].removesuffix("m")) / (1000 if asked[0].endswith("m") else 1)
        assert (float(cpu), memory) == (cores, asked[1].replace("Gi", " GiB")), step
        number, unit = ends.split()
        assert int(number) * units[unit] == NEEDS[step].seconds, step
        assert int(re.sub(r"\D.*", "", again) or 0) == NEEDS[step].retries, step


def test_the_outline_of_the_graph_is_the_pipelines():
    from pipelines.compiling import COMPILED

    pipeline = next(iter(yaml.safe_load_all(COMPILED.read_text(encoding="utf-8"))))
    for name in ("check", "data", "register", "promote", "evaluate champion"):
        assert name in {task["taskInfo"]["name"] for task in pipeline["root"]["dag"]["tasks"].values()}
        assert f"`{name}`" in PAGE or f"**{name}**" in PAGE
