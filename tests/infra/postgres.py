"""A real PostgreSQL on a free port, set up as the official image does: no password on its socket, scram elsewhere."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.serving.ports import free_port

PROGRAMS = Path("/usr/lib/postgresql")


@dataclass(frozen=True)
class Postgres:
    """A server with a superuser `mlflow` and a database of that name.

    Attributes:
        socket: folder of its socket.
        port: on 127.0.0.1.
        user: words before a command that has to run as the server's user.
        programs: folder of its commands.
    """

    socket: Path
    port: int
    user: tuple[str, ...]
    programs: Path

    def uri(self, password: str, database: str = "mlflow") -> str:
        """Its URI with the driver that is installed; the password as it is to stand there."""
        return f"postgresql+psycopg2://mlflow:{password}@127.0.0.1:{self.port}/{database}"

    def sql(self, statement: str, database: str = "mlflow") -> str:
        """Run a statement over the socket."""
        command = ["psql", "-X", "-q", "-At", "-h", str(self.socket), "-p", str(self.port), "-U", "mlflow", database]
        return subprocess.run(command, input=statement, text=True, check=True, capture_output=True).stdout

    def takes(self, password: str) -> bool:
        """Whether a login over TCP succeeds."""
        import sqlalchemy

        engine = sqlalchemy.create_engine(self.uri(password))
        try:
            engine.connect().close()
        except sqlalchemy.exc.OperationalError:
            return False
        finally:
            engine.dispose()
        return True


@contextmanager
def running(password: str) -> Iterator[Postgres]:
    """Have such a server within the block; skips where its programs are not installed."""
    found = sorted(PROGRAMS.glob("*/bin/initdb"))
    if not found or not shutil.which("psql"):
        pytest.skip("LOUD: PostgreSQL is not installed, so nothing was tried on a real one; apt-get install postgresql")
    programs = found[-1].parent
    # It refuses to run as root.
    user = ("setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups") if os.getuid() == 0 else ()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "password").write_text(password)
        if user:
            shutil.chown(folder, "postgres")
            shutil.chown(folder / "password", "postgres")
        initdb = [*user, str(programs / "initdb"), "-D", f"{folder}/data", "--username=mlflow", "--encoding=UTF8"]
        subprocess.run([*initdb, f"--pwfile={folder}/password"], check=True, capture_output=True, cwd="/")
        rules = "local all all trust\nhost all all all scram-sha-256\n"
        subprocess.run([*user, "tee", f"{folder}/data/pg_hba.conf"], input=rules, text=True, check=True,
                       stdout=subprocess.DEVNULL)  # fmt: skip
        server = Postgres(folder, free_port(), user, programs)
        options = ["-D", f"{folder}/data", "-p", str(server.port), "-c", f"unix_socket_directories={folder}"]
        options += ["-c", "listen_addresses=127.0.0.1", "-c", "fsync=off"]
        process = subprocess.Popen([*user, str(programs / "postgres"), *options], cwd="/", stderr=subprocess.DEVNULL)
        try:
            _await(server)
            server.sql("CREATE DATABASE mlflow", "postgres")
            yield server
        finally:
            # PostgreSQL's fast shutdown: it waits for no client.
            process.send_signal(signal.SIGINT)
            process.wait(30)


def _await(server: Postgres) -> None:
    ends = time.monotonic() + 60
    while time.monotonic() < ends:
        ready = ["pg_isready", "-q", "-h", str(server.socket), "-p", str(server.port)]
        if subprocess.run(ready, check=False).returncode == 0:
            return
        time.sleep(0.1)
    raise AssertionError("PostgreSQL did not start")
