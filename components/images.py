"""The images that the steps run in, by dependency weight; a committed pipeline carries the version of setup.py."""

from __future__ import annotations

import os

from metseg.tracking.code_version import package_version

NAMES = {"data": "metseg-data", "train": "metseg-train", "serve": "metseg-serve"}
PREFIX = os.environ.get("METSEG_IMAGE_PREFIX", "")
"""What stands before the names: a registry and a group there, with the slash at its end."""
TAG = os.environ.get("METSEG_IMAGE_TAG") or package_version()
DATA_IMAGE = os.environ.get("METSEG_DATA_IMAGE") or f"{PREFIX}{NAMES['data']}:{TAG}"
TRAIN_IMAGE = os.environ.get("METSEG_TRAIN_IMAGE") or f"{PREFIX}{NAMES['train']}:{TAG}"
