"""What builds the images: names, arguments and bounds, with a program in docker's place that writes down its calls."""

from __future__ import annotations

import itertools
import json
import os
import re
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from components.container_images import NAMES
from metseg.tracking.code_version import package_version
from tests.conftest import ROOT
from tests.infra.rendering import OVERLAYS, containers, overlay, pods

DOCKERFILE = (ROOT / "infra/docker/Dockerfile").read_text(encoding="utf-8")
INDEX = "https://name:secret@packages.example.org/simple"
DOCKER = """#!{python}
import json, os, sys
if sys.argv[1] == "image":
    print({size})
else:
    with open({log!r}, "a") as log:
        indices = os.environ.get("PIP_INDEX_URL"), os.environ.get("UV_DEFAULT_INDEX")
        log.write(json.dumps([sys.argv[1:], *indices]) + "\\n")
"""


def build(folder: Path, *arguments: str, size: int = 10**9) -> tuple[subprocess.CompletedProcess[str], list]:
    """What the program says, and the builds it asked for with the indices in their environments."""
    program, log = folder / "docker", folder / "log"
    program.write_text(DOCKER.format(python=sys.executable, log=str(log), size=size))
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    log.write_text("")
    answer = subprocess.run(
        [sys.executable, str(ROOT / "infra/docker/build.py"), *arguments],
        env={
            **{name: value for name, value in os.environ.items() if not name.startswith(("PIP_", "UV_"))},
            "PATH": f"{folder}:{os.environ['PATH']}",
            "PIP_INDEX_URL": INDEX,
            "PIP_EXTRA_INDEX_URL": "file:///srv/packages",
        },
        capture_output=True,
        text=True,
        check=False,
    )
    return answer, [json.loads(line) for line in log.read_text().splitlines()]


def test_each_name_is_a_target_and_what_manifests_call_it():
    targets = set(re.findall(r"^FROM runtime AS (\w+)$", DOCKERFILE, re.MULTILINE))
    assert targets == set(NAMES)
    ours = {
        container["image"].rpartition("/")[2]
        for name in OVERLAYS
        for template in pods(overlay(name)).values()
        for container in containers(template)
        if container["image"].rpartition("/")[2].startswith("metseg-")
    }
    assert ours == {f"{NAMES[image]}:{package_version()}" for image in ("data", "serve")}


def test_all_three_are_built_with_version_and_commit(tmp_path):
    answer, builds = build(tmp_path, "--base-image", "base:1", "--cuda")
    assert answer.returncode == 0, answer.stderr
    assert [command[command.index("--target") + 1] for command, *_ in builds] == ["data", "train", "serve"]
    for command, *_ in builds:
        image = f"metseg-{command[command.index('--target') + 1]}:{package_version()}"
        assert command[command.index("--tag") + 1] == image
        assert {"BASE_IMAGE=base:1", f"VERSION={package_version()}", f"IMAGE={image}", "VARIANT=-cuda"} <= set(command)
        assert any(re.fullmatch(r"COMMIT=[0-9a-f]{40}(-dirty)?", part) for part in command)
        named = {part.partition("=")[0] for flag, part in itertools.pairwise(command) if flag == "--build-arg"}
        declared = set(re.findall(r"^ARG (\w+)", DOCKERFILE, re.MULTILINE))
        assert {name for name in named if not name.lower().endswith("_proxy")} <= declared


def test_where_packages_come_from_is_in_no_command_and_no_image(tmp_path):
    _, builds = build(tmp_path, "data")
    ((command, pip, uv),) = builds
    assert pip == uv == INDEX and "PIP_INDEX_URL" in command and "UV_DEFAULT_INDEX" in command
    assert "secret" not in " ".join(command) and "/srv/packages" not in " ".join(command)
    final = DOCKERFILE[DOCKERFILE.index("AS runtime") :]
    assert not re.search(r"ARG (PIP|UV)_", final)
    assert "://" not in DOCKERFILE


@pytest.mark.parametrize(("image", "size", "code"), [("data", 1.31e9, 1), ("data", 1.29e9, 0), ("train", 3.21e9, 1)])
def test_an_image_over_its_bound_is_a_failure(tmp_path, image, size, code):
    answer, _ = build(tmp_path, image, size=int(size))
    assert answer.returncode == code and f"{size / 1e9:.2f} GB" in answer.stdout
    assert ("TOO LARGE" in answer.stdout) is bool(code)


def test_cuda_has_no_bound(tmp_path):
    answer, _ = build(tmp_path, "train", "--cuda", size=int(9e9))
    assert answer.returncode == 0 and "at most" not in answer.stdout
