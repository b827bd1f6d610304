"""Stands in for the AWS command line: `s3 mb s3://BUCKET` and `s3 sync FOLDER s3://BUCKET/PREFIX`.

Credentials come from the environment, as there.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import boto3


def main() -> None:
    parser = argparse.ArgumentParser(prog="aws")
    parser.add_argument("--endpoint-url", required=True)
    services = parser.add_subparsers(dest="service", required=True)
    actions = services.add_parser("s3").add_subparsers(dest="action", required=True)
    actions.add_parser("mb").add_argument("bucket")
    sync = actions.add_parser("sync")
    sync.add_argument("folder", type=Path)
    sync.add_argument("target")
    options = parser.parse_args()
    client = boto3.client("s3", endpoint_url=options.endpoint_url, region_name="us-east-1")
    if options.action == "mb":
        client.create_bucket(Bucket=options.bucket.removeprefix("s3://"))
        return
    if not options.folder.is_dir():
        parser.exit(255, f"The user-provided path {options.folder} does not exist.\n")
    bucket, _, prefix = options.target.removeprefix("s3://").partition("/")
    for path in sorted(options.folder.rglob("*")):
        if path.is_file():
            client.upload_file(str(path), bucket, f"{prefix.rstrip('/')}/{path.relative_to(options.folder).as_posix()}")


if __name__ == "__main__":
    main()
