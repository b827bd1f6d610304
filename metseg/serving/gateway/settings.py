"""Settings of the gateway, from the environment."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Self

from pydantic import AfterValidator, Field
from pydantic_settings import SettingsConfigDict

from metseg.environment_settings import CommaSeparated, EnvironmentSettings, Megabytes
from metseg.serving.http_hosts import HostNames
from metseg.serving_defaults import MODEL_NAME, MODEL_SERVER
from metseg.settings import Settings

KEYS_VARIABLE = "METSEG_API_KEYS"
HOSTS_VARIABLE = "METSEG_GATEWAY_HOSTS"
LABEL_VARIABLE = "METSEG_GATEWAY_LABEL"
MIN_KEY_LENGTH = 16
_POSITIVE = "a number above 0"


def _require_long_keys(keys: tuple[str, ...]) -> tuple[str, ...]:
    if any(len(key) < MIN_KEY_LENGTH for key in keys):
        raise ValueError(
            f"a key has fewer than {MIN_KEY_LENGTH} characters and can be guessed; `openssl rand -hex 24` makes one"
        )
    return keys


class GatewaySettings(EnvironmentSettings):
    """Settings of the gateway.

    Attributes:
        folder: uploads and results (`METSEG_GATEWAY_FOLDER`, `var/state/gateway`).
        server: `host:port` of the model server (`METSEG_GATEWAY_SERVER`).
        model_name: name of the served model (`METSEG_GATEWAY_MODEL`).
        label: version label, empty for the latest version (`METSEG_GATEWAY_LABEL`).
        tls_ca: CA certificate (PEM) of the model server, which turns on TLS (`METSEG_GATEWAY_TLS_CA`).
        api_keys: accepted API keys; without any the gateway is open (`METSEG_API_KEYS`, separated by commas).
        open_to_all: serve other machines without API keys (`METSEG_GATEWAY_OPEN`).
        hosts: names of the gateway in a Host header, besides addresses and localhost (`METSEG_GATEWAY_HOSTS`).
        upload_bytes: largest upload (`METSEG_GATEWAY_UPLOAD_MB`).
        voxels: most voxels of one channel (`METSEG_GATEWAY_VOXELS`); a worker takes some 30 bytes for each.
        workers: concurrent segmentations (`METSEG_GATEWAY_WORKERS`).
        queue: waiting segmentations, shared equally among the API keys (`METSEG_GATEWAY_QUEUE`).
        keep_hours: hours after which results are deleted (`METSEG_GATEWAY_KEEP_HOURS`).
        patience_seconds: time before an upload's rate is checked (`METSEG_GATEWAY_PATIENCE_SECONDS`).
        slowest_rate: smallest average rate of an upload after that, bytes/s (`METSEG_GATEWAY_SLOWEST_RATE`).
        upload_seconds: longest time for an upload as a whole (`METSEG_GATEWAY_UPLOAD_SECONDS`).
        timeout: seconds for one request to the model server (`METSEG_GATEWAY_TIMEOUT`).
        grace_seconds: time that a stopping gateway gives to running segmentations (`METSEG_GATEWAY_GRACE_SECONDS`).
    """

    model_config = SettingsConfigDict(env_prefix="METSEG_GATEWAY_")

    folder: Annotated[Path, AfterValidator(Path.absolute)] = Path("var/state/gateway")
    server: str = MODEL_SERVER
    model_name: str = Field(default=MODEL_NAME, validation_alias="METSEG_GATEWAY_MODEL")
    label: str = "stable"
    tls_ca: Path | None = None
    api_keys: Annotated[CommaSeparated, AfterValidator(_require_long_keys)] = Field(
        default=(), repr=False, validation_alias=KEYS_VARIABLE
    )
    open_to_all: bool = Field(default=False, validation_alias="METSEG_GATEWAY_OPEN", description="on or off")
    hosts: HostNames = ()
    upload_bytes: Megabytes = Field(
        default=1 << 30, gt=0, validation_alias="METSEG_GATEWAY_UPLOAD_MB", description="a number of megabytes above 0"
    )
    voxels: int = Field(default=1 << 26, gt=0, description="a whole number above 0")
    workers: int = Field(default=1, gt=0, description="a whole number above 0")
    queue: int = Field(default=8, ge=0, description="a whole number, 0 or more")
    keep_hours: float = Field(default=24.0, gt=0, description=_POSITIVE)
    patience_seconds: float = Field(default=30.0, gt=0, description=_POSITIVE)
    slowest_rate: float = Field(default=16384.0, gt=0, description=_POSITIVE)
    upload_seconds: float = Field(default=1800.0, gt=0, description=_POSITIVE)
    timeout: float = Field(default=600.0, gt=0, description=_POSITIVE)
    grace_seconds: float = Field(default=30.0, ge=0, description="a number, 0 or more")

    @classmethod
    def from_environment(cls) -> Self:
        """Read the environment.

        Raises:
            UsageError: a value does not fit.
        """
        state = Settings.from_environment().state
        settings = super().from_environment()
        if "folder" not in settings.model_fields_set:
            settings = settings.replaced(folder=state / "gateway")
        # An empty variable counts as not set, but an empty label is the latest version.
        return settings.replaced(label="") if os.environ.get(LABEL_VARIABLE) == "" else settings
