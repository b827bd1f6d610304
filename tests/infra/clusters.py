"""A cluster of files behind a fake `kubectl`, and secrets.sh beside it."""

from __future__ import annotations

import base64
import json
import os
import shutil
import stat
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from tests.infra.rendering import KUBERNETES

PROGRAM = """#!/bin/sh
exec {python} {script} "$@"
"""
OPENSSL = """#!/bin/sh
echo "$@" >> {log}
exec {openssl} "$@"
"""


def executable(path: Path, text: str) -> None:
    """Write a program."""
    path.write_text(text)
    path.chmod(path.stat().st_mode | stat.S_IXUSR)


@dataclass(frozen=True)
class FakeCluster:
    """Objects as files; see fake_kubectl.py.

    Attributes:
        folder: where they lie.
        environment: of secrets.sh.
    """

    folder: Path
    environment: dict[str, str] = field(default_factory=dict)

    @classmethod
    def made(cls, root: Path, *namespaces: str, **environment: str) -> FakeCluster:
        """An empty cluster with namespaces as a fresh one has them."""
        programs, folder = root / "bin", root / "cluster"
        programs.mkdir(parents=True)
        folder.mkdir()
        script = Path(__file__).with_name("fake_kubectl.py")
        executable(programs / "kubectl", PROGRAM.format(python=sys.executable, script=script))
        openssl = OPENSSL.format(log=root / "openssl.log", openssl=shutil.which("openssl"))
        executable(programs / "openssl", openssl)
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "DATABASE_"))}
        path = f"{programs}:{os.environ['PATH']}"
        cluster = cls(folder, {**kept, "PATH": path, "FAKE_CLUSTER": str(folder), **environment})
        for name in ("default", "kube-system", *namespaces):
            cluster.put({"kind": "Namespace", "metadata": {"name": name, "labels": {}}}, "-")
        return cluster

    def put(self, entry: dict[str, Any], namespace: str) -> None:
        """Write one object."""
        path = self.folder / namespace / entry["kind"] / f"{entry['metadata']['name']}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(entry))

    def get(self, kind: str, namespace: str, name: str) -> dict[str, Any]:
        """Read one object."""
        return json.loads((self.folder / namespace / kind / f"{name}.json").read_text())

    def secret(self, namespace: str, name: str) -> dict[str, str]:
        """Content of one secret."""
        data = self.get("Secret", namespace, name)["data"]
        return {key: base64.b64decode(value).decode() for key, value in data.items()}

    def secrets(self) -> dict[tuple[str, str], dict[str, str]]:
        """Content of every secret."""
        found = sorted(self.folder.glob("*/Secret/*.json"))
        return {(path.parts[-3], path.stem): self.secret(path.parts[-3], path.stem) for path in found}

    def put_secret(self, namespace: str, name: str, **data: str) -> None:
        """Write one secret, `_` in a key status for `-`."""
        coded = {key.replace("_", "-"): base64.b64encode(value.encode()).decode() for key, value in data.items()}
        self.put({"kind": "Secret", "metadata": {"name": name, "namespace": namespace}, "data": coded}, namespace)

    def calls(self) -> list[list[str]]:
        """Command lines of kubectl so far."""
        return [json.loads(line) for line in (self.folder / "calls.jsonl").read_text().splitlines()]

    def run(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run secrets.sh."""
        return subprocess.run(
            [KUBERNETES / "secrets.sh", *arguments],
            env={**self.environment, **environment},
            capture_output=True,
            text=True,
            check=False,
        )

    def apply(self, *arguments: str, **environment: str) -> str:
        """Run `secrets.sh … | kubectl apply -f -`; returns what secrets.sh printed."""
        made = self.run(*arguments, **environment)
        assert made.returncode == 0, made.stderr
        subprocess.run(
            ["kubectl", "apply", "--filename=-"], env=self.environment, input=made.stdout, text=True, check=True,
            capture_output=True,
        )  # fmt: skip
        return made.stdout


def parsed(text: str) -> dict[tuple[str, str], dict[str, str]]:
    """Content of secrets in YAML, by namespace and name."""
    return {
        (entry["metadata"]["namespace"], entry["metadata"]["name"]): {
            key: base64.b64decode(value).decode() for key, value in entry["data"].items()
        }
        for entry in yaml.safe_load_all(text)
        if entry
    }
