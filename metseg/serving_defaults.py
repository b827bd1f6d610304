"""Defaults that several commands and steps share."""

from __future__ import annotations

MODEL_NAME = "brain-mets-segmentation"
"""Registered model of the phantom cohort, and the default elsewhere."""
SERVER_PORT = 8500
"""Port of the gRPC API of a model server, as in TF Serving."""
MODEL_SERVER = f"127.0.0.1:{SERVER_PORT}"
"""HOST:PORT of a model server on this machine, as `metseg serve` starts it."""
