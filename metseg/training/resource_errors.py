"""What stops a training from outside of it, said so that a person can do something about it."""

from __future__ import annotations

import errno
import os

from metseg.errors import MetsegError
from metseg.training.configuration import TrainingConfiguration

DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def explained(error: BaseException, configuration: TrainingConfiguration) -> MetsegError | None:
    """What to tell of an error that ended a training; None where it tells all itself, or is a defect.

    Args:
        error: what was raised, by TensorFlow, NumPy or the file system.
        configuration: of the training.
    """
    from tensorflow.errors import ResourceExhaustedError

    full = isinstance(error, OSError) and error.errno in DISK_FULL
    # TensorFlow has one error for a full memory and a full disk.
    if full or (isinstance(error, ResourceExhaustedError) and os.strerror(errno.ENOSPC) in str(error)):
        return MetsegError(
            f"the disk is full ({first_line(error)}): free some of it, or set METSEG_STATE, METSEG_RUNS and "
            "METSEG_ARTIFACT_ROOT to a larger one; the same call goes on from the last epoch"
        )
    if isinstance(error, ResourceExhaustedError | MemoryError):
        return MetsegError(
            f"{configuration.architecture} does not fit into memory ({first_line(error)}): lower train_batch_size "
            f"(now {configuration.batch_size}) or train_filters (now {configuration.filters}), or choose an "
            "accelerator with more memory"
        )
    return None


def first_line(error: BaseException) -> str:
    """The first line of what an error says, or its kind where it says nothing."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
