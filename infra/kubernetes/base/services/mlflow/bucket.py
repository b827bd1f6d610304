"""Save MLflow's artifacts to a tar archive, or load such an archive.

The archive goes to standard output, or comes from standard input.

    bucket.py save > artifacts.tar
    bucket.py load < artifacts.tar

The bucket and the prefix are those of MLFLOW_ARTIFACTS_DESTINATION (s3://BUCKET/PREFIX); keys and endpoint are AWS_*.
Loading replaces objects of the same name and leaves others.
"""

from __future__ import annotations

import os
import sys
import tarfile
import tempfile
from typing import Any
from urllib.parse import urlsplit

MEMORY = 64 << 20
"""Bytes of one object that are kept in memory; larger ones go through a temporary file."""


def place() -> tuple[str, str]:
    """Return the bucket and the prefix, which ends in a slash or is empty."""
    destination = urlsplit(os.environ["MLFLOW_ARTIFACTS_DESTINATION"])
    if destination.scheme != "s3":
        sys.exit(f"MLFLOW_ARTIFACTS_DESTINATION is {destination.geturl()}: expected s3://BUCKET/PREFIX")
    prefix = destination.path.strip("/")
    return destination.netloc, f"{prefix}/" if prefix else ""


def save(client: Any) -> int:
    """Write every object below the prefix, named without it; returns their number."""
    bucket, prefix = place()
    count = 0
    with tarfile.open(fileobj=sys.stdout.buffer, mode="w|") as archive:
        for page in client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix):
            for entry in page.get("Contents", []):
                if entry["Key"].endswith("/"):
                    continue
                response = client.get_object(Bucket=bucket, Key=entry["Key"])
                member = tarfile.TarInfo(entry["Key"].removeprefix(prefix))
                member.size, member.mtime = response["ContentLength"], int(entry["LastModified"].timestamp())
                archive.addfile(member, response["Body"])
                count += 1
    return count


def load(client: Any) -> int:
    """Put every file of the archive below the prefix; returns their number."""
    bucket, prefix = place()
    count = 0
    with tarfile.open(fileobj=sys.stdin.buffer, mode="r|") as archive:
        for member in archive:
            content = archive.extractfile(member)
            if content is None:
                continue
            with tempfile.SpooledTemporaryFile(MEMORY) as whole:
                while block := content.read(1 << 20):
                    whole.write(block)
                whole.seek(0)
                client.upload_fileobj(whole, bucket, prefix + member.name)
            count += 1
    return count


def main() -> None:
    """Run the named direction."""
    import boto3

    if sys.argv[1:] not in (["save"], ["load"]):
        sys.exit("usage: bucket.py save|load")
    count = (save if sys.argv[1] == "save" else load)(boto3.client("s3"))
    print(f"{count} objects", file=sys.stderr)


if __name__ == "__main__":
    main()
