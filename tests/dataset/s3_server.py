"""An S3 server on this machine (moto), with a log of what was asked and faults on demand."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

BUCKET = "scans"
Environment = dict[str, Any]


class S3Server:
    """What a test says to the server and learns from it.

    Attributes:
        url: endpoint.
        asked: method and path of every request, in order.
        fault: called with method and path; `error`, `denied`, `cut` (half of the body) and `damage` (other bytes)
            spoil the answer, None lets it pass.
    """

    def __init__(self) -> None:
        self.url = ""
        self.asked: list[tuple[str, str]] = []
        self.fault: Callable[[str, str], str | None] = lambda method, path: None

    def wrap(self, app: Any) -> Any:
        """The application behind a log and faults."""

        def wrapped(environ: Environment, start: Callable[..., Any]) -> Iterable[bytes]:
            method, path = environ["REQUEST_METHOD"], environ["PATH_INFO"]
            # Asked as a proxy, it is the server of any name; moto takes the first part of one for a bucket.
            environ["HTTP_HOST"] = urlsplit(self.url).netloc
            self.asked.append((method, path))
            fault = self.fault(method, path)
            if fault == "error":
                start("503 Slow Down", [("Content-Length", "0")])
                return [b""]
            if fault == "denied":
                start("403 Forbidden", [("Content-Type", "application/xml")])
                return [b"<Error><Code>InvalidAccessKeyId</Code><Message>No such key.</Message></Error>"]
            body = app(environ, start)
            if fault is None:
                return body  # type: ignore[no-any-return]
            whole = b"".join(body)
            return [whole[: len(whole) // 2] if fault == "cut" else bytes(255 - byte for byte in whole)]

        return wrapped

    @contextmanager
    def away(self, seconds: float) -> Iterator[None]:
        """Nobody listens, for so many seconds from now on."""
        self.stop()
        back = threading.Timer(seconds, self.start)
        back.start()
        try:
            yield
        finally:
            back.join()

    def start(self) -> None:
        """Listen, after `stop` at the same address."""
        from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
        from werkzeug.serving import make_server

        app = self.wrap(DomainDispatcherApplication(create_backend_app))
        self._listening = make_server("127.0.0.1", urlsplit(self.url).port or 0, app, threaded=True)
        self.url = f"http://127.0.0.1:{self._listening.port}"
        self._thread = threading.Thread(target=self._listening.serve_forever, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._listening.shutdown()
        self._listening.server_close()
        self._thread.join()

    def client(self) -> Any:
        import boto3

        return boto3.client("s3", endpoint_url=self.url, region_name="us-east-1")

    def upload(self, folder: Path, prefix: str, acl: str = "private") -> None:
        """Put every file of a folder below a prefix."""
        client = self.client()
        for path in sorted(path for path in folder.rglob("*") if path.is_file()):
            key = f"{prefix}/{path.relative_to(folder).as_posix()}"
            client.put_object(Bucket=BUCKET, Key=key, Body=path.read_bytes(), ACL=acl)

    def fetched(self, part: str = "") -> list[str]:
        """Paths of the objects that were read since `asked` was last cleared."""
        return [path for method, path in self.asked if method == "GET" and part in path and path.count("/") > 1]


@contextmanager
def running() -> Iterator[S3Server]:
    """A server with one empty bucket."""
    server = S3Server()
    server.start()
    try:
        server.client().create_bucket(Bucket=BUCKET)
        yield server
    finally:
        client = server.client()
        for entry in client.list_object_versions(Bucket=BUCKET).get("Versions", []):
            client.delete_object(Bucket=BUCKET, Key=entry["Key"], VersionId=entry["VersionId"])
        client.delete_bucket(Bucket=BUCKET)
        server.stop()
