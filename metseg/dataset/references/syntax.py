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

_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:")
_GIT = re.compile(
    r"git\+(?P<url>(?P<scheme>https|http|ssh|file)://(?P<host>[^/#]*)/(?P<path>[^@#]+))@(?P<revision>[^#]+)#(?P<inside>.+)"
)
_S3 = re.compile(r"s3://(?P<bucket>[^/]+)/(?P<prefix>.*)")


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
        UsageError: it is of no supported kind, or names a missing file; the message has the grammar.
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
    if _SCHEME.match(reference):
        raise UsageError(f"data reference {reference!r} is of a kind that is not read; {GRAMMAR}")
    raise UsageError(f"data reference {reference!r}: there is no such folder or file here; {GRAMMAR}")


def _s3(reference: str) -> S3Prefix | S3Archive:
    match = _S3.fullmatch(reference)
    if match is None:
        raise UsageError(f"data reference {reference!r} names no bucket and prefix; {GRAMMAR}")
    if is_archive(match["prefix"]):
        return S3Archive(match["bucket"], match["prefix"].lstrip("/"))
    return S3Prefix(match["bucket"], match["prefix"].strip("/"))


def _git(reference: str) -> GitRevision:
    match = _GIT.fullmatch(reference)
    if match is None:
        raise UsageError(f"data reference {reference!r}: URL, revision and path are not all there; {GRAMMAR}")
    if ":" in match["host"].rpartition("@")[0]:
        raise UsageError(
            "data reference git+…: it holds a password, and references are recorded. Leave it out, and give it to "
            "Git itself (a credential helper, or SSH)."
        )
    folder = inside(match["inside"])
    if folder is None:
        raise UsageError(f"data reference {reference!r}: the path leads out of the repository; {GRAMMAR}")
    return GitRevision(match["url"], match["revision"], str(folder))
