"""Version of the running code: its Git commit and package version."""

from __future__ import annotations

import hashlib
import os
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from metseg.child_environment import GIT, child_environment


def git_commit() -> str:
    """Return the Git commit of this code, with `-dirty` for changes.

    Inside an image it is `METSEG_GIT_COMMIT`.
    """
    given = os.environ.get("METSEG_GIT_COMMIT")
    if given:
        return given
    root = Path(__file__).resolve().parents[2]
    command = ["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        environment = child_environment(GIT)
        output = subprocess.run(command, env=environment, capture_output=True, text=True, check=True, timeout=20)
    except (OSError, subprocess.SubprocessError):
        return "unknown"
    return output.stdout.strip()


def container_image() -> str | None:
    """Return the container image of this process (`METSEG_IMAGE`); None outside one."""
    return os.environ.get("METSEG_IMAGE") or None


def training_code_digest() -> str:
    """Return the SHA-256 of the sources that the weights of a training run depend on."""
    root = Path(__file__).resolve().parents[2]
    digest = hashlib.sha256()
    for package in ("models", "metseg/training", "metseg/dataset", "metseg/imaging"):
        for path in sorted((root / package).rglob("*.py")):
            digest.update(path.read_bytes())
    return digest.hexdigest()


def package_version() -> str:
    """Return the version of the installed distribution."""
    try:
        return version("metseg")
    except PackageNotFoundError:
        return "unknown"
