"""What the viewer is told: read from the environment once a page, because Streamlit's scripts take no arguments."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

from metseg.errors import UsageError
from metseg.serving import DEFAULT_MODEL_NAME, DEFAULT_PORT

SERVER_VARIABLE = "METSEG_VIEWER_SERVER"
MODELS_VARIABLE = "METSEG_VIEWER_MODELS"
SAMPLES_VARIABLE = "METSEG_VIEWER_SAMPLES"


@dataclass(frozen=True)
class ViewerOptions:
    """Where answers and samples come from.

    Attributes:
        server: `host:port` of the model server (`METSEG_VIEWER_SERVER`).
        models: models to ask it for (`METSEG_VIEWER_MODELS`, with commas): a server does not list what it holds.
        samples: folder of a cohort, or of image files, to pick studies from (`METSEG_VIEWER_SAMPLES`).
    """

    server: str = f"127.0.0.1:{DEFAULT_PORT}"
    models: tuple[str, ...] = field(default=(DEFAULT_MODEL_NAME,))
    samples: Path | None = None

    def __post_init__(self) -> None:
        """Refuse what can never work; raises UsageError."""
        host, separator, port = self.server.rpartition(":")
        if not host or not separator or not port.isdecimal():
            raise UsageError(f"server {self.server!r}: expected HOST:PORT, such as 127.0.0.1:{DEFAULT_PORT}")
        if not self.models or not all(self.models):
            raise UsageError("no model is named: expected at least one, such as --model-name brain-mets-segmentation")
        if self.samples is not None and not self.samples.is_dir():
            raise UsageError(f"samples {self.samples}: there is no such folder")

    @classmethod
    def from_environment(cls) -> ViewerOptions:
        """Read the environment."""
        default = cls()
        models = os.environ.get(MODELS_VARIABLE, "")
        samples = os.environ.get(SAMPLES_VARIABLE, "")
        return cls(
            server=os.environ.get(SERVER_VARIABLE) or default.server,
            models=tuple(name.strip() for name in models.split(",") if name.strip()) or default.models,
            samples=Path(samples) if samples else None,
        )

    def to_environment(self) -> dict[str, str]:
        """The same options for a child process."""
        return {
            SERVER_VARIABLE: self.server,
            MODELS_VARIABLE: ",".join(self.models),
            SAMPLES_VARIABLE: str(self.samples.resolve()) if self.samples else "",
        }
