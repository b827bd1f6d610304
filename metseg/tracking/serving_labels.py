"""Aliases of the MLflow registry, and the label of the model server for each."""

from __future__ import annotations

CHAMPION = "champion"
CHALLENGER = "challenger"
PREVIOUS = "previous"
LABELS = {CHAMPION: "stable", CHALLENGER: "canary"}
"""Label of the model server by alias; `previous` is kept on the server without one."""
