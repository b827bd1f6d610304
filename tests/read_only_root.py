"""A command that may write to a few folders alone, as in a pod: what writes elsewhere fails, for root too."""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
import tempfile
import warnings
from collections.abc import Sequence
from pathlib import Path

_SCRIPT = (
    'while [ "$1" != -- ]; do mount --bind "$1" "$1"; shift; done; shift; mount -o remount,bind,ro / '
    '&& cd "$PWD" && exec "$@"'
)
"""It goes to the current folder once more: a process stays in the mount that it began in, which is read-only now."""


def writes_only_to(folders: Sequence[Path], command: Sequence[str]) -> list[str]:
    """A command in a mount namespace of its own, where `/` is read-only.

    Args:
        folders: where it may write, besides the folder of temporary files.
        command: program and arguments.

    Returns:
        The command; as it came, after a warning, where this machine lets nobody make such a namespace.

    Example:
        >>> from pathlib import Path
        >>> writes_only_to([Path("/tmp")], ["true"])[-1]
        'true'
    """
    if not _is_possible():
        warnings.warn("NOT TESTED: a read-only root, since this machine allows no mount namespace", stacklevel=2)
        return list(command)
    return _wrapped([Path(tempfile.gettempdir()), *folders], command)


def _wrapped(folders: Sequence[Path], command: Sequence[str]) -> list[str]:
    user = [] if os.geteuid() == 0 else ["--map-root-user"]
    return ["unshare", "--mount", *user, "sh", "-ec", _SCRIPT, "sh", *map(str, folders), "--", *command]


@functools.cache
def _is_possible() -> bool:
    if shutil.which("unshare") is None:
        return False
    refused = 'touch /metseg-was-here 2> /dev/null && rm /metseg-was-here && exit 1; touch "$1"'
    with tempfile.TemporaryDirectory() as folder:
        command = ["sh", "-c", refused, "sh", f"{folder}/written"]
        answer = subprocess.run(_wrapped([Path(folder)], command), capture_output=True, check=False)
        return answer.returncode == 0 and Path(folder, "written").exists()
