"""Credentials of private Git repositories: tokens for HTTPS, keys for SSH.

Neither Git nor OpenSSH is needed: DVC clones by dulwich and asyncssh, which are given the credentials in this process.
So no secret is on a command line, in a URL, in an environment or in a second file.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from metseg.errors import UsageError
from metseg.hidden_secrets import remember
from metseg.process_environment import origin

FOLDER_VARIABLE = "METSEG_GIT_CREDENTIALS"
FOLDER = "/etc/metseg/git"
TOKEN, KEY, KNOWN_HOSTS = "token", "ssh-key", "known-hosts"
TOKEN_USER = "x-access-token"
"""User that goes with a token alone; GitHub and GitLab take any, others want the file to name one."""


@dataclass(frozen=True)
class Login:
    """User and token for one host."""

    user: str
    token: str = field(repr=False)


def folder() -> Path:
    """Return the folder of Git's credentials (`METSEG_GIT_CREDENTIALS`, `/etc/metseg/git`).

    Raises:
        UsageError: the variable names no folder.
    """
    given = os.environ.get(FOLDER_VARIABLE, "")
    if given and not Path(given).is_dir():
        raise UsageError(
            f"{FOLDER_VARIABLE}={given}: there is no such folder; expected one with {TOKEN} or {KEY} in it"
        )
    return Path(given or FOLDER)


def login_for(url: str, reference: str) -> Login | None:
    """Return the login for a URL, if the file `token` has one for its host.

    The file holds a token, which is for the reference's host, or lines `https://USER:TOKEN@HOST`, each for its own.

    Args:
        url: of the repository; a token is sent over HTTPS alone.
        reference: URL of the repository that the data reference names.

    Raises:
        UsageError: the file is empty, or a line is not of this form.
    """
    file = folder() / TOKEN
    if urlsplit(url).scheme != "https" or not file.is_file():
        return None
    lines = file.read_text(encoding="utf-8").split()
    if not lines:
        raise UsageError(f"{file}: it is empty; expected a token, or lines https://USER:TOKEN@HOST")
    if len(lines) == 1 and "://" not in lines[0]:
        same = origin(url) == origin(reference)
        return Login(TOKEN_USER, remember(lines[0])) if same else None
    for number, line in enumerate(lines, 1):
        parts = urlsplit(line)
        if parts.scheme != "https" or not parts.password or not parts.hostname:
            raise UsageError(f"{file}, entry {number}: expected https://USER:TOKEN@HOST")
        if origin(line) == origin(url):
            return Login(unquote(parts.username or TOKEN_USER), remember(unquote(parts.password)))
    return None


@contextmanager
def git_access(reference: str) -> Iterator[None]:
    """Let DVC open private repositories within the block.

    Args:
        reference: URL of the repository that the data reference names.

    Raises:
        UsageError: a file of the credentials cannot be used.
    """
    from dulwich import client

    over_http = _http_client(reference)  # importing scmrepo's puts that into dulwich's place; ours goes over it
    before = client.HttpGitClient, client.get_ssh_vendor
    client.HttpGitClient = over_http
    client.get_ssh_vendor = _ssh_vendor(before[1])
    try:
        yield
    finally:
        client.HttpGitClient, client.get_ssh_vendor = before


def _http_client(reference: str) -> Any:
    """Return dulwich's HTTP client, which sends the token to its own host alone."""
    from scmrepo.git.backend.dulwich.client import GitCredentialsHTTPClient

    class TokenClient(GitCredentialsHTTPClient):  # type: ignore[misc]
        def __init__(
            self, base_url: str, username: str | None = None, password: str | None = None, **options: Any
        ) -> None:
            self._login = login_for(base_url, reference)
            if self._login is not None:
                username, password = self._login.user, self._login.token
            super().__init__(base_url, username=username, password=password, **options)

        def _get_auth(self) -> dict[str, str]:
            # A token that is refused is not followed by a question at a terminal.
            return {} if self._login is not None else dict(super()._get_auth())

    return TokenClient


def _ssh_vendor(default: Any) -> Any:
    """Return dulwich's SSH client with the mounted key, if any; unknown hosts are refused."""
    from scmrepo.asyn import sync_wrapper  # type: ignore[attr-defined]
    from scmrepo.git.backend.dulwich.asyncssh_vendor import AsyncSSHVendor, AsyncSSHWrapper, InteractiveSSHClient

    key, known = (file if (file := folder() / name).is_file() else None for name in (KEY, KNOWN_HOSTS))
    if key is not None and known is None:
        raise UsageError(
            f"{key} has no {KNOWN_HOSTS} next to it: put the line of `ssh-keyscan HOST` there, after comparing its "
            "fingerprint with the one that the host publishes"
        )

    class KnownHostsVendor(AsyncSSHVendor):  # type: ignore[misc]
        async def _run_command(
            self,
            host: str,
            command: list[str],
            username: str | None = None,
            port: int | None = None,
            password: str | None = None,
            key_filename: str | None = None,
            **unused: object,
        ) -> AsyncSSHWrapper:
            import asyncssh
            from scmrepo.exceptions import AuthError

            try:
                connection = await asyncssh.connect(
                    host,
                    port=port if port is not None else (),
                    username=username if username is not None else (),
                    client_keys=[str(key)] if key else (),
                    known_hosts=str(known) if known else (),
                    encoding=None,
                    client_factory=InteractiveSSHClient,
                )
                process = await connection.create_process(command, encoding=None)
            except asyncssh.misc.PermissionDenied as error:
                raise AuthError(f"{username}@{host}:{port or 22}") from error
            except asyncssh.misc.HostKeyNotVerifiable as error:
                where = known or "~/.ssh/known_hosts"
                raise OSError(f"{host}:{port or 22} does not show a key that {where} has ({error})") from error
            return AsyncSSHWrapper(connection, process)

        run_command = sync_wrapper(_run_command)

    def vendor() -> Any:
        chosen = default()
        return KnownHostsVendor() if key is not None or isinstance(chosen, AsyncSSHVendor) else chosen

    return vendor
