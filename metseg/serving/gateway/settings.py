"""What the gateway is told, by its environment, checked once."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

from metseg.errors import UsageError
from metseg.serving import DEFAULT_MODEL_NAME
from metseg.settings import Settings

KEYS_VARIABLE = "METSEG_API_KEYS"
SHORTEST_KEY = 16


@dataclass(frozen=True)
class GatewaySettings:
    """How the gateway runs.

    Attributes:
        folder: uploads and results (`METSEG_GATEWAY_FOLDER`, `var/state/gateway`).
        server: `host:port` of the model server (`METSEG_GATEWAY_SERVER`).
        model_name: model to ask (`METSEG_GATEWAY_MODEL`).
        label: version label to ask, empty for the latest (`METSEG_GATEWAY_LABEL`).
        tls_ca: PEM file of the model server's CA certificate; TLS where given (`METSEG_GATEWAY_TLS_CA`).
        api_keys: any of them opens the gateway; none: it is open (`METSEG_API_KEYS`, separated by commas).
        open_to_all: answer without keys also where other machines can reach it (`METSEG_GATEWAY_OPEN`).
        upload_bytes: largest upload (`METSEG_GATEWAY_UPLOAD_MB`).
        voxels: most voxels of one channel (`METSEG_GATEWAY_VOXELS`); a worker takes some 30 bytes for each.
        workers: volumes segmented at once (`METSEG_GATEWAY_WORKERS`).
        queue: volumes that may wait (`METSEG_GATEWAY_QUEUE`).
        keep_hours: results are deleted after so many hours (`METSEG_GATEWAY_KEEP_HOURS`).
        patience_seconds: how long a sender may take before his bytes are counted (`METSEG_GATEWAY_PATIENCE_SECONDS`).
        slowest_rate: bytes a second that he must reach on average after that (`METSEG_GATEWAY_SLOWEST_RATE`).
        timeout: seconds for one request to the model server (`METSEG_GATEWAY_TIMEOUT`).
        grace_seconds: what a stopping gateway gives to work under way (`METSEG_GATEWAY_GRACE_SECONDS`).
    """

    folder: Path
    server: str = "127.0.0.1:8500"
    model_name: str = DEFAULT_MODEL_NAME
    label: str = "stable"
    tls_ca: Path | None = None
    api_keys: tuple[str, ...] = field(default=(), repr=False)
    open_to_all: bool = False
    upload_bytes: int = 1 << 30
    voxels: int = 1 << 26
    workers: int = 1
    queue: int = 8
    keep_hours: float = 24.0
    patience_seconds: float = 30.0
    slowest_rate: float = 16384.0
    timeout: float = 600.0
    grace_seconds: float = 30.0

    def __post_init__(self) -> None:
        """Refuse what cannot be; raises UsageError."""
        for name in ("upload_bytes", "voxels", "workers", "keep_hours", "patience_seconds", "slowest_rate", "timeout"):
            if not getattr(self, name) > 0:
                raise UsageError(f"the gateway's {name} is {getattr(self, name):g}; expected more than 0")
        if self.queue < 0 or self.grace_seconds < 0:
            raise UsageError("the gateway's queue and grace_seconds: expected 0 or more")
        if any(len(key) < SHORTEST_KEY for key in self.api_keys):
            raise UsageError(
                f"{KEYS_VARIABLE}: a key has fewer than {SHORTEST_KEY} characters and can be guessed; "
                "`openssl rand -hex 24` makes one"
            )

    @classmethod
    def from_environment(cls) -> GatewaySettings:
        """Read the environment.

        Raises:
            UsageError: a variable is no number, or cannot be.
        """
        given = os.environ.get
        default = cls(folder=Settings.from_environment().state / "gateway")
        authority = given("METSEG_GATEWAY_TLS_CA", "")
        return cls(
            folder=Path(given("METSEG_GATEWAY_FOLDER", "") or default.folder).absolute(),
            server=given("METSEG_GATEWAY_SERVER", default.server),
            model_name=given("METSEG_GATEWAY_MODEL", default.model_name),
            label=given("METSEG_GATEWAY_LABEL", default.label),
            tls_ca=Path(authority) if authority else None,
            api_keys=tuple(key.strip() for key in given(KEYS_VARIABLE, "").split(",") if key.strip()),
            open_to_all=given("METSEG_GATEWAY_OPEN", "").lower() in ("1", "true", "on"),
            upload_bytes=int(_number("UPLOAD_MB", default.upload_bytes / 2**20) * 2**20),
            voxels=int(_number("VOXELS", default.voxels)),
            workers=int(_number("WORKERS", default.workers)),
            queue=int(_number("QUEUE", default.queue)),
            keep_hours=_number("KEEP_HOURS", default.keep_hours),
            patience_seconds=_number("PATIENCE_SECONDS", default.patience_seconds),
            slowest_rate=_number("SLOWEST_RATE", default.slowest_rate),
            timeout=_number("TIMEOUT", default.timeout),
            grace_seconds=_number("GRACE_SECONDS", default.grace_seconds),
        )


def _number(name: str, default: float) -> float:
    text = os.environ.get(f"METSEG_GATEWAY_{name}", "")
    try:
        return float(text) if text else float(default)
    except ValueError:
        raise UsageError(f"METSEG_GATEWAY_{name}={text}: expected a number") from None
