"""The pipeline to upload: the committed file with the images of one build."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from components.images import NAMES
from metseg.tracking.code_version import package_version
from pipelines.compiling import COMPILED
from pipelines.containers import split

IMAGE = re.compile(rf"(?<![\w/.-])(?:[\w.:/-]+/)?({'|'.join(NAMES.values())})(?:[:@][\w.:-]+)(?![\w/.:@-])")
DIGEST_LENGTH = 12


@dataclass(frozen=True)
class Package:
    """A pipeline ready to be uploaded.

    Attributes:
        text: the YAML.
        name: of the pipeline.
        version: name of the version, derived from its content.
        images: what its steps run in.
        documents: pipeline specification and Kubernetes platform specification.
    """

    text: str
    name: str
    version: str
    images: tuple[str, ...]
    documents: list[dict[str, Any]]


def package(images: str = "", compiled: Path = COMPILED) -> Package:
    """Return the committed pipeline, with other images if given.

    Args:
        images: `TAG`, or `PREFIX:TAG` with the registry and group that the images lie in.
        compiled: the file.

    Raises:
        UsageError: `images` is neither.
    """
    text = compiled.read_text(encoding="utf-8")
    if images:
        prefix, tag = split(images)
        text = IMAGE.sub(lambda match: f"{prefix}{match[1]}:{tag}", text)
    read = documents(text)
    specification = read[0]
    executors = specification["deploymentSpec"]["executors"].values()
    digest = hashlib.sha256(text.encode()).hexdigest()[:DIGEST_LENGTH]
    return Package(
        text=text,
        name=specification["pipelineInfo"]["name"],
        version=f"{package_version()}-{digest}",
        images=tuple(sorted({executor["container"]["image"] for executor in executors})),
        documents=read,
    )


def documents(text: str) -> list[dict[str, Any]]:
    """Return pipeline specification and Kubernetes platform specification."""
    import yaml

    return list(yaml.load_all(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader)))
