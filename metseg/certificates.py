"""Trust one's own certificate authorities in every library of this process."""

from __future__ import annotations

import os
from pathlib import Path

from metseg.errors import UsageError

BUNDLE_VARIABLE = "METSEG_CA_BUNDLE"
BUNDLE = "/etc/metseg/ca"
FILE = "ca.crt"
READERS = ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "AWS_CA_BUNDLE", "GIT_SSL_CAINFO")
"""Read by Python's ssl (aiohttp, DVC's Git), requests (MLflow), boto3, and Git itself."""


def own_authorities() -> Path | None:
    """Return the PEM file of `METSEG_CA_BUNDLE`, `/etc/metseg/ca` by default; None without one.

    Raises:
        UsageError: the variable names a missing file.
    """
    given = os.environ.get(BUNDLE_VARIABLE, "")
    path = Path(given or BUNDLE)
    file = path / FILE if path.is_dir() else path
    if file.is_file():
        return file
    if given:
        raise UsageError(
            f"{BUNDLE_VARIABLE}={given}: there is no such PEM file, and no {FILE} in a folder of that name"
        )
    return None


def trust_own_authorities() -> None:
    """Trust these authorities in this process and its children, in addition to the system's.

    Raises:
        UsageError: the file is no bundle of PEM certificates.
    """
    file = own_authorities()
    if file is None:
        return
    import ssl

    try:
        added = file.read_text(encoding="ascii").strip()
        ssl.create_default_context(cadata=added)
    except (ValueError, ssl.SSLError) as error:
        raise UsageError(f"{file}: no certificates in PEM are there ({error}); {BUNDLE_VARIABLE} names it") from error
    bundles = dict.fromkeys(os.environ[name] for name in READERS if os.environ.get(name))
    trusted = [text for path in bundles or _system() if (text := _read(Path(path)))]
    if trusted and all(added in text for text in trusted) and all(os.environ.get(name) for name in READERS):
        return
    combined = _private_file("\n".join([*trusted, added]) + "\n")
    for name in READERS:
        os.environ[name] = str(combined)


def _system() -> list[str]:
    """Return the bundle that Python trusts, else the one that requests brings."""
    import ssl

    bundle = ssl.get_default_verify_paths().cafile
    if bundle is None:
        import certifi

        bundle = certifi.where()
    return [bundle]


def _read(path: Path) -> str:
    return path.read_text(encoding="utf-8").strip() if path.is_file() else ""


def _private_file(text: str) -> Path:
    import atexit
    import shutil
    import tempfile

    folder, maker = Path(tempfile.mkdtemp(prefix="metseg-ca-")), os.getpid()

    def remove() -> None:
        if os.getpid() == maker:  # a forked child leaves it to its parent
            shutil.rmtree(folder, ignore_errors=True)

    atexit.register(remove)
    (folder / FILE).write_text(text, encoding="utf-8")
    return folder / FILE
