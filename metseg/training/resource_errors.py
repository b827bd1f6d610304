"""Translate external failures (memory, disk) to actionable errors."""

from __future__ import annotations

import errno
import os

from metseg.errors import MetsegError
from metseg.training.configuration import TrainingConfiguration

DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def explained(error: BaseException, configuration: TrainingConfiguration) -> MetsegError | None:
    """Return an actionable error for one that ended a training run.

    None for a defect, and for an error that is clear by itself.

    Args:
        error: of TensorFlow, NumPy or the file system.
        configuration: of the training.
    """
    from tensorflow.errors import ResourceExhaustedError

    reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
    full = isinstance(error, OSError) and error.errno in DISK_FULL
    # TensorFlow has one error for a full memory and a full disk.
    if full or (isinstance(error, ResourceExhaustedError) and os.strerror(errno.ENOSPC) in str(error)):
        return MetsegError(
            f"the disk is full ({reason}): free some of it, or set METSEG_STATE, METSEG_RUNS and "
            "METSEG_ARTIFACT_ROOT to a larger one; the same call resumes from the last epoch"
        )
    if isinstance(error, ResourceExhaustedError | MemoryError):
        return MetsegError(
            f"{configuration.architecture} does not fit into memory ({reason}): lower train_batch_size "
            f"(now {configuration.batch_size}) or train_filters (now {configuration.filters}), or choose an "
            "accelerator with more memory"
        )
    return None
