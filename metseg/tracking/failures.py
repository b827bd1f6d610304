"""What a step meets when MLflow or its storage is away or full, said so that a person can do something about it."""

from __future__ import annotations

import errno

from metseg.errors import MetsegError
from metseg.patience import VARIABLE, chain

FULL = (
    "XMinioStorageFull",
    "QuotaExceeded",
    "InsufficientStorage",
    "EntityTooLarge",
    "507",
    "No space left",
    "NoSpace",
)
"""What S3 servers and file systems call it."""


def explained(error: BaseException, tracking_uri: str) -> MetsegError | None:
    """What to tell of an error that MLflow or the storage behind it caused; None where it is none of theirs.

    Args:
        error: what was raised.
        tracking_uri: MLflow's address.
    """
    links = list(chain(error))
    told = " ".join(" ".join(str(link).split()) for link in links)
    if any(isinstance(link, OSError) and link.errno in (errno.ENOSPC, errno.EDQUOT) for link in links):
        return MetsegError(f"the disk is full ({_short(told)}): free some of it, then retry the step")
    modules = {type(link).__module__.split(".")[0] for link in links}
    if not modules & {"mlflow", "botocore", "boto3", "requests"}:
        return None
    if any(name in told for name in FULL):
        return MetsegError(
            f"the bucket is full ({_short(told)}): remove old runs (`mlflow gc`) or raise its quota, then retry the "
            "step: what is finished stays"
        )
    if "too many" in told and "error responses" in told:
        return MetsegError(
            f"MLflow at {tracking_uri} answers with errors of its own ({_short(told)}): its log says why; often its "
            "bucket is full or its database is away. Mend that, then retry the step"
        )
    if "Max retries exceeded" in told or "Connection" in told:
        return MetsegError(
            f"MLflow at {tracking_uri} went away and did not come back in time ({_short(told)}): start it again, then "
            f"retry the step; {VARIABLE} (for pods, a key of the ConfigMap metseg-settings) says for how long to wait"
        )
    return None


def _short(text: str) -> str:
    return text if len(text) <= 300 else f"{text[:299]}…"
