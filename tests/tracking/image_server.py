"""A registry of container images that answers what is asked of it, by the OCI distribution specification.

It holds `metseg/train:1`, and gives manifests to those alone who bring the token that it gives to anybody, but none for
repositories below `private/`.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

MANIFEST = "/v2/metseg/train/manifests/1"


@dataclass(frozen=True)
class ImageServer:
    """Where it listens, and the paths of the requests that it got."""

    host: str
    requests: list[str] = field(default_factory=list)

    @property
    def image(self) -> str:
        """Name of the image that it holds."""
        return f"{self.host}/metseg/train:1"


class _Handler(BaseHTTPRequestHandler):
    requests: list[str]

    def do_GET(self) -> None:
        self.requests.append(self.path)
        body = json.dumps({"token": "given-to-anybody"}).encode()
        self.send_response(200)
        self.end_headers()
        self.wfile.write(body)

    def do_HEAD(self) -> None:
        self.requests.append(self.path)
        if self.headers.get("Authorization") != "Bearer given-to-anybody" or self.path.startswith("/v2/private/"):
            self.send_response(401)
            realm = f"http://{self.headers['Host']}/token"
            self.send_header("WWW-Authenticate", f'Bearer realm="{realm}",service="test",scope="repository:pull"')
        elif "oci.image.manifest" not in self.headers.get("Accept", ""):
            self.send_response(406)
        else:
            self.send_response(200 if self.path == MANIFEST else 404)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextmanager
def running() -> Iterator[ImageServer]:
    """The server, on a free port of this machine."""
    requests: list[str] = []
    with ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"requests": requests})) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield ImageServer(f"127.0.0.1:{server.server_port}", requests)
        server.shutdown()
