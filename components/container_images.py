"""Images of the steps, by dependency weight; a committed pipeline has the version of setup.py."""

from __future__ import annotations

import os

from metseg.tracking.code_version import package_version

NAMES = {"data": "metseg-data", "train": "metseg-train", "serve": "metseg-serve"}
PREFIX = os.environ.get("METSEG_IMAGE_PREFIX", "")
"""Prefix of the names: a registry and a group there, with a final slash."""
TAG = os.environ.get("METSEG_IMAGE_TAG") or package_version()
DATA_IMAGE = os.environ.get("METSEG_DATA_IMAGE") or f"{PREFIX}{NAMES['data']}:{TAG}"
TRAIN_IMAGE = os.environ.get("METSEG_TRAIN_IMAGE") or f"{PREFIX}{NAMES['train']}:{TAG}"
