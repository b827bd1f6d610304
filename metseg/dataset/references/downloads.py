"""Download many files: verified one by one, retried with back-off, resumed after a kill."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from itertools import count
from pathlib import Path

from tenacity import (
    RetryCallState,
    Retrying,
    retry_if_exception,
    stop_after_attempt,
    stop_all,
    stop_before_delay,
    wait_exponential,
    wait_random_exponential,
)

from metseg.dataset.archives import inside
from metseg.dataset.data_cache import PARTIAL, require_room
from metseg.dataset.data_version import HashTable, file_md5
from metseg.errors import DataError
from metseg.files import data_files
from metseg.progress import Progress
from metseg.retry_deadline import patience

logger = logging.getLogger(__name__)

ATTEMPTS = 6
"""Of everything, however little patience there is."""
FIRST_PAUSE = 0.2
LONGEST_PAUSE = 20.0
AT_ONCE = 8


class WrongContent(DataError):
    """Content that differs from the listing, by the transfer or in its store."""


@dataclass(frozen=True)
class RemoteFile:
    """A file to download.

    Attributes:
        path: relative to the folder, with `/`.
        source: name in its store.
        size: in bytes; None if the listing has none.
        md5: of its bytes; None if the listing has none.
    """

    path: str
    source: str
    size: int | None
    md5: str | None


Get = Callable[[RemoteFile, Path], None]


def attempts(label: str, transient: Callable[[Exception], bool], at_least: int = ATTEMPTS) -> Retrying:
    """Return attempts at a request that may fail temporarily: `for attempt in attempts(…): with attempt: …`.

    Args:
        label: of the request, for the log.
        transient: returns whether another attempt can help; called once for each failure.
        at_least: number of attempts, and more until `patience()` has passed.
    """

    def log(state: RetryCallState) -> None:
        error = state.outcome.exception() if state.outcome else None
        logger.info("%s failed (%s: %s); trying again", label, type(error).__name__, error)

    half, longest = FIRST_PAUSE / 2, LONGEST_PAUSE / 2
    return Retrying(
        retry=retry_if_exception(lambda error: isinstance(error, Exception) and transient(error)),
        stop=stop_all(stop_after_attempt(at_least), stop_before_delay(patience())),
        # Half of the pause is random, so that parallel readers do not return at once.
        wait=wait_exponential(half, longest) + wait_random_exponential(half, longest),
        before_sleep=log,
        reraise=True,
    )


def fetch(
    files: Sequence[RemoteFile],
    get: Get,
    folder: Path,
    table: HashTable,
    transient: Callable[[Exception], bool],
    copies: int = 1,
) -> None:
    """Download files into `folder`, which appears when all are there and verified.

    Files of an earlier, killed call are taken from `<folder>.partial`. A finished folder is verified, and its damaged
    files are downloaded again.

    Args:
        files: content of the folder.
        get: downloads one file to a path; called from several threads.
        folder: target.
        table: of known file hashes.
        transient: returns whether an error of `get` may be temporary.
        copies: number of copies on the disk: two for an archive, which is unpacked next to itself.

    Raises:
        DataError: the disk is too small, a name leads out of the folder, or a file differs from its listing after all
            attempts.
    """
    for file in files:
        if inside(file.path) is None:
            raise DataError(f"{file.source}: the name {file.path!r} leads out of the folder. Rename it at its source.")
    partial = folder.with_name(folder.name + PARTIAL)
    table.load(folder)
    table.load(partial)
    if folder.is_dir():
        if not _missing(files, folder, table) and len(data_files(folder)) == len(files):
            return
        logger.info("%s is damaged; what is missing or changed is fetched again", folder)
        shutil.rmtree(partial, ignore_errors=True)
        folder.replace(partial)
    partial.mkdir(parents=True, exist_ok=True)
    wanted = {file.path for file in files}
    for path in data_files(partial):
        if path.relative_to(partial).as_posix() not in wanted:
            path.unlink()
    missing = _missing(files, partial, table)
    if len(missing) < len(files):
        logger.info("%d of %d files are here already", len(files) - len(missing), len(files))
    if missing:
        needed = copies * sum(file.size or 0 for file in missing)
        purpose = "fetching them" if copies == 1 else "fetching and unpacking them"
        require_room(partial, needed, f"{len(missing)} files such as {missing[0].source}: {purpose}")
    _fetch_missing(missing, get, partial, transient)
    partial.replace(folder)
    for file in files:
        if file.md5 is not None:
            table.learn(folder / file.path, file.md5)


def _missing(files: Sequence[RemoteFile], folder: Path, table: HashTable) -> list[RemoteFile]:
    return [file for file in files if not _is_right(file, folder / file.path, table.md5)]


def _is_right(file: RemoteFile, path: Path, md5: Callable[[Path], str]) -> bool:
    if not path.is_file() or (file.size is not None and path.stat().st_size != file.size):
        return False
    return file.md5 is None or md5(path) == file.md5


def _fetch_missing(missing: list[RemoteFile], get: Get, folder: Path, transient: Callable[[Exception], bool]) -> None:
    """Download several at a time; the first permanent error ends it, and finished files stay."""
    with ThreadPoolExecutor(AT_ONCE) as pool, Progress("fetching files", len(missing)) as progress:
        waiting = [pool.submit(_fetch_one, file, get, folder, transient) for file in missing]
        try:
            for done, future in enumerate(as_completed(waiting), 1):
                future.result()
                progress.update(done)
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _fetch_one(file: RemoteFile, get: Get, folder: Path, transient: Callable[[Exception], bool]) -> None:
    target = folder / file.path
    target.parent.mkdir(parents=True, exist_ok=True)
    beside = target.with_name(f".{target.name}.fetching")
    beside.unlink(missing_ok=True)  # not written through, if it is a link
    wrong = count(1)

    def passing(error: Exception) -> bool:
        # Files damaged in the store do not recover by waiting.
        return next(wrong) < ATTEMPTS if isinstance(error, WrongContent) else transient(error)

    for attempt in attempts(file.source, passing):
        with attempt:
            get(file, beside)
            if not _is_right(file, beside, file_md5):
                arrived = f"{beside.stat().st_size} bytes, md5 {file_md5(beside)}"
                beside.unlink()
                raise WrongContent(
                    f"{file.source}: {arrived} arrived; expected {file.size or 'unknown'} bytes, md5 "
                    f"{file.md5 or 'unknown'}. The store's copy is damaged: push or upload the file again."
                )
            beside.replace(target)
