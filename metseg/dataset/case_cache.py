"""Canonical cases kept between runs: the same data, options and code give the same cases, so they are read once."""

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

from metseg.dataset.cache import DataCache, folder_bytes
from metseg.dataset.manifest import CaseEntry
from metseg.errors import DataError
from metseg.files import folder_written_beside, write_json
from metseg.imaging.layouts import LayoutOptions
from metseg.pseudonyms import naming

logger = logging.getLogger(__name__)

CONTENT = "content"
INDEX = "index.json"
READERS = ("nibabel", "numpy", "opencv-python-headless", "pandas", "pillow", "pydicom", "python-gdcm", "scipy")


@dataclass(frozen=True)
class ReadCohort:
    """What ingest knows of a cohort whose cases lie in canonical form, before anything is said about splits.

    Attributes:
        layout: name of the layout it was read in.
        channels: names of the channels, in order.
        labels: what the mask marks.
        notes: what a person should know about how it was read.
        entries: one a case, by name in rising order; their split is empty.
    """

    layout: str
    channels: list[str]
    labels: list[str]
    notes: list[str]
    entries: list[CaseEntry]


@once
def code_digest() -> str:
    """SHA-256 over the source of what reads cases and describes them, and the versions of its libraries."""
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
    """Name of the cases that data of a version give: 32 hexadecimal digits."""
    decisive = [data_version, layout, asdict(options), code_digest(), naming()]
    return hashlib.sha256(json.dumps(decisive, sort_keys=True, default=str).encode()).hexdigest()[:32]


def take(cache: DataCache, key: str, out: Path) -> ReadCohort | None:
    """Bring kept cases into the folder `out`, by hard links where the file system has them.

    Returns:
        What was known of them; None where there are none, or where a file's size or time is not what it was when it
        was kept. Damaged ones are removed.
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
        cohort = _cohort(index["cohort"])
        cache.use(folder)
    except (OSError, ValueError, KeyError, TypeError, DataError) as error:
        logger.info("kept cases cannot be used (%s); reading the data again", error)
        shutil.rmtree(folder, ignore_errors=True)
        for path in out.iterdir():
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        return None
    return cohort


def keep(cache: DataCache, key: str, out: Path, cohort: ReadCohort) -> None:
    """Keep the cases in the folder `out`, if they fit the cache, and remove what was unused for longest."""
    size = folder_bytes(out)
    if size > cache.limit_bytes:
        logger.info("%.1f GB of cases are more than METSEG_CACHE_GB allows and are not kept", size / 2**30)
        return
    folder = cache.cases / key
    with cache.only_one(folder):
        if folder.is_dir():
            return
        names = sorted(path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file())
        with folder_written_beside(folder) as beside:
            for name in names:
                _link(out / name, beside / CONTENT / name)
            files = {name: _stat(beside / CONTENT / name) for name in names}
            content = asdict(cohort)
            write_json(beside / INDEX, {"digest": _digest(content, files), "cohort": content, "files": files})
    for path in cache.prune():
        logger.info("removed %s from the cache: unused for longest", path.name)


def _cohort(content: dict[str, Any]) -> ReadCohort:
    entries = [CaseEntry.from_dict(entry, "a kept case") for entry in content["entries"]]
    return ReadCohort(**{**content, "entries": entries})


def _digest(*parts: Any) -> str:
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def _stat(path: Path) -> list[int]:
    """Size and time of change: hard links share both, and a copy keeps them."""
    found = path.stat()
    return [found.st_size, found.st_mtime_ns]


def _link(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(source, target)
    except FileNotFoundError:
        raise
    except OSError:
        shutil.copy2(source, target)
