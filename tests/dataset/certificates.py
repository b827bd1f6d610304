"""Authorities and certificates for servers on loopback, made by openssl."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Certificate:
    """PEM files of a key and its certificate."""

    key: Path
    certificate: Path


def authority(folder: Path, name: str = "A Hospital's Own Authority") -> Certificate:
    """A CA that nobody knows."""
    made = Certificate(folder / "ca.key", folder / "ca.crt")
    _openssl("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", f"/CN={name}",
             "-addext", "basicConstraints=critical,CA:TRUE", "-keyout", made.key, "-out", made.certificate)  # fmt: skip
    return made


def issue(folder: Path, by: Certificate, names: str = "DNS:localhost,IP:127.0.0.1") -> Certificate:
    """A server's certificate."""
    made, request, extensions = Certificate(folder / "server.key", folder / "server.crt"), folder / "r", folder / "e"
    extensions.write_text(f"subjectAltName={names}\n")
    _openssl("req", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=server", "-keyout", made.key, "-out", request)
    _openssl("x509", "-req", "-in", request, "-CA", by.certificate, "-CAkey", by.key, "-CAcreateserial", "-days", "1",
             "-extfile", extensions, "-out", made.certificate)  # fmt: skip
    return made


def _openssl(*arguments: object) -> None:
    subprocess.run(["openssl", *map(str, arguments)], check=True, capture_output=True)
