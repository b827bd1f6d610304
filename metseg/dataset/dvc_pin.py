"""Record a generated folder as the one that its `.dvc` file pins."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from metseg.dataset.data_version import data_version
from metseg.dataset.dvc_folders import dvc_in_state

logger = logging.getLogger(__name__)


def pinned_version(folder: Path) -> str | None:
    """Return the version in the `.dvc` file next to `folder`; None without one."""
    pointer = folder.with_name(f"{folder.name}.dvc")
    if not pointer.is_file():
        return None
    import yaml

    try:
        content: Any = yaml.safe_load(pointer.read_text(encoding="utf-8"))
        return str(content["outs"][0]["md5"])
    except (OSError, yaml.YAMLError, KeyError, IndexError, TypeError):
        return None


def record_pinned(folder: Path) -> bool:
    """Add a folder that matches its `.dvc` file to DVC's cache.

    The `.dvc` file stays as it is; a folder of another version is left alone, and `dvc status` reports it.

    Returns:
        True if DVC's cache now has the folder.
    """
    folder = folder.resolve()
    pinned = pinned_version(folder)
    if pinned is None:
        return False
    version = data_version(folder)
    if version != pinned:
        logger.info("%s is version %s, while %s.dvc pins %s", folder, version, folder.name, pinned)
        return False
    from dvc.exceptions import DvcException
    from dvc.repo import Repo
    from scmrepo.exceptions import SCMError

    try:
        with dvc_in_state(), Repo(str(folder.parent)) as repo:
            target = f"{folder}.dvc"
            outs = [out for stage in repo.stage.collect(target) for out in stage.outs]
            if any(out.changed_cache() for out in outs):
                repo.commit(target, force=True)
    except (DvcException, SCMError) as error:
        logger.info("%s is not in DVC's cache (%s)", folder, error)
        return False
    return True
