"""Syntax of data references."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from metseg.dataset.archives import SUFFIXES, inside, is_archive
from metseg.errors import UsageError

GRAMMAR = """a data reference is one of
  FOLDER                           a folder on this machine
  FILE.zip|.tar|.tar.gz|.tgz       an archive on this machine
  s3://BUCKET/PREFIX               everything below a prefix (AWS_ENDPOINT_URL for a server other than Amazon's)
  s3://BUCKET/KEY.zip|.tar|…       an archive in a bucket
  git+URL@REVISION#PATH            a folder under DVC in a Git repository, at a branch, tag or commit; URL begins with
                                   https://, http://, ssh:// or file://"""

CREDENTIALS = (
    "A reference is recorded, so it takes no password, token or query, and is not repeated here. Credentials belong "
    'in files or variables of their own: see "Credentials" in docs/data.md'
)
_LOCAL = re.compile(r"[^:@?]*")
"""What can be nothing but a path of this machine, and so may be repeated."""
_GIT = re.compile(
    r"git\+(?P<url>(?P<scheme>https|http|ssh|file)://(?P<host>[^/#?]*)/(?P<path>[^@#?]+))"
    r"@(?P<revision>[^#?]+)#(?P<inside>[^?]+)"
)
_HOST = r"([A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?"
_REMOTE = re.compile(r"([\w./~+-]|%20)+")
_PLACES = {
    "https": (re.compile(_HOST), _REMOTE),
    "http": (re.compile(_HOST), _REMOTE),
    "ssh": (re.compile(rf"([A-Za-z0-9][A-Za-z0-9._-]{{0,31}}@)?{_HOST}"), _REMOTE),
    "file": (re.compile(r"(localhost)?"), re.compile(r".+")),
}
"""Form of host and path, by the scheme of a repository's URL."""
_S3 = re.compile(r"s3://(?P<bucket>[A-Za-z0-9._-]+)/(?P<prefix>[^?]*)")


@dataclass(frozen=True)
class Folder:
    """A folder on this machine."""

    path: Path


@dataclass(frozen=True)
class Archive:
    """An archive on this machine."""

    path: Path


@dataclass(frozen=True)
class S3Prefix:
    """All objects below a prefix of a bucket; an empty prefix is the bucket."""

    bucket: str
    prefix: str

    def __str__(self) -> str:
        return f"s3://{self.bucket}/{self.prefix}"

    @property
    def folder(self) -> str:
        """Start of the keys of its objects."""
        return f"{self.prefix}/" if self.prefix else ""


@dataclass(frozen=True)
class S3Archive:
    """An object of a bucket that is an archive, by its key's ending."""

    bucket: str
    key: str

    def __str__(self) -> str:
        return f"s3://{self.bucket}/{self.key}"

    @property
    def folder(self) -> str:
        """Start of its key, without its name."""
        return self.key[: self.key.rfind("/") + 1]


@dataclass(frozen=True)
class GitRevision:
    """A folder under DVC.

    Attributes:
        url: of the repository, as Git takes it.
        revision: branch, tag or commit.
        path: the folder, relative to the repository's root.
    """

    url: str
    revision: str
    path: str

    def __str__(self) -> str:
        return f"git+{self.url}@{self.revision}#{self.path}"


Reference = Folder | Archive | S3Prefix | S3Archive | GitRevision


def parse(reference: str) -> Reference:
    """Parse a data reference.

    Raises:
        UsageError: it is of no supported kind, names a missing file, or may hold a secret; the message has the grammar.
    """
    if reference.startswith("git+"):
        return _git(reference)
    if reference.startswith("s3:"):
        return _s3(reference)
    path = Path(reference).expanduser()
    if reference and path.is_dir():
        return Folder(path)
    if reference and path.is_file():
        if is_archive(path.name):
            return Archive(path)
        raise UsageError(
            f"data reference {reference}: this file is no archive that is read ({', '.join(SUFFIXES)}); {GRAMMAR}"
        )
    if _LOCAL.fullmatch(reference):
        raise UsageError(f"data reference {reference!r}: there is no such folder or file here; {GRAMMAR}")
    raise UsageError(f"the data reference is neither a folder or file here nor of a kind that is read. {_TAUGHT}")


def require_no_secret(reference: str) -> None:
    """Raise UsageError for a reference that may hold a secret.

    A path need not exist here.
    """
    if not _LOCAL.fullmatch(reference):
        parse(reference)


_TAUGHT = f"{CREDENTIALS}; {GRAMMAR}"


def _s3(reference: str) -> S3Prefix | S3Archive:
    match = _S3.fullmatch(reference)
    if match is None:
        raise UsageError(f"data reference s3:…: expected a plain name of a bucket, and a prefix. {_TAUGHT}")
    if is_archive(match["prefix"]):
        return S3Archive(match["bucket"], match["prefix"].lstrip("/"))
    return S3Prefix(match["bucket"], match["prefix"].strip("/"))


def _git(reference: str) -> GitRevision:
    match = _GIT.fullmatch(reference)
    if match is None:
        raise UsageError(f"data reference git+…: URL, revision and path are not all there. {_TAUGHT}")
    host, path = _PLACES[match["scheme"]]
    if not host.fullmatch(match["host"]) or not path.fullmatch(match["path"]):
        raise UsageError(f"data reference git+…: expected a plain host, an optional port and a path. {_TAUGHT}")
    if _ends_userinfo(match["host"], match["revision"]):
        raise UsageError(
            f"data reference git+…: the revision reads like the end of a password with a slash. Give the commit. "
            f"{_TAUGHT}"
        )
    folder = inside(match["inside"])
    if folder is None:
        raise UsageError(f"data reference git+…: the path leads out of the repository; {GRAMMAR}")
    return GitRevision(match["url"], match["revision"], str(folder))


def _ends_userinfo(host: str, revision: str) -> bool:
    """Return whether `HOST/…@REVISION` may be `USER:12/34@SERVER/…@REVISION`.

    A branch `feature/x@y` is one where the host has a dot, as `SERVER` would.
    """
    first, slash, _ = revision.rpartition("@")[0].partition("/")
    named = "." in host or host.startswith(("localhost", "[")) or not host
    return bool(slash) and (not named or "." in first or ":" in first or first == "localhost")
