"""Look up container images in the operator's registry, or in this machine's Docker.

A name may come from a tag in MLflow. Then only registries that this installation names get a request.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Collection
from dataclasses import dataclass
from http.client import HTTPException
from urllib.error import HTTPError, URLError
from urllib.parse import urlencode, urlsplit
from urllib.request import Request, urlopen

from metseg.child_environment import DOCKER, child_environment
from metseg.errors import MetsegError
from metseg.files import parse_json

SECONDS = 10.0
_TOKEN_BYTES = 1 << 20
CONFIGURED = ("METSEG_IMAGE", "METSEG_IMAGE_PREFIX", "METSEG_DATA_IMAGE", "METSEG_TRAIN_IMAGE")
"""Variables that name this installation's images, and hence the registries that are trusted."""
MANIFESTS = ", ".join(
    (
        "application/vnd.oci.image.index.v1+json",
        "application/vnd.oci.image.manifest.v1+json",
        "application/vnd.docker.distribution.manifest.list.v2+json",
        "application/vnd.docker.distribution.manifest.v2+json",
    )
)
_CHALLENGE = re.compile(r'(\w+)="([^"]*)"')
_PART = r"[a-z0-9]+(?:(?:\.|__?|-+)[a-z0-9]+)*"
_NAME = re.compile(
    rf"(?:[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?(?::[0-9]{{1,5}})?/)?{_PART}(?:/{_PART})*"
    r"(?::[A-Za-z0-9_][A-Za-z0-9_.-]{0,127})?(?:@sha256:[0-9a-f]{64})?"
)
"""The grammar of distribution/reference, `reference.go`, without its lengths."""
_LOCAL = ("localhost", "127.0.0.1")
_HUB, _HUB_API = ("docker.io", "index.docker.io"), "registry-1.docker.io"
"""Prefixes of images on Docker Hub, and its API."""


@dataclass(frozen=True)
class ImageName:
    """A reference to an image; `registry` is empty if the name has none."""

    registry: str
    repository: str
    tag: str

    @classmethod
    def parse(cls, name: str) -> ImageName:
        """Parse `registry/repository:tag` or `…@sha256:…` by Docker's rules.

        Raises:
            MetsegError: the text is no image's name.
        """
        if not _NAME.fullmatch(name):
            raise MetsegError(
                f"{name[:100]!r} is no image's name, such as registry.example.org/imaging/metseg-train:0.2.0"
            )
        bare, at, digest = name.partition("@")
        first, slash, rest = bare.partition("/")
        registry = first if slash and ("." in first or ":" in first or first == "localhost") else ""
        path = rest if registry else bare
        repository, colon, tag = path.partition(":")
        return cls(registry, repository, digest if at else tag if colon else "latest")


def image_exists(name: str, registries: Collection[str]) -> bool | None:
    """Return whether an image exists; None if no trusted registry can be queried without credentials.

    This machine's Docker is queried only if the registry does not know: it holds images that were never pushed.
    Docker Hub is not queried for names without a registry: they are often those of images built here.

    Args:
        name: of the image.
        registries: the trusted ones, which may get a request.

    Raises:
        MetsegError: the text is no image's name.
    """
    image = ImageName.parse(name)
    in_registry = _registry_holds(image) if image.registry and image.registry in registries else None
    return True if in_registry is None and _docker_holds(name) else in_registry


def trusted_registries() -> set[str]:
    """Return the registries of this installation's images."""
    names = (os.environ.get(variable, "") for variable in CONFIGURED)
    places = {name.partition("/")[0] for name in names if "/" in name}
    return {place for place in places if "." in place or ":" in place or place == "localhost"}


def _docker_holds(name: str) -> bool:
    docker = shutil.which("docker")
    if docker is None:
        return False
    command = [docker, "image", "inspect", "--format", "{{.Id}}", name]
    try:
        environment = child_environment(DOCKER)
        done = subprocess.run(command, env=environment, capture_output=True, timeout=SECONDS, check=False)
        return done.returncode == 0
    except (OSError, subprocess.SubprocessError):
        return False


def _registry_holds(image: ImageName) -> bool | None:
    """Query the registry (OCI distribution specification, 1.1: checking if content exists)."""
    scheme = "http" if urlsplit(f"//{image.registry}").hostname in _LOCAL else "https"
    server, repository = image.registry, image.repository
    if server in _HUB:
        server, repository = _HUB_API, repository if "/" in repository else f"library/{repository}"
    url = f"{scheme}://{server}/v2/{repository}/manifests/{image.tag}"
    status, challenge = _head(url, None)
    if status == 401 and challenge.startswith("Bearer"):
        status, _ = _head(url, _token(dict(_CHALLENGE.findall(challenge))))
    return {200: True, 404: False}.get(status)


def _head(url: str, token: str | None) -> tuple[int, str]:
    """Return status and challenge of the response; 0 without one."""
    headers = {"Accept": MANIFESTS, **({"Authorization": f"Bearer {token}"} if token else {})}
    try:
        with urlopen(Request(url, headers=headers, method="HEAD"), timeout=SECONDS) as response:
            return int(response.status), ""
    except HTTPError as error:
        return error.code, error.headers.get("WWW-Authenticate", "")
    except (URLError, HTTPException, OSError):
        return 0, ""


def _token(challenge: dict[str, str]) -> str | None:
    """Return an anonymous token for a registry's challenge; None if it gives none."""
    realm = challenge.pop("realm", "")
    if not realm.startswith(("https://", "http://")):
        return None
    try:
        with urlopen(f"{realm}?{urlencode(challenge)}", timeout=SECONDS) as response:
            content = parse_json(response.read(_TOKEN_BYTES))
    except (URLError, HTTPException, OSError, ValueError):
        return None
    token = content.get("token") or content.get("access_token")
    return str(token) if token else None
