"""Defaults that several commands and steps share."""

from __future__ import annotations

MODEL_NAME = "brain-mets-segmentation"
"""Registered model of the phantom cohort, and the default elsewhere."""
MODEL_SERVER = "127.0.0.1:8500"
"""HOST:PORT of a model server on this machine, as `metseg serve` starts it."""
