"""Whether an image is there: its registry is asked first, and Docker here where the registry does not tell."""

from __future__ import annotations

import pytest

from metseg.tracking import container_registry
from metseg.tracking.container_registry import image_exists
from tests.tracking.image_server import running


@pytest.fixture
def docker(monkeypatch, tmp_path):
    """A Docker that holds every image, or none."""

    def have(every_image: bool) -> None:
        program = tmp_path / "docker"
        program.write_text(f"#!/bin/sh\nexit {0 if every_image else 1}\n")
        program.chmod(0o755)
        monkeypatch.setenv("PATH", str(tmp_path))

    return have


@pytest.mark.parametrize(
    ("name", "held_here", "expected"),
    [
        ("{host}/metseg/train:1", False, True),
        # Built here and never pushed: a pod cannot pull it.
        ("{host}/metseg/train:2", True, False),
        ("{host}/metseg/train:2", False, False),
        # The registry asks for credentials.
        ("{host}/private/train:1", True, True),
        ("{host}/private/train:1", False, None),
        # No registry answers.
        ("127.0.0.1:9/metseg/train:1", True, True),
        ("127.0.0.1:9/metseg/train:1", False, None),
        # A name without a registry.
        ("metseg-train:1", True, True),
        ("metseg-train:1", False, None),
    ],
)
def test_registry_is_believed_before_this_machines_docker(docker, name, held_here, expected):
    docker(held_here)
    with running() as server:
        assert image_exists(name.format(host=server.host), {server.host, "127.0.0.1:9"}) is expected


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("docker.io/imaging/train:1", "https://registry-1.docker.io/v2/imaging/train/manifests/1"),
        ("docker.io/train", "https://registry-1.docker.io/v2/library/train/manifests/latest"),
        ("registry.example.org:5000/train:1", "https://registry.example.org:5000/v2/train/manifests/1"),
    ],
)
def test_images_on_the_hub_are_asked_of_the_server_that_has_them(docker, monkeypatch, name, expected):
    docker(False)
    asked = []
    monkeypatch.setattr(container_registry, "_head", lambda url, token: asked.append(url) or (200, ""))
    assert image_exists(name, {name.partition("/")[0]}) is True and asked == [expected]
