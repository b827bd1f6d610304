"""The images that the steps run in, by dependency weight; a committed pipeline carries the version of setup.py."""

from __future__ import annotations

import os

from metseg.tracking.code_version import package_version

DATA_IMAGE = os.environ.get("METSEG_DATA_IMAGE", f"metseg/python-data:{package_version()}")
TRAIN_IMAGE = os.environ.get("METSEG_TRAIN_IMAGE", f"metseg/python-train:{package_version()}")
