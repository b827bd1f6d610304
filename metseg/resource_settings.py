"""Limits of this process on cores, disk and waiting, from the environment."""

from __future__ import annotations

from pydantic import Field

from metseg.environment_settings import EnvironmentSettings, Gigabytes

CACHE_BYTES = 50 * 2**30


class ResourceSettings(EnvironmentSettings):
    """Resources that a process may take.

    Attributes:
        workers: cases worked on at once; the usable cores if not set (`METSEG_WORKERS`).
        patience_seconds: seconds to wait for an unavailable service; 240 in a pod and 0 elsewhere if not set
            (`METSEG_PATIENCE_SECONDS`).
        cache_bytes: size of the data cache, beyond which unused entries are removed (`METSEG_CACHE_GB`, 50).
        disk_bytes: size limit of the folder of fetched data, if it is below its disk's (`METSEG_DISK_GB`). The
            pipeline sets it in a pod, because Kubernetes evicts a pod whose volume exceeds its limit.
    """

    workers: int | None = Field(default=None, ge=1, description="a whole number, 1 or more")
    patience_seconds: int | None = Field(default=None, ge=0, description="whole seconds, such as 240")
    cache_bytes: Gigabytes = Field(
        default=CACHE_BYTES, ge=0, validation_alias="METSEG_CACHE_GB", description="a number of gigabytes, 0 or more"
    )
    disk_bytes: Gigabytes | None = Field(
        default=None, gt=0, validation_alias="METSEG_DISK_GB", description="a number of gigabytes above 0"
    )
