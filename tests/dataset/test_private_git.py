"""Data under DVC in a private Git repository: over HTTPS with a token, behind a private CA, or by SSH with a key."""

from __future__ import annotations

import os
import shutil
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from metseg.certificates import READERS
from metseg.dataset.data_cache import DataCache
from metseg.dataset.data_version import HashTable, data_version
from metseg.dataset.references import Pinned, resolve
from metseg.dataset.references.git_credentials import login_for
from metseg.errors import DataError, UsageError
from metseg.process_environment import prepare
from tests.conftest import ROOT
from tests.dataset.certificates import Certificate, authority, issue
from tests.dataset.cohorts import brats_cohort
from tests.dataset.git_server import GitServer, serving
from tests.serving.ports import free_port

TOKEN = "glpat-4f2c9a71"


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> tuple[Certificate, Certificate]:
    folder = tmp_path_factory.mktemp("certificates")
    own = authority(folder)
    return own, issue(folder, own)


@pytest.fixture
def credentials(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The mounted folder, empty; and libraries that trust the system's authorities alone."""
    folder = tmp_path / "git-credentials"
    folder.mkdir()
    monkeypatch.setenv("METSEG_GIT_CREDENTIALS", str(folder))
    monkeypatch.setenv("GIT_TERMINAL_PROMPT", "0")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for name in (*READERS, "METSEG_CA_BUNDLE", "SSL_CERT_DIR", "HTTPS_PROXY", "https_proxy"):
        monkeypatch.setenv(name, "")  # so that what the door sets is taken back
        monkeypatch.delenv(name)
    return folder


@pytest.fixture
def bare(tmp_path: Path, dvc_environment: None) -> tuple[Path, str]:
    """Folder of a bare repository `cohort.git` with its DVC objects beside it, and the version of its data."""
    work, root = tmp_path / "work", tmp_path / "srv"
    (root / "dvc").mkdir(parents=True)
    brats_cohort(work / "data", 3)
    dvc = (sys.executable, "-m", "dvc")
    for words in (
        ("git", "init", "-q"),
        (*dvc, "init", "-q"),
        (*dvc, "remote", "add", "-q", "-d", "store", str(root / "dvc")),
        (*dvc, "add", "-q", "data"),
        (*dvc, "push", "-q"),
    ):
        subprocess.run(words, cwd=work, check=True, capture_output=True, timeout=120)
    return root, data_version(work / "data")


def publish(tmp_path: Path, remote: str) -> None:
    """Name the DVC remote as others reach it, commit, and make the bare repository."""
    work = tmp_path / "work"
    for words in (
        (sys.executable, "-m", "dvc", "remote", "modify", "store", "url", remote),
        ("git", "add", "-A"),
        ("git", "commit", "-qm", "Three patients"),
        ("git", "clone", "-q", "--bare", ".", str(tmp_path / "srv" / "cohort.git")),
    ):
        subprocess.run(words, cwd=work, check=True, capture_output=True, timeout=120)


@pytest.fixture
def server(
    tmp_path: Path, bare: tuple[Path, str], certificates: tuple[Certificate, Certificate], credentials: Path
) -> Iterator[GitServer]:
    with serving(bare[0], certificates[1], "x-access-token", TOKEN) as running:
        publish(tmp_path, f"{running.url}/dvc")
        yield running


def resolved(reference: str, root: Path) -> Pinned:
    cache = DataCache(root)
    with HashTable(cache.hashes) as table:
        return resolve(reference, cache, table)


def trust(certificates: tuple[Certificate, Certificate], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("METSEG_CA_BUNDLE", str(certificates[0].certificate.parent))
    prepare()
    # aiohttp makes its context at import, in a process of ours after `prepare`; an earlier test may have imported it.
    monkeypatch.setattr("aiohttp.connector._SSL_CONTEXT_VERIFIED", ssl.create_default_context())


def test_token_opens_a_repository_behind_a_private_authority(
    tmp_path, bare, server, credentials, certificates, monkeypatch
):
    (credentials / "token").write_text(f"{TOKEN}\n")
    reference = f"git+{server.url}/cohort.git@main#data"
    with pytest.raises(DataError, match=r"(?i)certificate"):
        resolved(reference, tmp_path / "cache")
    trust(certificates, monkeypatch)
    found = resolved(reference, tmp_path / "cache")
    assert found.version == bare[1] and len(found.commit) == 40
    assert found.resolved == f"git+{server.url}/cohort.git@{found.commit}#data"
    assert server.expected() in server.logins
    assert TOKEN not in found.resolved and not [name for name, value in os.environ.items() if TOKEN in value]


@pytest.mark.parametrize("token", ["", "wrong"])
def test_without_the_token_the_repository_is_refused_with_the_remedy(
    tmp_path, server, credentials, certificates, monkeypatch, token
):
    if token:
        (credentials / "token").write_text(token)
    trust(certificates, monkeypatch)
    with pytest.raises(DataError, match="credentials it needs") as refused:
        resolved(f"git+{server.url}/cohort.git@main#data", tmp_path / "cache")
    assert "wrong" not in str(refused.value)


def test_token_goes_to_its_own_host_alone(tmp_path, bare, server, credentials, certificates, monkeypatch):
    (credentials / "token").write_text(TOKEN)
    trust(certificates, monkeypatch)
    with serving(bare[0], certificates[1], "x-access-token", "another") as stranger:
        server.elsewhere = stranger.url
        with pytest.raises(DataError):
            resolved(f"git+{server.url}/cohort.git@main#data", tmp_path / "cache")
        assert stranger.logins and set(stranger.logins) == {None}
    (credentials / "token").write_text(f"https://x-access-token:{TOKEN}@git.example.org\n")
    server.elsewhere = ""
    server.logins.clear()
    with pytest.raises(DataError):
        resolved(f"git+{server.url}/cohort.git@main#data", tmp_path / "cache")
    assert server.logins and set(server.logins) == {None}


def test_file_of_several_hosts_has_a_login_for_each(credentials):
    (credentials / "token").write_text("https://a:1@one.example.org\nhttps://deploy:2%2F@two.example.org:8443\n")
    here = "https://one.example.org/r.git"
    assert (login_for(here, here).user, login_for(here, here).token) == ("a", "1")
    two = login_for("https://two.example.org:8443/r.git", here)
    assert (two.user, two.token) == ("deploy", "2/")
    assert login_for("https://two.example.org/r.git", here) is None
    assert login_for("http://one.example.org/r.git", here) is None, "never without TLS"
    assert "2/" not in repr(two)
    (credentials / "token").write_text("just-a-token")
    assert login_for(here, here).user == "x-access-token"
    assert login_for("https://other.example.org/r.git", here) is None
    for wrong in ("", "two words", "https://no-token@host"):
        (credentials / "token").write_text(wrong)
        with pytest.raises(UsageError, match="token"):
            login_for(here, here)


def test_folder_that_is_not_there_is_told(monkeypatch, tmp_path):
    monkeypatch.setenv("METSEG_GIT_CREDENTIALS", str(tmp_path / "nowhere"))
    with pytest.raises(UsageError, match="no such folder"):
        login_for("https://h/r", "https://h/r")


# SSH


@pytest.fixture
def secure_shell(tmp_path: Path, bare: tuple[Path, str], credentials: Path) -> Iterator[str]:
    """OpenSSH's server on loopback that takes one key; gives the URL of what is below its root."""
    sshd = shutil.which("sshd") or ("/usr/sbin/sshd" if Path("/usr/sbin/sshd").exists() else None)
    if sshd is None:
        pytest.skip("NOT TESTED by SSH: no sshd here (apt-get install openssh-server)")
    folder = tmp_path / "sshd"
    folder.mkdir()
    for name in ("host", "user", "other"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / name)], check=True)
    (folder / "authorized").write_text((folder / "user.pub").read_text())
    port = free_port()
    options = {
        "Port": port, "ListenAddress": "127.0.0.1", "HostKey": folder / "host", "PidFile": folder / "pid",
        "AuthorizedKeysFile": folder / "authorized", "StrictModes": "no", "UsePAM": "no",
        "PasswordAuthentication": "no", "PermitRootLogin": "prohibit-password",
    }  # fmt: skip
    (folder / "config").write_text("".join(f"{name} {value}\n" for name, value in options.items()))
    Path("/run/sshd").mkdir(exist_ok=True)
    process = subprocess.Popen([sshd, "-D", "-e", "-f", str(folder / "config")], stderr=subprocess.DEVNULL)
    (credentials / "ssh-key").write_text((folder / "user").read_text())
    (credentials / "ssh-key").chmod(0o644)  # as a Secret's volume may give it
    host = " ".join((folder / "host.pub").read_text().split()[:2])
    (credentials / "known-hosts").write_text(f"[127.0.0.1]:{port} {host}\n")
    time.sleep(1)
    assert process.poll() is None
    user = subprocess.run(["id", "-un"], capture_output=True, text=True, check=True).stdout.strip()
    try:
        publish(tmp_path, str(bare[0] / "dvc"))
        yield f"ssh://{user}@127.0.0.1:{port}{bare[0]}"
    finally:
        process.terminate()
        process.wait(10)


def test_key_opens_a_repository_and_an_unknown_host_is_refused(tmp_path, bare, secure_shell, credentials):
    reference = f"git+{secure_shell}/cohort.git@main#data"
    assert resolved(reference, tmp_path / "cache").version == bare[1]
    known = (credentials / "known-hosts").read_text()
    other = " ".join((tmp_path / "sshd" / "other.pub").read_text().split()[:2])
    (credentials / "known-hosts").write_text(f"{known.split()[0]} {other}\n")
    with pytest.raises(DataError, match="known-hosts"):
        resolved(reference, tmp_path / "fresh")
    (credentials / "known-hosts").unlink()
    with pytest.raises(UsageError, match="ssh-keyscan"):
        resolved(reference, tmp_path / "fresh")


def test_key_that_is_not_taken_is_told(tmp_path, secure_shell, credentials):
    (credentials / "ssh-key").write_text((tmp_path / "sshd" / "other").read_text())
    with pytest.raises(DataError, match="credentials it needs"):
        resolved(f"git+{secure_shell}/cohort.git@main#data", tmp_path / "cache")


def test_credentials_of_a_pod_are_found_where_they_are_mounted():
    from metseg.dataset.references.git_credentials import FOLDER, KEY, KNOWN_HOSTS
    from metseg.dataset.references.git_credentials import TOKEN as FILE

    assert (FOLDER, FILE, KEY, KNOWN_HOSTS) == ("/etc/metseg/git", "token", "ssh-key", "known-hosts")
    assert (ROOT / "docs/versions.md").read_text().count("known-hosts") >= 1


def test_git_host_and_remote_that_are_away_are_waited_for_where_nobody_looks_on(
    tmp_path, bare, certificates, credentials, monkeypatch
):
    """Both come back, the remote after the host."""
    (credentials / "token").write_text(TOKEN)
    trust(certificates, monkeypatch)
    git, dvc = free_port(), free_port()
    publish(tmp_path, f"https://localhost:{dvc}/dvc")
    reference = f"git+https://localhost:{git}/cohort.git@main#data"
    began = time.monotonic()
    with pytest.raises(DataError, match="refused"):
        resolved(reference, tmp_path / "cache")
    assert time.monotonic() - began < 5, "a person is told at once"
    monkeypatch.setenv("METSEG_PATIENCE_SECONDS", "120")
    with ExitStack() as servers:

        def start(port: int) -> None:
            servers.enter_context(serving(bare[0], certificates[1], "x-access-token", TOKEN, port))

        later = [threading.Timer(seconds, start, (port,)) for seconds, port in ((3, git), (12, dvc))]
        for timer in later:
            timer.start()
        try:
            assert resolved(reference, tmp_path / "cache").version == bare[1]
        finally:
            for timer in later:
                timer.join()


@pytest.mark.parametrize("what", ["token", "host"])
def test_what_no_patience_mends_at_a_git_host_fails_at_once(
    tmp_path, server, certificates, credentials, monkeypatch, what
):
    (credentials / "token").write_text("wrong" if what == "token" else TOKEN)
    trust(certificates, monkeypatch)
    monkeypatch.setenv("METSEG_PATIENCE_SECONDS", "120")
    url = server.url if what == "token" else "https://no-such-host.invalid"
    began = time.monotonic()
    with pytest.raises(DataError, match="Check the repository's URL"):
        resolved(f"git+{url}/cohort.git@main#data", tmp_path / "cache")
    assert time.monotonic() - began < 20
