"""Pseudonyms that replace patients' names, numbers and UIDs in all outputs."""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import logging
import os
import secrets
import stat
import uuid
from dataclasses import dataclass, field
from pathlib import Path

from metseg.errors import UsageError
from metseg.file_access import require_writable
from metseg.settings import Settings

logger = logging.getLogger(__name__)

KEY_VARIABLE = "METSEG_PSEUDONYM_KEY"
EVERYWHERE_VARIABLE = "METSEG_PSEUDONYMS"
KEY_FILE = "pseudonym.key"
SHORT_KEY = 16
KUBEFLOW_VARIABLE = "METSEG_KUBEFLOW_RUN"
SECRET = (
    "openssl rand -hex 32 | kubectl -n NAMESPACE create secret generic metseg-pseudonyms --from-file=key=/dev/stdin"
)
"""Makes the Secret that Kubeflow's steps take the key from, in the namespace of the runs."""
STANDARD_UID = "1.2.840.10008."
"""Root of the UIDs that the DICOM standard itself gives out: SOP classes, transfer syntaxes. These are public."""


@dataclass(frozen=True)
class Pseudonyms:
    """Pseudonyms by HMAC-SHA256, which can be neither computed nor undone without the key.

    Attributes:
        key: the secret.
    """

    key: bytes = field(repr=False)

    @classmethod
    def from_environment(cls, settings: Settings | None = None) -> Pseudonyms:
        """Return pseudonyms under `METSEG_PSEUDONYM_KEY`, or under a random key kept in the state folder.

        Raises:
            UsageError: other users of the machine may read the key's file, or the key is blank; or there is no key on
                Kubeflow, where one that is made would be gone with the pod, and the patients' names and split with it.
        """
        if given := _given_key():
            if len(given) < SHORT_KEY:
                logger.warning("%s is shorter than %d characters: it can be guessed", KEY_VARIABLE, SHORT_KEY)
            return cls(given)
        if os.environ.get(KUBEFLOW_VARIABLE):
            raise UsageError(
                f"{KEY_VARIABLE} is not set, and a pod keeps no key: the same patients would get other names and "
                f"another split in the next run. Make the Secret once, and keep a copy of the key: {SECRET}"
            )
        return cls(_kept_key((settings or Settings.from_environment()).state / KEY_FILE))

    def patient(self, identifier: str, issuer: str = "") -> str:
        """Return a patient's pseudonym: `P` and 16 hexadecimal digits, from number and issuer."""
        return "P" + self._digest("patient", identifier.strip(), issuer.strip())[:16]

    def uid(self, uid: str) -> str:
        """Return a UID under `2.25.` that replaces `uid`; UIDs of the DICOM standard itself stay."""
        if not uid or uid.startswith(STANDARD_UID):
            return uid
        # PS3.5 B.2: a UUID as one decimal number. 122 of its bits are ours, the rest mark it as one.
        return f"2.25.{uuid.UUID(self._digest('uid', uid)[:32], version=4).int}"

    def handle(self, kind: str, name: str) -> str:
        """Return a name for messages: `kind` and 12 hexadecimal digits, such as `file-1c9b0d6e55aa`."""
        return f"{kind}-{self._digest(kind, name)[:12]}"

    def _digest(self, purpose: str, *parts: str) -> str:
        return hmac.new(self.key, "\0".join((purpose, *parts)).encode(), hashlib.sha256).hexdigest()


def pseudonyms_everywhere() -> bool:
    """Return whether `METSEG_PSEUDONYMS` extends pseudonyms to every layout, not DICOM alone.

    Raises:
        UsageError: it is neither on nor off.
    """
    value = os.environ.get(EVERYWHERE_VARIABLE, "off").strip().lower()
    if value in ("on", "1", "true"):
        return True
    if value in ("off", "0", "false", ""):
        return False
    raise UsageError(f"{EVERYWHERE_VARIABLE}={value}: expected on or off.")


def naming(settings: Settings | None = None) -> str:
    """Return a digest of the key and the switch that names depend on: 16 hexadecimal digits.

    Before a key was ever needed there is none, and none is made.
    """
    path = (settings or Settings.from_environment()).state / KEY_FILE
    key = _given_key() or (_read_key(path) if path.exists() else b"")
    return hashlib.sha256(b"naming\0" + key + bytes([pseudonyms_everywhere()])).hexdigest()[:16]


def _given_key() -> bytes:
    """Return the key in the environment; empty if there is none.

    The newline that `echo` gives a Secret is no part of it.
    """
    given = os.environ.get(KEY_VARIABLE, "")
    if given and not given.strip():
        raise UsageError(f"{KEY_VARIABLE} is blank. Set it to the key for pseudonyms, or unset it.")
    return given.strip().encode()


def _kept_key(path: Path) -> bytes:
    """Return the key in the file `path`, generated if missing."""
    require_writable(path)
    if not path.exists():
        _make_key(path)
    if stat.S_IMODE(path.stat().st_mode) & 0o077:
        raise UsageError(f"{path}: others may read the key for pseudonyms. Type `chmod 600 {path}`.")
    key = _read_key(path)
    if not key:
        raise UsageError(f"{path}: the key for pseudonyms is empty. Restore it, or remove the file to make a new one.")
    return key


def _read_key(path: Path) -> bytes:
    return path.read_text(encoding="utf-8").strip().encode()


def _make_key(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    with os.fdopen(os.open(beside, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "w") as file:
        file.write(secrets.token_hex(32) + "\n")
    # A link fails where another process was first: both then read the one key that is there.
    with contextlib.suppress(FileExistsError):
        os.link(beside, path)
        # A warning is visible without a configured log: losing the key loses the names.
        logger.warning("%s is not set: a random key for pseudonyms was made in %s; keep it", KEY_VARIABLE, path)
    beside.unlink()
