"""The token that Kubeflow Pipelines asks for: where it comes from, and whether its time is over."""

from __future__ import annotations

import base64
import json
import os
import time
from dataclasses import dataclass
from pathlib import Path

from metseg.errors import UsageError

VARIABLE = "METSEG_KUBEFLOW_TOKEN"
FILE_VARIABLE = "KF_PIPELINES_SA_TOKEN_PATH"
IN_CLUSTER = Path("/var/run/secrets/kubeflow/pipelines/token")
REMEDY = (
    "kubectl create token SERVICE_ACCOUNT -n NAMESPACE --audience=pipelines.kubeflow.org > token, "
    "then --token-file token"
)


@dataclass(frozen=True)
class TokenSource:
    """A file that holds the token, or the token itself; a file is read anew, for tokens are renewed in place."""

    file: Path | None = None
    text: str = ""

    @classmethod
    def find(cls, given: Path | None) -> TokenSource:
        """The file that was given, else the variables' token or file, else the one in a pod; none at all is allowed.

        Raises:
            UsageError: the file is not there, or holds nothing.
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
        """The token now; empty where there is none."""
        if self.file is None:
            return self.text
        try:
            text = self.file.read_text(encoding="utf-8").strip()
        except OSError as error:
            raise UsageError(f"token file {self.file} cannot be read ({error.strerror}): {REMEDY}") from error
        if not text:
            raise UsageError(f"token file {self.file} is empty: {REMEDY}")
        return text


def expired_since(token: str) -> float | None:
    """Seconds since a JSON Web Token ended (RFC 7519, 4.1.4); None where it has not, or does not say."""
    parts = token.split(".")
    if len(parts) != 3:
        return None
    try:
        payload = json.loads(base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)))
        ends = float(payload["exp"])
    except (ValueError, KeyError, TypeError):
        return None
    since = time.time() - ends
    return since if since > 0 else None
