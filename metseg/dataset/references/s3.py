"""Data in an S3 bucket, pinned and downloaded as pinned."""

from __future__ import annotations

import hashlib
import json
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from metseg.dataset.data_cache import DataCache
from metseg.dataset.data_version import HashTable
from metseg.dataset.references.downloads import RemoteFile, WrongContent, attempts, fetch
from metseg.dataset.references.syntax import S3Archive, S3Prefix
from metseg.errors import DataError
from metseg.files import VERSION_CONTROL
from metseg.retry_deadline import away, hopeless, patience

_MD5 = re.compile(r"[0-9a-f]{32}")
_PERMANENT = {"400", "401", "403", "404", "412", "AccessDenied", "InvalidAccessKeyId", "NoSuchBucket", "NoSuchKey"}
_PERMANENT |= {"PreconditionFailed", "SignatureDoesNotMatch", "InvalidBucketName", "PermanentRedirect"}
_PASSING = {"RequestTimeout", "Throttling", "ThrottlingException", "TooManyRequests", "OperationAborted"}
"""Error codes of temporary errors with a status of 4xx."""
_AGAIN = "Run again: finished files stay, and only what is missing is fetched."


@dataclass(frozen=True)
class _Object:
    """A listed object; other content has another ETag."""

    key: str
    etag: str
    size: int


def fetch_objects(reference: S3Prefix | S3Archive, cache: DataCache, table: HashTable) -> tuple[Path, str]:
    """Download all objects below a prefix, or an archive.

    Returns:
        Folder with the objects, and the pinned reference: a prefix with `?listing=SHA-256` of its listing, an archive
        with `?versionId=…` in a bucket with versions, else `?etag=…`.

    Raises:
        DataError: the bucket cannot be listed or read, holds nothing there, or an object changed meanwhile.
    """
    from botocore.exceptions import BotoCoreError, ClientError

    client = _client()
    objects, pin = _look_up(client, reference)
    resolved = f"{reference}?{pin}"
    folder = cache.fetched / f"s3-{hashlib.sha256(resolved.encode()).hexdigest()[:32]}"
    etags = {one.key: one.etag for one in objects}

    def get(file: RemoteFile, path: Path) -> None:
        _download(client, reference.bucket, file, etags[file.source], path)

    files = [RemoteFile(one.key.removeprefix(reference.folder), one.key, one.size, None) for one in objects]
    copies = 2 if isinstance(reference, S3Archive) else 1
    try:
        with cache.only_one(folder):
            fetch(files, get, folder, table, transient, copies)
    except (BotoCoreError, ClientError, OSError) as error:
        raise DataError(f"{reference}: not everything could be fetched ({error}). {_AGAIN}") from error
    return folder, resolved


def current_pin(reference: S3Prefix | S3Archive, version: str = "") -> str:
    """Return the pin of a reference as `fetch_objects` has it.

    Args:
        reference: prefix or archive.
        version: older version of an archive; empty for the current one.

    Raises:
        DataError: the bucket cannot be listed or read, or holds nothing there.
    """
    return _look_up(_client(), reference, version)[1]


def _look_up(client: Any, reference: S3Prefix | S3Archive, version: str = "") -> tuple[list[_Object], str]:
    """Return the objects of a reference and their pin."""
    from botocore.exceptions import BotoCoreError, ClientError

    if isinstance(reference, S3Archive):
        problem, name = (
            "there is no such archive, or it may not be read",
            "key (one that ends in a slash names a prefix)",
        )
    else:
        problem, name = "the bucket cannot be listed", "name"
    try:
        return attempts(f"looking up {reference}", transient)(
            lambda: _head(client, reference, version) if isinstance(reference, S3Archive) else _list(client, reference)
        )
    except (BotoCoreError, ClientError) as error:
        raise DataError(
            f"{reference}: {problem} ({error}). Check the {name}, AWS_ENDPOINT_URL and the credentials "
            "(AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE)."
        ) from error


def _head(client: Any, reference: S3Archive, version: str) -> tuple[list[_Object], str]:
    """Return an archive's object and its pin."""
    which = {"VersionId": version} if version else {}
    head = client.head_object(Bucket=reference.bucket, Key=reference.key, **which)
    archive = _Object(reference.key, head["ETag"].strip('"'), int(head["ContentLength"]))
    current = head.get("VersionId") or "null"
    return [archive], f"etag={archive.etag}" if current == "null" else f"versionId={current}"


def _list(client: Any, reference: S3Prefix) -> tuple[list[_Object], str]:
    """Return the objects below a prefix, sorted by key, and the SHA-256 of the listing."""
    pages = client.get_paginator("list_objects_v2").paginate(Bucket=reference.bucket, Prefix=reference.folder)
    objects = sorted(
        (
            _Object(entry["Key"], entry["ETag"].strip('"'), int(entry["Size"]))
            for page in pages
            for entry in page.get("Contents", [])
            # A key that ends in a slash stands for a folder; DVC's and Git's own folders are no data.
            if not entry["Key"].endswith("/")
            and not set(entry["Key"].removeprefix(reference.folder).split("/")) & set(VERSION_CONTROL)
        ),
        key=lambda one: one.key,
    )
    if not objects:
        raise DataError(f"{reference}: there is no object below it. Name the prefix that holds the images and masks.")
    listing = json.dumps([[one.key, one.etag, one.size] for one in objects])
    return objects, f"listing={hashlib.sha256(listing.encode()).hexdigest()}"


def _client() -> Any:
    """Return a client for the server and credentials of the environment; anonymous without credentials."""
    import boto3
    from botocore import UNSIGNED
    from botocore.config import Config

    session = boto3.session.Session()
    config = Config(retries={"total_max_attempts": 1})  # `attempts` retries, also after a broken transfer
    if session.get_credentials() is None:
        config = config.merge(Config(signature_version=UNSIGNED))
    if os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL"):
        # A private server rarely has a host name for each bucket.
        config = config.merge(Config(s3={"addressing_style": "path"}))
    return session.client("s3", region_name=session.region_name or "us-east-1", config=config)


def _download(client: Any, bucket: str, file: RemoteFile, etag: str, path: Path) -> None:
    """Download one unchanged object; verify it if its ETag is an MD5."""
    from botocore.exceptions import ClientError, FlexibleChecksumError

    digest = hashlib.md5(usedforsecurity=False)
    where = f"s3://{bucket}/{file.source}"
    try:
        response = client.get_object(Bucket=bucket, Key=file.source, IfMatch=etag)
    except ClientError as error:
        if error.response.get("Error", {}).get("Code") in ("PreconditionFailed", "412"):
            raise DataError(f"{where}: the object changed while the data were fetched. Run again.") from error
        raise
    try:
        with path.open("wb") as out:
            for block in response["Body"].iter_chunks(1 << 20):
                digest.update(block)
                out.write(block)
    except FlexibleChecksumError as error:
        raise WrongContent(f"{where}: {error}. {_AGAIN}") from error
    encrypted = response.get("ServerSideEncryption") not in (None, "AES256") or response.get("SSECustomerAlgorithm")
    if _MD5.fullmatch(etag) and not encrypted and digest.hexdigest() != etag:
        raise WrongContent(f"{where}: md5 {digest.hexdigest()} arrived; expected {etag} as listed. {_AGAIN}")


def transient(error: Exception) -> bool:
    """Return whether an error of boto3 may be temporary."""
    from botocore import exceptions

    if hopeless(error):
        return False
    if isinstance(error, exceptions.ClientError):
        status = int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
        code = error.response.get("Error", {}).get("Code")
        return code not in _PERMANENT and (not 400 <= status < 500 or code in _PASSING or status in (408, 429))
    if isinstance(error, exceptions.EndpointConnectionError):
        return patience() > 0 and away(error)  # without patience, a refused connection is an error at once
    passing = (exceptions.HTTPClientError, exceptions.IncompleteReadError)
    return isinstance(error, (OSError, *passing))
