"""Settings and secrets that a pod of the pipeline finds as files, read as the variables that they stand for.

They are files because Argo keeps a task's pod several times over, with every variable in it; a file is named alone.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from metseg.errors import UsageError

MOUNTED = "/etc/metseg"
"""Where a pod finds the settings and secrets of its namespace, each in a folder of files."""

SECRETS: Mapping[str, Mapping[str, str]] = {
    "mlflow": {"username": "METSEG_MLFLOW_USERNAME", "password": "METSEG_MLFLOW_PASSWORD"},
    "storage": {"access-key-id": "METSEG_S3_ACCESS_KEY_ID", "secret-access-key": "METSEG_S3_SECRET_ACCESS_KEY"},
    "pseudonyms": {"key": "METSEG_PSEUDONYM_KEY"},
    "proxy": {name: name for name in ("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY")},
}
"""Variable for each file of a folder; the folder `settings` has files that are called as their variables are."""

_OURS = re.compile(r"METSEG_[A-Z0-9_]+")


def mounted_variables(root: Path) -> dict[str, str]:
    """Return what the files below `root` say, by variable; empty files, and what is none of ours, are left out.

    Raises:
        UsageError: a file is there and cannot be read.
    """
    found = {}
    for folder, names in {"settings": {}, **SECRETS}.items():
        if not (root / folder).is_dir():
            continue
        for path in sorted((root / folder).iterdir()):
            variable = names.get(path.name) or (path.name if not names and _OURS.fullmatch(path.name) else "")
            if variable and (text := _read(path)):
                found[variable] = text
    return found


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: this setting of the pod cannot be read ({error})") from error
