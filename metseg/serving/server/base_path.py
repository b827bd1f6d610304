"""Which versions a base path offers under a version policy (TF Serving: file_system_storage_path_source.cc)."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

_VERSION = re.compile(r"-?[0-9]+")
_LARGEST = 2**63


def aspired_versions(base_path: Path, policy: Any) -> dict[int, Path] | None:
    """Folder of each version that should be served.

    Args:
        base_path: the folder of the versions; a child counts when its name is an integer.
        policy: ServableVersionPolicy: `latest` (one, or `num_versions`), `all` or `specific`; unset: the latest one.

    Returns:
        None when the base path is missing or cannot be read: nothing may be concluded from that.
    """
    try:
        names = sorted(child.name for child in base_path.iterdir())
    except OSError:
        return None
    children = {int(name): base_path / name for name in names if _is_version(name)}
    match policy.WhichOneof("policy_choice"):
        case "all":
            chosen = set(children)
        case "specific":
            chosen = set(policy.specific.versions)
        case _:
            chosen = set(sorted(children)[-max(policy.latest.num_versions, 1) :])
    return {version: path for version, path in children.items() if version in chosen}


def _is_version(name: str) -> bool:
    return _VERSION.fullmatch(name) is not None and -_LARGEST <= int(name) < _LARGEST
