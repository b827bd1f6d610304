"""Which code is running: the Git commit, or what the image was built from."""

from __future__ import annotations

import hashlib
import os
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path


def git_commit() -> str:
    """Return the commit of this code, `-dirty` if the tree has changes; `METSEG_GIT_COMMIT` inside an image."""
    given = os.environ.get("METSEG_GIT_COMMIT")
    if given:
        return given
    root = Path(__file__).resolve().parents[2]
    command = ["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        output = subprocess.run(command, capture_output=True, text=True, check=True, timeout=20)
    except (OSError, subprocess.SubprocessError):
        return "unknown"
    return output.stdout.strip()


def container_image() -> str | None:
    """Name or digest of the container image that this process runs in (`METSEG_IMAGE`); None where none is named."""
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
