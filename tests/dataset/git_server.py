"""Git repositories over HTTPS behind a login, and what DVC keeps beside them, served by Git's own back end.

As a program it serves until it is ended: `python -m tests.dataset.git_server ROOT CERTIFICATE KEY USER TOKEN PORT`.
"""

from __future__ import annotations

import base64
import os
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from tests.dataset.certificates import Certificate


class GitServer:
    """What a test says to a server and learns from it.

    Attributes:
        url: address, without a slash at its end.
        logins: what came as `Authorization`, in order; None for a request without one.
        elsewhere: address to which every request is sent on; none where it is empty.
    """

    def __init__(self, root: Path, user: str, token: str) -> None:
        self.root, self.user, self.token = root, user, token
        self.url = self.elsewhere = ""
        self.logins: list[str | None] = []

    def expected(self) -> str:
        return "Basic " + base64.b64encode(f"{self.user}:{self.token}".encode()).decode()


def _handler(server: GitServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *unused: Any) -> None:
            pass

        def do_GET(self) -> None:
            self._answer()

        def do_POST(self) -> None:
            self._answer()

        def _answer(self) -> None:
            body = self._body()
            login = self.headers.get("Authorization")
            server.logins.append(login)
            parts = urlsplit(self.path)
            if server.elsewhere:
                self._send(302, {"Location": server.elsewhere + self.path}, b"")
            elif parts.path.startswith("/dvc/"):  # objects of a DVC remote
                file = server.root / unquote(parts.path).lstrip("/")
                self._send(200, {}, file.read_bytes()) if file.is_file() else self._send(404, {}, b"")
            elif login != server.expected():
                self._send(401, {"WWW-Authenticate": 'Basic realm="git"'}, b"")
            else:
                self._git(parts.path, parts.query, body)

        def _body(self) -> bytes:
            if self.headers.get("Transfer-Encoding") == "chunked":
                chunks = []
                while size := int(self.rfile.readline(), 16):
                    chunks.append(self.rfile.read(size))
                    self.rfile.readline()
                self.rfile.readline()
                return b"".join(chunks)
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))

        def _git(self, path: str, query: str, body: bytes) -> None:
            environment = {
                **os.environ,
                "GIT_PROJECT_ROOT": str(server.root),
                "GIT_HTTP_EXPORT_ALL": "1",
                "GIT_CONFIG_COUNT": "1",
                "GIT_CONFIG_KEY_0": "safe.directory",
                "GIT_CONFIG_VALUE_0": "*",
                "REQUEST_METHOD": self.command,
                "PATH_INFO": unquote(path),
                "QUERY_STRING": query,
                "CONTENT_TYPE": self.headers.get("Content-Type", ""),
                "CONTENT_LENGTH": str(len(body)),
                "REMOTE_USER": server.user,
                "HTTP_CONTENT_ENCODING": self.headers.get("Content-Encoding", ""),
                "GIT_PROTOCOL": self.headers.get("Git-Protocol", ""),
            }
            answer = subprocess.run(
                ["git", "http-backend"], input=body, env=environment, capture_output=True, check=False
            ).stdout
            head, _, content = answer.partition(b"\r\n\r\n")
            headers = dict(line.split(": ", 1) for line in head.decode().split("\r\n") if ": " in line)
            self._send(int(headers.pop("Status", "200").split()[0]), headers, content)

        def _send(self, status: int, headers: dict[str, str], content: bytes) -> None:
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

    return Handler


def _listening(server: GitServer, certificate: Certificate, port: int) -> ThreadingHTTPServer:
    listening = ThreadingHTTPServer(("127.0.0.1", port), _handler(server))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate.certificate, certificate.key)
    listening.socket = context.wrap_socket(listening.socket, server_side=True)
    server.url = f"https://localhost:{listening.server_address[1]}"
    return listening


@contextmanager
def serving(root: Path, certificate: Certificate, user: str, token: str, port: int = 0) -> Iterator[GitServer]:
    """A server of the bare repositories below a folder until the block ends."""
    server = GitServer(root, user, token)
    listening = _listening(server, certificate, port)
    thread = threading.Thread(target=listening.serve_forever, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        listening.shutdown()
        listening.server_close()
        thread.join()


if __name__ == "__main__":
    folder, crt, key, login, secret, given = sys.argv[1:]
    _listening(GitServer(Path(folder), login, secret), Certificate(Path(key), Path(crt)), int(given)).serve_forever()
