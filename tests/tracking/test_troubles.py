"""Each trouble with MLflow ends each command with one message, which names cause and remedy, within seconds.

A new trouble is a row: what is made, the address that leads there, and the words that must be said.
"""

from __future__ import annotations

import os
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

import mlflow
import pytest

from metseg import cli
from metseg.tracking import mlflow_store
from tests.conftest import ROOT
from tests.infra import postgres
from tests.mlflow_store import fresh_store
from tests.serving.ports import free_port
from tests.tracking.conftest import NAMED

SECONDS = 15.0
SECRET = "planted-8c1f"
Made = Callable[[Path, ExitStack], str]
"""Makes a trouble in a folder, for as long as the stack is open; gives the address of MLflow."""


def with_version(statement: str) -> Made:
    """A database of MLflow in which something was changed."""

    def made(folder: Path, stack: ExitStack) -> str:
        uri = fresh_store(folder)
        with closing(sqlite3.connect(folder / "mlflow.db")) as database, database:
            database.execute(statement)
        return uri

    return made


def locked(folder: Path, stack: ExitStack) -> str:
    uri = fresh_store(folder)
    holder = stack.enter_context(closing(sqlite3.connect(folder / "mlflow.db", isolation_level=None)))
    holder.execute("BEGIN EXCLUSIVE")
    return uri


def another_file(folder: Path, stack: ExitStack) -> str:
    (folder / "notes.txt").write_text("not a database, but long enough to be taken for one\n" * 100)
    return f"sqlite:///{folder}/notes.txt"


def damaged(folder: Path, stack: ExitStack) -> str:
    uri = fresh_store(folder)
    content = (folder / "mlflow.db").read_bytes()
    (folder / "mlflow.db").write_bytes(content[:4096] + b"\xff" * (len(content) - 4096))
    return uri


def deaf(folder: Path, stack: ExitStack) -> str:
    """A server that accepts and never answers."""
    listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
    return f"http://127.0.0.1:{listener.getsockname()[1]}"


def always(text: str) -> Made:
    return lambda folder, stack: text.format(folder=folder, port=free_port())


POSTGRES = f"postgresql+psycopg2://mlflow:{SECRET}@127.0.0.1:{{port}}/mlflow"
TROUBLES: dict[str, tuple[Made, tuple[str, ...]]] = {
    "locked": (locked, ("mlflow.db is locked by another process", "fuser")),
    "older schema": (
        with_version("UPDATE alembic_version SET version_num = '451aebb31d03'"),
        ("an older MLflow", "make a backup", "`mlflow db upgrade sqlite:///"),
    ),
    "newer schema": (
        with_version("UPDATE alembic_version SET version_num = 'ffffffffffff'"),
        ("a newer MLflow", "use the metseg that it belongs to"),
    ),
    "half made": (with_version("DELETE FROM alembic_version"), ("its making was cut off", "begin a new registry")),
    "another file": (another_file, ("is another kind of file", "MLFLOW_TRACKING_URI")),
    "damaged": (damaged, ("is damaged", "backup")),
    "file store": (always("file://{folder}/mlruns"), ("no runs in folders of files", "migrate-filestore")),
    "folder": (always("./mlruns"), ("no runs in folders of files", "sqlite:////FOLDER/mlflow.db")),
    "no scheme": (always("127.0.0.1:5000"), ("begins with http:// or https://", "http://127.0.0.1:5000")),
    "no scheme, a name": (always("localhost:5000"), ("begins with http:// or https://", "http://localhost:5000")),
    "unknown scheme": (always("databricks://x"), ("expected http://HOST:PORT",)),
    "in memory": (always("sqlite://"), ("expected a file",)),
    "mistyped file": (always("sqlite:///{folder}/no/where.db"), ("there is no database", "`touch ")),
    "database down": (always(POSTGRES), ("postgresql+psycopg2://127.0.0.1", "does not respond", "start it")),
    "server down": (always(f"http://me:{SECRET}@127.0.0.1:{{port}}"), ("does not respond", "start it")),
    "deaf server": (deaf, ("does not respond (no response in time)", "start it")),
}
COMMANDS = {
    "models": ("models",),
    "lineage": ("lineage", "1"),
    "promote": ("promote", "1"),
    "rollback": ("rollback",),
    "reconcile": ("reconcile", "--once"),
    "run": ("run", "--data", "scans"),
    "tune": ("tune", "--data", "scans", "--trials", "1"),
}


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in NAMED:
        monkeypatch.delenv(name, raising=False)
    fresh_store(tmp_path / "warm")  # what is imported at first use is not waited for
    folder = tmp_path / "workspace"
    (folder / "scans").mkdir(parents=True)
    monkeypatch.chdir(folder)
    monkeypatch.setenv("METSEG_WORKSPACE", str(folder))
    return folder


@pytest.fixture
def metseg(monkeypatch, capsys, caplog) -> Callable[..., tuple[int, str]]:
    """Exit code of a command, and all that it said; an error that it does not explain fails the test."""

    def call(*arguments: str) -> tuple[int, str]:
        caplog.clear()
        monkeypatch.setattr(sys, "argv", ["metseg", *arguments])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        shown = capsys.readouterr()
        return int(ended.value.code or 0), shown.out + shown.err + caplog.text

    return call


@pytest.mark.parametrize("command", COMMANDS.values(), ids=COMMANDS.keys())
@pytest.mark.parametrize("trouble", TROUBLES.values(), ids=TROUBLES.keys())
def test_each_trouble_ends_each_command_with_cause_and_remedy(
    trouble: tuple[Made, tuple[str, ...]], command, workspace, tmp_path, monkeypatch, metseg
):
    make, words = trouble
    with ExitStack() as stack:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", make(tmp_path, stack))
        began = time.monotonic()
        code, said = metseg(*command)
        seconds = time.monotonic() - began
    assert code in (1, 2) and all(word in said for word in words), said
    assert "Traceback" not in said and SECRET not in said
    assert seconds < SECONDS
    assert not (tmp_path / "no").exists(), "a mistyped path makes nothing"


OWN = {"MLFLOW_EXPERIMENT_NAME": "study"}


@pytest.mark.parametrize(
    ("name", "environment", "options"),
    [("metseg", {}, ()), ("study", OWN, ()), ("mine", OWN, ("--param", "run_experiment=mine")),
     ("metseg", {**OWN, "MLFLOW_TRACKING_URI": "http://kubeflows"}, ())],
    ids=["default", "variable", "parameter", "variable of another MLflow"],
)  # fmt: skip
@pytest.mark.parametrize("command", [COMMANDS["run"], COMMANDS["tune"]], ids=["run", "tune"])
def test_a_deleted_experiment_is_named_with_the_command_that_restores_it(
    workspace, tmp_path, monkeypatch, metseg, command, name, environment, options
):
    uri = fresh_store(tmp_path)
    client = mlflow.MlflowClient(uri)
    identity = client.create_experiment(name)
    client.delete_experiment(identity)
    for variable, value in {"MLFLOW_TRACKING_URI": uri, **environment}.items():
        monkeypatch.setenv(variable, value)
    monkeypatch.setenv("METSEG_MLFLOW_TRACKING_URI", uri)
    code, said = metseg(*command, *options)
    assert code == 1 and f"the experiment {name} was deleted" in said
    assert f"`mlflow experiments restore --experiment-id {identity}`" in said


def test_a_database_that_refuses_is_not_called_away(workspace, monkeypatch, metseg):
    with postgres.running("right") as server:
        for uri, words in (
            (server.uri(SECRET), ("refuses the login", "MLFLOW_TRACKING_URI")),
            (server.uri("right", "other"), ("is not there", "create it on the server")),
            (server.uri("right"), ("the registry holds no model",)),
        ):
            monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
            code, said = metseg("models")
            assert code == 1 and all(word in said for word in words) and SECRET not in said, said
        server.sql("UPDATE alembic_version SET version_num = '451aebb31d03'")
        assert "`mlflow db upgrade postgresql+psycopg2://127.0.0.1" in metseg("models")[1]


def test_the_workspaces_own_registry_is_made_at_first_use(workspace, monkeypatch, metseg):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    code, said = metseg("models")
    assert code == 1 and "the registry holds no model" in said and (workspace / "var/mlflow.db").is_file()


def test_an_empty_file_begins_a_registry_elsewhere(workspace, tmp_path, monkeypatch, metseg):
    (tmp_path / "theirs.db").touch()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/theirs.db")
    code, said = metseg("models")
    assert code == 1 and "the registry holds no model" in said and (tmp_path / "theirs.db").stat().st_size > 0


def test_a_short_lock_is_waited_for(workspace, tmp_path, monkeypatch, metseg):
    code = f"""
import sqlite3, time
holder = sqlite3.connect({str(tmp_path / "mlflow.db")!r}, isolation_level=None)
holder.execute("BEGIN EXCLUSIVE"); print("locked", flush=True); time.sleep(2)
"""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", fresh_store(tmp_path))
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None and holder.stdout.readline() == "locked\n"
        _, said = metseg("models")
    assert "the registry holds no model" in said


def test_readers_read_while_another_process_writes(workspace, tmp_path, monkeypatch, metseg):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", fresh_store(tmp_path))
    metseg("models")
    with closing(sqlite3.connect(tmp_path / "mlflow.db", isolation_level=None)) as writer:
        assert writer.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        writer.execute("BEGIN IMMEDIATE")
        assert "the registry holds no model" in metseg("models")[1]


# As three users' first commands: two open runs, one lists.
FIRST = """
from metseg.settings import Settings
from metseg.tracking import mlflow_runs, model_registry
settings = Settings.from_environment()
tracking = mlflow_runs.client(settings)
run = mlflow_runs.start_run(tracking, settings, "first", {"a": 1}, {})
mlflow_runs.finish(tracking, run)
assert model_registry.versions(tracking, "nobody") == []
"""


def environment_of(workspace: Path) -> dict[str, str]:
    """For a process that knows of this workspace alone."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("MLFLOW_", "METSEG_"))}
    return {**kept, "METSEG_WORKSPACE": str(workspace), "PYTHONPATH": str(ROOT)}


STARTS = int(os.environ.get("METSEG_STARTS", "2"))
"""How often three processes start in an empty workspace; a release is tried with 50."""


def test_three_first_commands_at_once_leave_a_whole_registry(tmp_path):
    for number in range(STARTS):
        folder = tmp_path / str(number)
        folder.mkdir()
        environment = environment_of(folder)
        command = [sys.executable, "-c", FIRST]
        processes = [
            subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
            for _ in range(3)
        ]
        said = [process.communicate(timeout=300)[0] for process in processes]
        assert [process.returncode for process in processes] == [0, 0, 0], said
        with closing(sqlite3.connect(folder / "var/mlflow.db")) as database:
            assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
            assert database.execute("SELECT count(*), min(status) FROM runs").fetchone() == (3, "FINISHED")
            assert database.execute("SELECT name FROM experiments ORDER BY name").fetchall() == [
                ("Default",),
                ("metseg",),
            ]


def test_a_making_that_was_killed_leaves_nothing_behind_that_breaks_the_next(tmp_path, monkeypatch, workspace, metseg):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    with subprocess.Popen([sys.executable, "-c", FIRST], env=environment_of(workspace)) as process:
        ends = time.monotonic() + 60
        while not list((workspace / "var").glob(".mlflow.db.new*")) and time.monotonic() < ends:
            time.sleep(0.01)
        process.kill()
    assert "the registry holds no model" in metseg("models")[1]


def test_an_artifact_root_on_the_servers_disk_is_refused_with_the_flag_that_is_missing(
    workspace, tmp_path, monkeypatch, metseg
):
    with unproxied(tmp_path) as url:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", url)
        code, said = metseg("run", "--data", "scans")
    assert code == 1 and "start the server with --serve-artifacts" in said


@contextmanager
def unproxied(folder: Path) -> Iterator[str]:
    """A server that hands out a folder which is not on this machine."""
    port = free_port()
    command = [str(Path(sys.executable).parent / "mlflow"), "server", f"--backend-store-uri={fresh_store(folder)}"]
    command += ["--no-serve-artifacts", "--default-artifact-root=/not-here/artifacts", f"--port={port}", "--workers=1"]
    quiet = {**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
    process = subprocess.Popen(
        command, env=quiet, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )
    try:
        ends = time.monotonic() + 120
        while time.monotonic() < ends:
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                break
            except OSError:
                time.sleep(0.2)
        yield f"http://127.0.0.1:{port}"
    finally:
        os.killpg(process.pid, 15)
        process.wait(60)


def test_the_longest_waits_are_shorter_than_the_bar():
    assert 2 * mlflow_store.ANSWER_SECONDS < SECONDS
