"""Commands of docs/cluster.md: those that make objects are run; of all others the paths, names and options exist."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from tests.conftest import ROOT
from tests.infra.rendering import KUBERNETES, of_kind, overlay, pods, rendered_with
from tests.infra.test_manifests import KUBERNETES_VERSION

PAGE = (ROOT / "docs/cluster.md").read_text(encoding="utf-8")
FILES = (
    "token.txt",
    "id_ed25519",
    "known_hosts",
    "company-ca.pem",
    "password.txt",
    "server.crt",
    "server.key",
    "ca.crt",
)


@cache
def commands() -> list[str]:
    """Lines of the page's blocks of commands, without their comments."""
    found, fence = [], ""
    for line in PAGE.splitlines():
        if line.startswith("```"):
            fence = "" if fence else line
        elif fence == "```" and line:
            found.append(re.sub(r"\s+#.*$", "", line))
    return found


def created(folder: Path) -> dict[tuple[str, str], set[str]]:
    """Objects that the page's `kubectl create` commands make, by kind and name; keys of all together."""
    for name in FILES:
        (folder / name).write_text(f"content of {name}")
    found: dict[tuple[str, str], set[str]] = {}
    for command in (line for line in commands() if line.startswith("kubectl create")):
        resolved = command.replace("RUNS", "kubeflow") + " --dry-run=client --output=yaml"
        answer = subprocess.run(["bash", "-c", resolved], cwd=folder, capture_output=True, text=True, check=False)
        assert answer.returncode == 0, (command, answer.stderr)
        entry: dict[str, Any] = yaml.safe_load(answer.stdout)
        kubernetes_validate.validate(entry, KUBERNETES_VERSION, strict=True)
        found.setdefault((entry["kind"], entry["metadata"]["name"]), set()).update(entry["data"])
    return found


def test_commands_that_make_objects_make_those_that_are_read(tmp_path):
    if not shutil.which("kubectl"):
        pytest.skip("LOUD: kubectl is not installed, so no command of docs/cluster.md was run")
    (tls,) = [
        volume["secret"]
        for volume in pods(rendered_with("local", "grpc-tls"))["grpc"]["spec"]["volumes"]
        if "secret" in volume
    ]
    assert created(tmp_path) == {
        ("Secret", "metseg-git"): {"token", "ssh-key", "known-hosts"},
        ("ConfigMap", "metseg-ca"): {"ca.crt"},
        ("ConfigMap", "metseg-proxy"): {"HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY"},
        ("Secret", "metseg-registry"): {".dockerconfigjson"},
        ("Secret", tls["secretName"]): {item["key"] for item in tls["items"]},
    }


def test_every_path_and_workload_exists():
    objects = overlay("local")
    names = {f"{entry['kind'].lower()}/{entry['metadata']['name']}" for entry in of_kind(objects, *{
        entry["kind"] for entry in objects})}  # fmt: skip
    for command in commands():
        for path in re.findall(r"infra/[\w./-]+", command):
            assert (ROOT / path).exists(), command
        if "kubectl delete" not in command:
            assert set(re.findall(r"\b(?:deployment|statefulset)/[\w-]+", command)) <= names, command
    gone = {"job/bucket", "networkpolicy/bucket", "horizontalpodautoscaler/model-server"}
    assert any(gone <= set(command.split()) for command in commands()) and not gone & names


def test_patches_are_json():
    for command in (line for line in commands() if "--patch" in line):
        words = shlex.split(command)
        json.loads(words[words.index("--patch") + 1])


def test_secrets_of_the_table_are_those_that_are_made():
    table = PAGE.split("## Secrets")[1].split("\n## ")[0]
    listed = {row.split("`")[1]: set(re.findall(r"`([\w.-]+)`", row.split("|")[3])) for row in table.splitlines()
              if row.startswith("| `metseg-")}  # fmt: skip
    source = (KUBERNETES / "passwords/content.py").read_text()
    assert set(listed) == set(re.findall(r'"(metseg-[\w-]+)"', source))
    assert listed["metseg-mlflow-server"] == {"backend-store-uri", "flask-secret-key", "basic_auth.ini"}


def test_options_of_the_scripts_exist():
    told = subprocess.run([KUBERNETES / "secrets.sh", "--help"], capture_output=True, text=True, check=True).stdout
    assert set(re.findall(r"secrets\.sh.*?(--[\w-]+)", PAGE)) <= set(re.findall(r"--[\w-]+", told))
    rotated = set(re.findall(r"--rotate (\w+)", PAGE))
    assert rotated == set(re.search(r"--rotate \{([\w,]+)\}", told)[1].split(","))
    for script in ("kubernetes/backup.sh", "kubernetes/restore.sh", "compose/backup.sh", "compose/restore.sh"):
        answer = subprocess.run([ROOT / "infra" / script], capture_output=True, text=True, check=False)
        assert answer.returncode != 0 and "usage: " in answer.stderr
