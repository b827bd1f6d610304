"""Run every step in its container on one machine: images, mounts, users and variables."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

from metseg.certificates import BUNDLE, FILE, own_authorities
from metseg.dataset.data_cache import DISK_LIMIT
from metseg.dataset.references.git_credentials import FOLDER
from metseg.dataset.references.git_credentials import folder as git_credentials
from metseg.errors import MetsegError, UsageError
from metseg.settings import Settings
from pipelines.step_variables import for_container

USER = "1000:0"
"""User of the steps if the caller is root, which no step needs."""


def split(images: str) -> tuple[str, str]:
    """Return prefix (with a final slash) and tag of `TAG` or `PREFIX:TAG`.

    Raises:
        UsageError: the text is neither.
    """
    prefix, _, tag = images.rpartition(":")
    if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}", tag) or prefix != prefix.strip("/"):
        raise UsageError(f"--images {images}: expected TAG, or PREFIX:TAG such as registry.example.org/imaging:0.2.0")
    return (f"{prefix}/" if prefix else ""), tag


def choose(images: str) -> None:
    """Make the pipeline, which must not be imported yet, use these images."""
    os.environ["METSEG_IMAGE_PREFIX"], os.environ["METSEG_IMAGE_TAG"] = split(images)


def require_services(settings: Settings) -> None:
    """Raise UsageError if the steps would each use files of their own container."""
    wrong = []
    if not settings.tracking_uri.startswith(("http://", "https://")):
        wrong.append("MLFLOW_TRACKING_URI names no server")
    if not settings.model_server:
        wrong.append("METSEG_MODEL_SERVER names no model server")
    if settings.reconciler != "elsewhere":
        wrong.append("METSEG_RECONCILER is not elsewhere")
    if wrong:
        raise UsageError(
            f"--images: steps in containers share nothing but the run's folder, and {', '.join(wrong)}. "
            "`docker compose up` in infra/compose brings what is needed; docs/containers.md names the three variables"
        )


def require_images() -> None:
    """Raise MetsegError if Docker does not respond or lacks an image of the pipeline."""
    import docker

    from components.container_images import DATA_IMAGE, TRAIN_IMAGE

    try:
        client = docker.from_env()
    except docker.errors.DockerException as error:
        raise MetsegError(
            f"Docker does not respond ({error}): start it, or name it by DOCKER_HOST; a run without --images needs none"
        ) from error
    try:
        missing = [name for name in (DATA_IMAGE, TRAIN_IMAGE) if not client.images.list(name=name)]
    finally:
        client.close()
    if missing:
        raise MetsegError(
            f"Docker has no image {', '.join(missing)}: `make images` builds it, `docker pull` fetches it"
        )


def owner(user: str) -> tuple[int, int]:
    """Return the numbers of the user and the group that the steps run as."""
    uid, _, gid = user.partition(":")
    return int(uid), int(gid)


def step_user() -> str:
    """Return the user that the steps run as: the caller, but never root.

    The caller then owns the steps' files.
    """
    return os.environ.get("METSEG_STEP_USER") or (f"{os.getuid()}:{os.getgid()}" if os.getuid() else USER)


def environment(settings: Settings, step: str) -> dict[str, str]:
    """Return the variables that a step gets in addition to those of its image."""
    # The pipeline's limit is that of a pod's volume; here the state folder has the whole disk.
    here = {"METSEG_STATE": str(settings.state), "METSEG_PROGRESS": "lines"}
    return {DISK_LIMIT: ""} | for_container(step, settings) | here


def credentials() -> dict[Path, str]:
    """Return the credentials and CA certificates of this machine that a step needs.

    Raises:
        UsageError: a variable names a missing file.
    """
    files: dict[Path, str] = {}
    if (git := git_credentials()).is_dir():
        files[git.resolve()] = FOLDER
    if (authorities := own_authorities()) is not None:
        files[authorities.resolve()] = f"{BUNDLE}/{FILE}"
    return files


def runner(settings: Settings, reference: str, steps: Path) -> Any:
    """Return kfp's runner of containers.

    A container sees the run's folder, the checkpoints and, where the data are a folder or archive, those; services it
    finds at the addresses at which this machine does.

    Args:
        settings: where things are kept.
        reference: the data.
        steps: the run's folder of outputs, which is made.
    """
    from docker.types import Mount
    from kfp import local

    user = step_user()
    for folder in (steps, settings.state):
        folder.mkdir(parents=True, exist_ok=True)
        if os.getuid() == 0:
            os.chown(folder, *owner(user))
    mounts = [Mount(str(settings.state), str(settings.state), type="bind")]
    if Path(reference).exists():
        data = str(Path(reference).resolve())
        mounts.append(Mount(data, data, type="bind", read_only=True))
    mounts += [Mount(inside, str(here), type="bind", read_only=True) for here, inside in credentials().items()]
    return local.DockerRunner(
        mounts=mounts,
        network_mode="host",
        user=user,
        cap_drop=["ALL"],
        security_opt=["no-new-privileges"],
        read_only=True,
        tmpfs={"/tmp": "exec,mode=1777"},
    )
