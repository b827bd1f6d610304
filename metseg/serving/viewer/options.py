"""Options of the viewer, from environment variables, since Streamlit's scripts take no arguments."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field, field_validator
from pydantic_settings import SettingsConfigDict

from metseg.environment_settings import CommaSeparated, EnvironmentSettings
from metseg.serving.http_hosts import HostNames
from metseg.serving_defaults import MODEL_NAME, MODEL_SERVER

HOSTS_VARIABLE = "METSEG_VIEWER_HOSTS"


class ViewerOptions(EnvironmentSettings):
    """Sources of segmentations and samples.

    Attributes:
        server: `host:port` of the model server (`METSEG_VIEWER_SERVER`).
        models: models on that server (`METSEG_VIEWER_MODELS`, with commas), since a server does not list them.
        samples: folder of a cohort, or of image files, to pick studies from (`METSEG_VIEWER_SAMPLES`).
        hosts: names of the page's host in a browser, besides addresses and localhost (`METSEG_VIEWER_HOSTS`).
    """

    model_config = SettingsConfigDict(env_prefix="METSEG_VIEWER_")

    server: str = Field(default=MODEL_SERVER, pattern=r"^.+:\d+$", description=f"HOST:PORT, such as {MODEL_SERVER}")
    models: CommaSeparated = (MODEL_NAME,)
    samples: Path | None = None
    hosts: HostNames = ()

    @field_validator("models")
    @classmethod
    def _require_models(cls, models: tuple[str, ...]) -> tuple[str, ...]:
        if not models or not all(models):
            raise ValueError(f"no model is named: expected at least one, such as --model-name {MODEL_NAME}")
        return models

    @field_validator("samples")
    @classmethod
    def _require_folder(cls, samples: Path | None) -> Path | None:
        if samples is not None and not samples.is_dir():
            raise ValueError("there is no such folder")
        return samples

    def to_environment(self) -> dict[str, str]:
        """Return the variables of these options, for a child process."""
        return {
            "METSEG_VIEWER_SERVER": self.server,
            "METSEG_VIEWER_MODELS": ",".join(self.models),
            "METSEG_VIEWER_SAMPLES": str(self.samples.resolve()) if self.samples else "",
            HOSTS_VARIABLE: ",".join(self.hosts),
        }
