"""Token for Kubeflow Pipelines: its source and its expiry."""

from __future__ import annotations

import base64
import os
import time
from dataclasses import dataclass
from pathlib import Path

from metseg.errors import UsageError
from metseg.files import parse_json
from metseg.hidden_secrets import remember

VARIABLE = "METSEG_KUBEFLOW_TOKEN"
FILE_VARIABLE = "KF_PIPELINES_SA_TOKEN_PATH"
IN_CLUSTER = Path("/var/run/secrets/kubeflow/pipelines/token")
REMEDY = (
    "kubectl create token SERVICE_ACCOUNT -n NAMESPACE --audience=pipelines.kubeflow.org > token, "
    "then --token-file token"
)


@dataclass(frozen=True)
class TokenSource:
    """The token, or its file.

    The file is read at each use, because tokens are renewed in place.
    """

    file: Path | None = None
    text: str = ""

    @classmethod
    def find(cls, given: Path | None) -> TokenSource:
        """Return the first source of a token.

        The order is: given file, file or token of a variable, file in a pod, none.

        Raises:
            UsageError: the file is missing or empty.
        """
        named = given or (Path(path) if (path := os.environ.get(FILE_VARIABLE)) else None)
        if named is not None:
            source = cls(file=named)
            source.read()
            return source
        if text := os.environ.get(VARIABLE, "").strip():
            return cls(text=text)
        return cls(file=IN_CLUSTER) if IN_CLUSTER.is_file() else cls()

    def read(self) -> str:
        """Return the current token; empty if there is none."""
        if self.file is None:
            return self.text
        try:
            text = self.file.read_text(encoding="utf-8").strip()
        except OSError as error:
            raise UsageError(f"token file {self.file} cannot be read ({error.strerror}): {REMEDY}") from error
        if not text:
            raise UsageError(f"token file {self.file} is empty: {REMEDY}")
        return remember(text)


def expired_since(token: str) -> float | None:
    """Return the seconds since a JSON Web Token expired (RFC 7519, 4.1.4); None if it has not."""
    parts = token.split(".")
    if len(parts) != 3:
        return None
    try:
        payload = parse_json(base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)))
        ends = float(payload["exp"])
    except (ValueError, KeyError, TypeError, OverflowError):
        return None
    since = time.time() - ends
    return since if since > 0 else None
