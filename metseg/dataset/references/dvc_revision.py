"""A folder under DVC at one commit of a Git repository."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import unquote, urlparse

from metseg.dataset.data_cache import DataCache
from metseg.dataset.data_version import HashTable, listing_version
from metseg.dataset.dvc_folders import dvc_in_state
from metseg.dataset.references.downloads import RemoteFile, attempts, fetch
from metseg.dataset.references.git_credentials import git_access
from metseg.dataset.references.syntax import GitRevision
from metseg.errors import DataError
from metseg.retry_deadline import away, chain, hopeless, patience

logger = logging.getLogger(__name__)


def fetch_revision(reference: GitRevision, cache: DataCache, table: HashTable) -> tuple[Path, str, str]:
    """Download a folder at one commit, every file verified by its md5.

    Returns:
        The folder, the full SHA-1 of the commit, and the `.dir` md5 that the `.dvc` file has at that commit.

    Raises:
        DataError: repository, revision, path or the DVC remote cannot be read, or hold something else than recorded.
    """
    with _opened(reference) as (repository, commit, version):
        logger.info("%s is commit %s", reference, commit)
        files = _listing(repository, reference, commit, version)
        folder = cache.fetched / f"dvc-{version.removesuffix('.dir')}"
        with cache.only_one(folder):
            fetch(files, lambda file, path: repository.get_file(file.source, str(path)), folder, table, transient)
    return folder, commit, version


def current_version(reference: GitRevision) -> str:
    """Return the `.dir` md5 of a revision without downloading data.

    Raises:
        DataError: repository, revision or path cannot be read.
    """
    with _opened(reference) as (_, _, version):
        return version


@contextmanager
def _opened(reference: GitRevision) -> Iterator[tuple[Any, str, str]]:
    """Open DVC's file system at the revision, with its commit and version; errors become `DataError`."""
    from botocore.exceptions import BotoCoreError, ClientError
    from dvc.api import DVCFileSystem
    from dvc.exceptions import DvcException
    from dvc.repo.open_repo import clean_repos
    from dvc_data.index.index import DataIndexError
    from dvc_objects.fs.errors import ConfigError as RemoteError
    from scmrepo.exceptions import SCMError

    parsed = urlparse(reference.url)
    # DVC opens a repository on this machine in place, with the cache next to it.
    url = unquote(parsed.path) if parsed.scheme == "file" else reference.url
    try:
        with dvc_in_state(), git_access(reference.url):
            for attempt in attempts(f"opening {reference}", _host_is_away, at_least=1):
                with attempt:
                    repository = DVCFileSystem(url, rev=reference.revision)
                    commit = str(repository.repo.scm.resolve_rev(reference.revision))
            yield repository, commit, _version(repository, reference)
    except (DvcException, SCMError, RemoteError, BotoCoreError, ClientError, DataIndexError, OSError) as error:
        raise DataError(
            f"{reference}: {_reason(error)}. Check the repository's URL, the revision, the path and the DVC remote "
            "that the repository names at that revision (`dvc remote list`), with the credentials it needs "
            "(docs/versions.md), and that the data were pushed (`dvc push`)."
        ) from error
    finally:
        clean_repos()


def _reason(error: BaseException) -> str:
    """Return the messages of an error and its causes, in one line."""
    messages: list[str] = []
    cause: BaseException | None = error
    while cause is not None and len(messages) < 3:
        text = " ".join(str(cause).split()).rstrip(".") or type(cause).__name__
        if text not in messages:
            messages.append(text)
        cause = cause.__cause__
    return ": ".join(messages)


def _version(repository: Any, reference: GitRevision) -> str:
    """Return the `.dir` md5 of a tracked folder; raises `DataError` for any other path."""
    files, root = repository.repo.fs, repository.repo.root_dir
    for parent in PurePosixPath(reference.path).parents:
        if parent.parts and files.exists(files.join(root, *parent.parts, ".dvc")):
            raise DataError(
                f"{reference}: {parent} is a DVC project inside a repository (`dvc init --subdir`); they are read at "
                "the root alone. Clone the repository, run `dvc pull` in that folder, and name the folder of the data."
            )
    info = repository.info(reference.path)
    version = info.get("md5")
    if "md5-dos2unix" in info:
        repository.repo.drop_data_index()  # DVC would take the migrated folder for this one, by its md5
        raise DataError(
            f"{reference}: DVC 2 added this folder, and its hashes differ from those of DVC 3. Run `dvc cache migrate "
            "--dvc-files` in the repository, commit the changed .dvc files, run `dvc push` and name that commit."
        )
    if info.get("type") != "directory" or not version or not str(version).endswith(".dir"):
        raise DataError(
            f"{reference}: the path is no folder that DVC tracks as a whole at this commit. Name the folder that was "
            "given to `dvc add`, such as #data where there is a data.dvc."
        )
    return str(version)


def _listing(repository: Any, reference: GitRevision, commit: str, version: str) -> list[RemoteFile]:
    """Return the files of the folder; raises `DataError` if the commit pins others."""
    entries = attempts(f"listing {reference}", transient)(repository.find, reference.path, detail=True)
    start = len(reference.path) + 1
    files = [RemoteFile(name[start:], name, entry.get("size"), entry["md5"]) for name, entry in entries.items()]
    listed = listing_version((file.path, str(file.md5)) for file in files)
    expected = repository.info(reference.path)["dvc_info"]["entry"].meta.nfiles
    if listed != version or expected not in (None, len(files)):
        raise DataError(
            f"{reference}: commit {commit} pins {version} with {expected} files, the DVC remote lists "
            f"{listed} with {len(files)}. Push the data again from a complete copy (`dvc push`)."
        )
    return files


def _refused(error: Exception) -> bool:
    """Return whether an HTTP server refused the file."""
    statuses = (getattr(link, "status", None) for link in chain(error))
    return any(isinstance(status, int) and 400 <= status < 500 and status not in (408, 429) for status in statuses)


def _host_is_away(error: Exception) -> bool:
    """Return whether to wait for a Git host."""
    busy = any("unexpected http resp 5" in str(link) for link in chain(error))  # so dulwich words it
    return patience() > 0 and (away(error) or (busy and not hopeless(error)))


def transient(error: Exception) -> bool:
    """Return whether an error of DVC's file systems may be temporary."""
    import aiohttp

    from metseg.dataset.references import s3

    if patience() > 0 and away(error):  # DVC calls a file missing whose server is away
        return True
    if hopeless(error) or _refused(error):
        return False
    if isinstance(error, (FileNotFoundError, PermissionError, IsADirectoryError, NotADirectoryError)):
        return False
    return isinstance(error, aiohttp.ClientError) or s3.transient(error)
