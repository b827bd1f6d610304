"""Commands of the documents: what stands in their blocks, and a cluster of files to run them on."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from tests.conftest import ROOT
from tests.infra.clusters import FakeCluster, executable
from tests.infra.rendering import overlay

FAKE_AWS = '#!/bin/sh\nexec {python} {script} "$@"\n'


def read(name: str) -> str:
    """A page of docs/."""
    return (ROOT / "docs" / name).read_text(encoding="utf-8")


def blocks(page: str) -> list[list[str]]:
    """Blocks of commands of a page, as lines without comments; blocks in a language are none."""
    found: list[list[str]] = []
    fence = ""
    for line in page.splitlines():
        if line.startswith("```"):
            fence = "" if fence else line
            if fence == "```":
                found.append([])
        elif fence == "```" and line:
            found[-1].append(re.sub(r"\s+#.*$", "", line))
    return found


def commands(page: str) -> list[str]:
    """All lines of the blocks of commands."""
    return [line for block in blocks(page) for line in block]


def namespace(command: str, default: str = "") -> str:
    """The namespace that a kubectl command names."""
    found = re.search(r"(?:--namespace|-n)[ =]([\w-]+)", command)
    return found[1] if found else default


class Reader:
    """A person who types the commands of a page, one after the other, in one shell.

    Attributes:
        cluster: what `kubectl` and `secrets.sh` change.
        folder: where they are typed; `infra` is below.
    """

    def __init__(self, root: Path, *namespaces: str) -> None:
        self.cluster = FakeCluster.made(root, *namespaces)
        self.folder = root
        (root / "infra").symlink_to(ROOT / "infra")
        aws = FAKE_AWS.format(python=sys.executable, script=Path(__file__).with_name("fake_aws.py"))
        executable(root / "bin/aws", aws)
        self._before: list[str] = []

    def types(self, *lines: str) -> dict[str, str]:
        """Type lines after those before; each has to succeed. Returns the shell's environment."""
        for line in lines:
            if re.search(r"kubectl (apply|delete) (-k|--kustomize)", line):
                self._overlay(line)
                continue
            if line.startswith("export "):
                self._before.append(line)
            else:
                self._shell(line)
        return dict(entry.partition("=")[::2] for entry in self._shell("env --null").split("\0") if entry)

    def _shell(self, line: str) -> str:
        path = f"{self.folder / 'bin'}:{Path(sys.executable).parent}:{os.environ['PATH']}"
        script = "\n".join(["set -euo pipefail", *self._before, line])
        answer = subprocess.run(
            ["bash", "-c", script],
            cwd=self.folder,
            env={**self.cluster.environment, "PATH": path},
            capture_output=True,
            text=True,
            check=False,
        )
        assert answer.returncode == 0, (line, answer.stdout[-500:], answer.stderr[-1500:])
        return answer.stdout

    def _overlay(self, line: str) -> None:
        """Apply or delete every object of an overlay; a namespace that is deleted takes all in it along."""
        for entry in overlay(line.split()[-1].rpartition("/")[2]):
            place = "-" if entry["kind"] == "Namespace" else entry["metadata"]["namespace"]
            if " apply " in line:
                self.cluster.put(entry, place)
                continue
            (self.cluster.folder / place / entry["kind"] / f"{entry['metadata']['name']}.json").unlink(missing_ok=True)
            if entry["kind"] == "Namespace":
                shutil.rmtree(self.cluster.folder / entry["metadata"]["name"], ignore_errors=True)
