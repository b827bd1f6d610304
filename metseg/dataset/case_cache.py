"""Cache of canonical cases: the same data, options and code give the same cases."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
from dataclasses import asdict, dataclass
from functools import cache as once
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from metseg.dataset.data_cache import DataCache, folder_bytes
from metseg.dataset.manifest import CaseEntry
from metseg.errors import DataError
from metseg.files import folder_written_beside, write_json
from metseg.imaging.layouts import LayoutOptions
from metseg.pseudonyms import naming
from metseg.records import Record

logger = logging.getLogger(__name__)

CONTENT = "content"
INDEX = "index.json"
READERS = ("nibabel", "numpy", "opencv-python-headless", "pandas", "pillow", "pydicom", "python-gdcm", "scipy")


@dataclass(frozen=True)
class ReadCohort(Record):
    """A cohort in canonical form, before patients are split.

    Attributes:
        layout: name of the layout it was read in.
        channels: names of the channels, in order.
        labels: of the mask.
        notes: for the user, on how the cohort was read.
        entries: one a case, by name in rising order; their split is empty.
    """

    layout: str
    channels: tuple[str, ...]
    labels: tuple[str, ...]
    notes: tuple[str, ...]
    entries: tuple[CaseEntry, ...]


@once
def code_digest() -> str:
    """Return a digest of the code that reads cases and its libraries' versions."""
    root = Path(__file__).resolve().parents[1]
    digest = hashlib.sha256()
    for folder in ("imaging", "dataset", "scoring"):
        for path in sorted((root / folder).rglob("*.py")):
            digest.update(f"{path.relative_to(root)}\0".encode() + path.read_bytes())
    for name in READERS:
        try:
            digest.update(f"{name}=={version(name)}\0".encode())
        except PackageNotFoundError:
            digest.update(f"{name}\0".encode())
    return digest.hexdigest()


def cases_key(data_version: str, layout: str, options: LayoutOptions) -> str:
    """Return the cache key of the cases of a data version: 32 hexadecimal digits."""
    decisive = [data_version, layout, asdict(options), code_digest(), naming()]
    return hashlib.sha256(json.dumps(decisive, sort_keys=True, default=str).encode()).hexdigest()[:32]


def take(cache: DataCache, key: str, out: Path) -> ReadCohort | None:
    """Link or copy cached cases into the folder `out`.

    Returns:
        The cohort; None without cached cases, or if a file's size or time has changed since. Damaged cases are removed.
    """
    folder = cache.cases / key
    if not folder.is_dir():
        return None
    try:
        index = json.loads((folder / INDEX).read_text(encoding="utf-8"))
        if index["digest"] != _digest(index["cohort"], index["files"]):
            raise ValueError("the index is damaged")
        for name, stat in index["files"].items():
            _link(folder / CONTENT / name, out / name)
            if _stat(out / name) != stat:
                raise ValueError(f"{name} was changed")
        cohort = ReadCohort.from_dict(index["cohort"], "the cached cases")
        cache.use(folder)
    except (OSError, ValueError, KeyError, TypeError, DataError) as error:
        logger.info("the cached cases cannot be used (%s); reading the data again", error)
        shutil.rmtree(folder, ignore_errors=True)
        for path in out.iterdir():
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        return None
    return cohort


def keep(cache: DataCache, key: str, out: Path, cohort: ReadCohort) -> None:
    """Cache the cases in the folder `out` if they fit, then prune."""
    size = folder_bytes(out)
    if size > cache.limit_bytes:
        logger.info("%.1f GB of cases exceed METSEG_CACHE_GB and are not cached", size / 2**30)
    else:
        _store(cache, cache.cases / key, out, cohort)
    for path in cache.prune():
        logger.info("removed %s from the cache: unused for longest", path.name)


def _store(cache: DataCache, folder: Path, out: Path, cohort: ReadCohort) -> None:
    with cache.only_one(folder):
        if folder.is_dir():
            return
        names = sorted(path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file())
        with folder_written_beside(folder) as beside:
            for name in names:
                _link(out / name, beside / CONTENT / name)
            files = {name: _stat(beside / CONTENT / name) for name in names}
            content = cohort.to_dict()
            write_json(beside / INDEX, {"digest": _digest(content, files), "cohort": content, "files": files})


def _digest(*parts: Any) -> str:
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def _stat(path: Path) -> list[int]:
    """Return size and time of change, which hard links share and copies preserve."""
    status = path.stat()
    return [status.st_size, status.st_mtime_ns]


def _link(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(source, target)
    except FileNotFoundError:
        raise
    except OSError:
        shutil.copy2(source, target)
