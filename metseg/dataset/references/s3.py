"""Data in an S3 bucket, pinned and downloaded as pinned."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from metseg.dataset.cache import DataCache
from metseg.dataset.references.downloads import RemoteFile, WrongContent, attempts, fetch
from metseg.dataset.references.syntax import S3Archive, S3Prefix
from metseg.dataset.version import HashTable
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


def fetch_prefix(reference: S3Prefix, cache: DataCache, table: HashTable) -> tuple[Path, str]:
    """Download all objects below a prefix.

    Returns:
        The folder, and the reference pinned to the listing that was fetched: `s3://bucket/prefix?listing=SHA-256`.

    Raises:
        DataError: the bucket cannot be listed, holds nothing there, or an object changed meanwhile.
    """
    client = _client()
    where = f"s3://{reference.bucket}/{reference.prefix}"
    objects = _listing(client, reference, where)
    pin = _pin_of(objects)
    start = len(reference.prefix) + 1 if reference.prefix else 0
    resolved = f"{where}?listing={pin}"
    return _fetched(client, reference.bucket, objects, start, f"{where}?{pin}", where, cache, table), resolved


def listing_pin(reference: S3Prefix) -> str:
    """Return the current pin of a prefix, as `fetch_prefix` has it: `listing=SHA-256`.

    Raises:
        DataError: the bucket cannot be listed, or holds nothing there.
    """
    return f"listing={_pin_of(_listing(_client(), reference, f's3://{reference.bucket}/{reference.prefix}'))}"


def archive_pin(reference: S3Archive, version: str = "") -> str:
    """Return the pin of an archive, or of an older version.

    Raises:
        DataError: there is no such object or version, or it cannot be read.
    """
    return _looked_at(_client(), reference, {"VersionId": version} if version else {})[1]


def fetch_archive(reference: S3Archive, cache: DataCache, table: HashTable) -> tuple[Path, str]:
    """Download an archive.

    Returns:
        The file, and the pinned reference: `s3://bucket/key?versionId=…` in a bucket with versions, else
        `?etag=…`.

    Raises:
        DataError: there is no such object, it cannot be read, or it changed meanwhile.
    """
    client = _client()
    where = f"s3://{reference.bucket}/{reference.key}"
    archive, pin = _looked_at(client, reference, {})
    start = reference.key.rfind("/") + 1
    folder = _fetched(client, reference.bucket, [archive], start, f"{where}?{pin}", where, cache, table, copies=2)
    return folder / reference.key[start:], f"{where}?{pin}"


def _pin_of(objects: list[_Object]) -> str:
    """Return the SHA-256 of a listing."""
    return hashlib.sha256(json.dumps([[o.key, o.etag, o.size] for o in objects]).encode()).hexdigest()


def _looked_at(client: Any, reference: S3Archive, which: Mapping[str, str]) -> tuple[_Object, str]:
    """Return an archive's object and its pin."""
    from botocore.exceptions import BotoCoreError, ClientError

    where = f"s3://{reference.bucket}/{reference.key}"
    try:
        for attempt in attempts(f"looking for {where}", transient):
            with attempt:
                head = client.head_object(Bucket=reference.bucket, Key=reference.key, **which)
    except (BotoCoreError, ClientError) as error:
        raise DataError(
            f"{where}: there is no such archive, or it may not be read ({error}). Check the key (one that ends in a "
            "slash names a prefix), AWS_ENDPOINT_URL and the credentials (AWS_ACCESS_KEY_ID and "
            "AWS_SECRET_ACCESS_KEY, or AWS_PROFILE)."
        ) from error
    archive = _Object(reference.key, head["ETag"].strip('"'), int(head["ContentLength"]))
    version = head.get("VersionId") or "null"
    return archive, f"etag={archive.etag}" if version == "null" else f"versionId={version}"


def _fetched(
    client: Any,
    bucket: str,
    objects: list[_Object],
    start: int,
    pinned: str,
    where: str,
    cache: DataCache,
    table: HashTable,
    copies: int = 1,
) -> Path:
    """Return the folder with `objects`, named by their keys without the first `start` letters."""
    from botocore.exceptions import BotoCoreError, ClientError

    folder = cache.fetched / f"s3-{hashlib.sha256(pinned.encode()).hexdigest()[:32]}"
    etags = {one.key: one.etag for one in objects}

    def get(file: RemoteFile, path: Path) -> None:
        _download(client, bucket, file, etags[file.source], path)

    files = [RemoteFile(one.key[start:], one.key, one.size, None) for one in objects]
    try:
        with cache.only_one(folder):
            fetch(files, get, folder, table, transient, copies)
    except (BotoCoreError, ClientError, OSError) as error:
        raise DataError(f"{where}: not everything could be fetched ({error}). {_AGAIN}") from error
    return folder


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


def _listing(client: Any, reference: S3Prefix, where: str) -> list[_Object]:
    from botocore.exceptions import BotoCoreError, ClientError

    prefix = f"{reference.prefix}/" if reference.prefix else ""
    try:
        for attempt in attempts(f"listing {where}", transient):
            with attempt:
                pages = client.get_paginator("list_objects_v2").paginate(Bucket=reference.bucket, Prefix=prefix)
                listed = [
                    _Object(entry["Key"], entry["ETag"].strip('"'), int(entry["Size"]))
                    for page in pages
                    for entry in page.get("Contents", [])
                ]
    except (BotoCoreError, ClientError) as error:
        raise DataError(
            f"{where}: the bucket cannot be listed ({error}). Check the name, AWS_ENDPOINT_URL and the credentials "
            "(AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE)."
        ) from error
    # A key that ends in a slash stands for a folder; DVC's and Git's own folders are no data.
    objects = [
        entry
        for entry in listed
        if not entry.key.endswith("/") and not set(entry.key[len(prefix) :].split("/")) & set(VERSION_CONTROL)
    ]
    if not objects:
        raise DataError(f"{where}: there is no object below it. Name the prefix that holds the images and masks.")
    return sorted(objects, key=lambda entry: entry.key)


def _download(client: Any, bucket: str, file: RemoteFile, etag: str, path: Path) -> None:
    """Download one unchanged object; verify it if its ETag is an MD5."""
    from botocore.exceptions import ClientError, FlexibleChecksumError

    digest = hashlib.md5(usedforsecurity=False)
    try:
        response = client.get_object(Bucket=bucket, Key=file.source, IfMatch=etag)
    except ClientError as error:
        if error.response.get("Error", {}).get("Code") in ("PreconditionFailed", "412"):
            raise DataError(
                f"s3://{bucket}/{file.source}: the object changed while the data were fetched. Run again."
            ) from error
        raise
    where = f"s3://{bucket}/{file.source}"
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
