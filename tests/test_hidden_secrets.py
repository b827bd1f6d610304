"""Secrets of a process in no text that leaves it, whichever way out it takes and however it is written."""

from __future__ import annotations

import json
import logging
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from metseg.doctor.findings import broken, print_report
from metseg.errors import LimitExceeded, MetsegError, UsageError
from metseg.files import write_json
from metseg.hidden_secrets import ADDRESSES, SECRETS, SHORTEST, hidden, login_in, remember
from metseg.process_environment import LOGINS, apply_defaults, prepare
from metseg.settings import Settings
from tests.conftest import ROOT
from tests.privacy_search import found

SECRET = "planted/S3CRET+value"
FORMS = (SECRET, "planted%2FS3CRET%2Bvalue", "planted/S3CRET%2Bvalue")
"""As it is, and as an address may have it."""
NOT_SECRET = {"AWS_ACCESS_KEY_ID", "METSEG_S3_ACCESS_KEY_ID", "S3_ACCESS_KEY_ID", "AWS_WEB_IDENTITY_TOKEN_FILE"} | {
    *("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", "KF_PIPELINES_SA_TOKEN_PATH", "MLFLOW_ALLOW_PICKLE_DESERIALIZATION"),
}
"""Variables that are named like a secret: public halves of keys, and files."""
PLACES = re.compile(r"\b((?:METSEG|MLFLOW|AWS|POSTGRES|MINIO|S3|KF|VIEWER|DATABASE|DOCKER)_[A-Z0-9_]+)\b")


def variables_of_the_code() -> set[str]:
    """Every name of a variable in the code and the manifests."""
    folders = (ROOT / name for name in ("metseg", "components", "pipelines", "infra"))
    files = [path for folder in folders for path in folder.rglob("*") if path.suffix in (".py", ".yaml", ".sh", ".env")]
    files.remove(ROOT / "metseg/child_environment.py")  # parts of names
    return {name for path in files for name in PLACES.findall(path.read_text(encoding="utf-8"))}


def test_every_variable_that_is_named_like_a_secret_is_known():
    named = {name for name in variables_of_the_code() if re.search("PASSWORD|SECRET|TOKEN|_KEYS?(_|$)", name)}
    ours = {name for name in named if not re.search("^MLFLOW_SECRET|_(SECRET|TOKEN)_(NAME|FILE)$", name)}
    assert ours - NOT_SECRET <= set(SECRETS) and len(ours) > 10


def test_every_variable_that_is_named_like_an_address_is_known():
    named = {name for name in variables_of_the_code() if re.search("_(URI|URL|ENDPOINT|DESTINATION)$", name)}
    assert named <= set(ADDRESSES) and len(named) > 8


@pytest.fixture
def bare(monkeypatch, tmp_path) -> None:
    """No secret of this machine, and none of a test is left behind."""
    for name in {*SECRETS, *ADDRESSES, *(place for places in LOGINS.values() for place in places or ())}:
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    monkeypatch.setenv("METSEG_WORKSPACE", str(tmp_path))


@pytest.mark.parametrize("name", SECRETS)
def test_a_variable_that_is_a_secret_is_hidden_in_every_form(bare, monkeypatch, name):
    monkeypatch.setenv(name, SECRET)
    for form in FORMS:
        assert hidden(f"failed: '{form}'.") == "failed: '…'."


WITH_LOGINS = [
    *map("http://me:{}@host:5000/x".format, FORMS),
    *map("postgresql+psycopg2://me:{}@host/runs".format, FORMS),
    f"https://{FORMS[1]}@host",
    f"postgresql://host/runs?user=me&password={FORMS[1]}",
]


@pytest.mark.parametrize("name", ADDRESSES)
@pytest.mark.parametrize("address", WITH_LOGINS)
def test_the_password_of_an_address_is_hidden_apart_from_it(bare, monkeypatch, name, address):
    monkeypatch.setenv(name, address)
    for told in (*FORMS, address):
        assert not any(code in hidden(f"refused {told}") for code in FORMS)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("GET http://me:short@host:5000/ failed", "GET http://…@host:5000/ failed"),
        ("postgresql://me:a%40b@host/x and ftp://tok@h", "postgresql://…@host/x and ftp://…@h"),
        ("git+ssh://git@host.example/r.git@main#data", "git+ssh://git@host.example/r.git@main#data"),
        ("ssh://git:pw@host/r", "ssh://…@host/r"),
        ("git+https://host.example/r.git@main#data", "git+https://host.example/r.git@main#data"),
        ("mail me@host.example about s3://scans/me@home", "mail me@host.example about s3://scans/me@home"),
        ("sqlite:////home/me@work/mlflow.db", "sqlite:////home/me@work/mlflow.db"),
    ],
)
def test_the_login_of_any_address_is_hidden_and_nothing_else(bare, text, expected):
    assert hidden(text) == expected


def test_a_short_value_is_no_secret_outside_of_an_address(bare, monkeypatch):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "s" * (SHORTEST - 1))
    assert hidden("mess" + "s" * (SHORTEST - 1)) == "mess" + "s" * (SHORTEST - 1)


def test_each_of_several_keys_is_hidden(bare, monkeypatch):
    monkeypatch.setenv("METSEG_API_KEYS", "first-key-of-all, second-key-of-all")
    assert hidden("second-key-of-all or first-key-of-all") == "… or …"


# Ways out


def test_messages_records_and_reports_have_no_secret(bare, monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("MLFLOW_BACKEND_STORE_URI", f"postgresql://me:{FORMS[1]}@host/runs")
    for error in (MetsegError(f"at {SECRET}"), UsageError(SECRET), LimitExceeded("x", "y", "z", "w", SECRET)):
        assert SECRET not in str(error) and SECRET not in f"{error}"
    write_json(tmp_path / "x.json", {"of": [SECRET, {"and": FORMS[1]}]})
    assert json.loads((tmp_path / "x.json").read_text()) == {"of": ["…", {"and": "…"}]}
    for as_json in (True, False):
        print_report("title", [broken("what", f"at {SECRET}", FORMS[1])], as_json)
    assert not any(form in capsys.readouterr().out for form in FORMS)


def test_a_secret_from_a_file_is_hidden_too(bare):
    assert hidden(f"{remember('of-a-file-alone')}!") == "…!"


def test_log_lines_have_no_secret_whoever_writes_them(bare, monkeypatch, caplog):
    monkeypatch.setenv("METSEG_API_KEYS", SECRET)
    apply_defaults()
    logger = logging.getLogger("another.library")
    try:
        raise ValueError(SECRET)
    except ValueError:
        logger.exception("failed for %s and %r", SECRET, FORMS[1])
    assert "Traceback" in caplog.text and not any(form in caplog.text for form in FORMS)


END = {
    "process": "raise ValueError(secret)",
    "thread": "import threading; t = threading.Thread(target=lambda: {}[secret]); t.start(); t.join()",
    "step": "from components.step_execution import executing\nwith executing('train', 'out'): raise ValueError(secret)",
    "message": "from components.step_execution import executing\nfrom metseg.errors import DataError\n"
    "with executing('train', 'out'): raise DataError(secret)",
    "command": "import metseg.cli as cli\ncli.app = lambda: {}[secret]\ncli.main()",
}
"""Ways in which a program ends in an error that has a secret in it."""


@pytest.mark.parametrize("end", END)
def test_a_program_that_fails_prints_no_secret(end, tmp_path):
    program = (
        "import os\nfrom metseg.process_environment import apply_defaults\napply_defaults()\n"
        f"secret = os.environ['METSEG_PSEUDONYM_KEY']\n{END[end]}"
    )
    environment = {**os.environ, "METSEG_PSEUDONYM_KEY": SECRET, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment, cwd=tmp_path, capture_output=True, text=True
    )
    told = done.stdout + done.stderr
    assert ("…" in told or "\\u2026" in told) and not any(form in told for form in FORMS), told


# MLflow's address


@pytest.mark.parametrize("name", [name for name, places in LOGINS.items() if places])
@pytest.mark.parametrize("form", FORMS)
def test_the_login_leaves_mlflows_address_for_its_own_variables(bare, monkeypatch, name, form):
    monkeypatch.setenv(name, f"https://me%40home:{form}@mlflow.example:5000/x")
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "another")
    prepare()
    settings = Settings.from_environment()
    assert settings.tracking_uri == os.environ[name] == "https://mlflow.example:5000/x"
    from mlflow.utils.credentials import get_default_host_creds

    login = get_default_host_creds(settings.tracking_uri)
    assert (login.username, login.password) == ("me@home", SECRET)
    kept = {variable for variable, value in os.environ.items() if form in value} - {"PYTEST_CURRENT_TEST"}
    assert SECRET not in repr(settings) and all(variable.endswith("PASSWORD") for variable in kept)


@pytest.mark.parametrize("name", [name for name, places in LOGINS.items() if not places])
def test_the_address_of_a_page_has_no_login(bare, monkeypatch, name):
    monkeypatch.setenv(name, f"https://me:{FORMS[1]}@pages.example/x")
    prepare()
    assert os.environ[name] == "https://pages.example/x"


def test_an_address_without_a_login_stays(bare):
    for address in ("http://host:5000", "sqlite:////home/me/mlflow.db", "postgresql://host/x", "", "databricks"):
        assert login_in(address) is None


METSEG = str(Path(sys.executable).parent / "metseg")
AWAY = (
    f"http://me:{FORMS[1]}@127.0.0.1:9",
    f"http://me:{SECRET}@127.0.0.1:9",
    f"http://{FORMS[1]}@127.0.0.1:9",
    f"no-such-database://me:{FORMS[1]}@127.0.0.1:9/x",
)
COMMANDS = (["models"], ["lineage", "champion"], ["promote", "1"], ["rollback"], ["reconcile", "--once"])


@pytest.mark.parametrize(
    ("command", "name", "address"),
    [
        *((["models"], name, address) for name in LOGINS if LOGINS[name] for address in AWAY),
        *((command, "MLFLOW_TRACKING_URI", AWAY[0]) for command in COMMANDS),
    ],
)
def test_a_command_whose_mlflow_is_away_prints_no_secret(command, name, address, tmp_path):
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("MLFLOW_", "METSEG_"))}
    environment |= {"METSEG_WORKSPACE": str(tmp_path), "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0", name: address}
    done = subprocess.run(
        [METSEG, *command], env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=120
    )
    assert done.returncode != 0 and done.stdout + done.stderr
    assert found(FORMS, [tmp_path], [done.stdout, done.stderr]) == {}
