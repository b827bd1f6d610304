"""Programs that find only the packages of one image, without a container.

What an image lacks is hidden from the import system by `sitecustomize.py` beside this file, in the process and in those
that it starts. So an import that would fail in the image fails in the test too.
"""

from __future__ import annotations

import functools
import importlib.metadata
import json
import os
import re
from pathlib import Path

import yaml

from tests.conftest import ROOT

OURS = {"components", "metseg", "models", "pipelines"}
GENERATED = {"data": {"tensorflow"}, "serve": {"tensorflow"}}
"""Packages of which an image holds the generated protocol classes alone (`infra/docker/install.sh`)."""


def names_of(lock: str) -> set[str]:
    """Names of the distributions that a lock pins."""
    lines = (ROOT / lock).read_text(encoding="utf-8").splitlines()
    return {normalized(line.partition("==")[0]) for line in lines if re.match(r"[A-Za-z0-9]", line)}


def normalized(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name.partition("[")[0]).lower()


@functools.cache
def hidden(image: str) -> tuple[str, ...]:
    """Top-level modules that are installed here and not in an image."""
    held = names_of(f"infra/docker/requirements-{image}.lock")
    installed = importlib.metadata.packages_distributions()
    return tuple(
        module
        for module, distributions in sorted(installed.items())
        if module not in OURS | GENERATED.get(image, set()) and not held & {normalized(name) for name in distributions}
    )


@functools.cache
def images_of_steps() -> dict[str, str]:
    """Image of each step by the function that it executes, as the compiled pipeline has them."""
    specification = next(yaml.safe_load_all((ROOT / "pipelines/compiled/training.yaml").read_text(encoding="utf-8")))
    return {
        re.sub(r"^exec-|-\d+$", "", label).replace("-", "_"): re.search(r"metseg-(\w+):", entry["container"]["image"])[
            1
        ]
        for label, entry in specification["deploymentSpec"]["executors"].items()
    }


def as_in_image(image: str) -> dict[str, str]:
    """Environment in which a program finds the packages of an image alone."""
    return _environment(json.dumps({"": hidden(image)}))


def as_in_steps() -> dict[str, str]:
    """Environment in which each step of a local run finds the packages of its image alone.

    Not so `promote`: where no server runs elsewhere it starts one, which needs TensorFlow.
    """
    images = {function: image for function, image in images_of_steps().items() if function != "promote"}
    return _environment(json.dumps({function: hidden(image) for function, image in images.items()}))


def _environment(listing: str) -> dict[str, str]:
    paths = [str(Path(__file__).parent), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {"PYTHONPATH": os.pathsep.join(paths), "PYTHON_HIDDEN_MODULES": listing}
