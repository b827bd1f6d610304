"""`metseg reconcile --once` in processes that are killed by SIGKILL; run with the server's address and a model.

Starting Python and importing MLflow takes seconds in which nothing is published. So this process imports everything
once and forks a child for each line it reads: a number is the seconds after which the child is killed, `-` lets it
finish. Seconds count from the moment at which its turn begins. It answers with a line: how the child ended, and after
how many seconds. It must not use MLflow or gRPC itself, for their threads would not be there after a fork.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from types import TracebackType
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from metseg.serving.reconciliation.reconciler import ReconcileResult

FINISH = "-"


def child(server: str, name: str, began: int) -> None:
    """What `metseg reconcile --once` does, with a byte to `began` when its turn begins; does not return."""
    from metseg.commands import promotion
    from metseg.serving.reconciliation.reconciler import Reconciler

    turn = Reconciler.reconcile

    def told(self: Reconciler, name: str) -> ReconcileResult:
        os.write(began, b"!")
        return turn(self, name)

    Reconciler.reconcile = told  # type: ignore[method-assign]
    code = 70
    try:
        promotion.reconcile(server=server, model_name=[name], once=True)
    except SystemExit as end:
        code = int(end.code or 0)
    finally:
        os._exit(code)


def ended(process: int, seconds: float | None) -> str:
    """Wait for a child, for so many seconds at most, and kill it then."""
    began = time.monotonic()
    while seconds is None or time.monotonic() - began < seconds:
        done, status = os.waitpid(process, os.WNOHANG)
        if done:
            return f"exit {os.waitstatus_to_exitcode(status)} {time.monotonic() - began:.4f}"
        time.sleep(0.0005)
    os.kill(process, signal.SIGKILL)
    os.waitpid(process, 0)
    return f"killed -9 {time.monotonic() - began:.4f}"


def main() -> None:
    """Fork for every line."""
    import mlflow.artifacts
    import mlflow.store.artifact.local_artifact_repo
    import mlflow.store.model_registry.sqlalchemy_store
    import mlflow.store.tracking.sqlalchemy_store
    import mlflow.tracking  # noqa: F401

    import metseg.serving.reconciliation.daemon
    import metseg.serving.reconciliation.reconciler  # noqa: F401

    server, name = sys.argv[1:]
    print("ready", flush=True)
    for line in sys.stdin:
        seconds = None if line.strip() == FINISH else float(line)
        hears, began = os.pipe()
        process = os.fork()
        if process == 0:
            os.close(hears)
            child(server, name, began)
        os.close(began)
        os.read(hears, 1)
        os.close(hears)
        print(ended(process, seconds), flush=True)


class Reconciling:
    """Reconcilers of one model that are killed, or finish.

    Args:
        server: address of the model server.
        name: the model.
        environment: where MLflow and the folder are.
    """

    def __init__(self, server: str, name: str, environment: dict[str, str]) -> None:
        self._forker = subprocess.Popen(
            [sys.executable, "-m", "tests.serving.reconciliation.killing", server, name],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=environment,
        )
        assert self._forker.stdin is not None and self._forker.stdout is not None
        self._in, self._out = self._forker.stdin, self._forker.stdout
        assert self._out.readline().strip() == "ready"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._in.close()
        self._forker.wait(60)

    def _ask(self, line: str) -> tuple[str, int, float]:
        self._in.write(line + "\n")
        self._in.flush()
        how, code, seconds = self._out.readline().split()
        return how, int(code), float(seconds)

    def killed_after(self, seconds: float) -> bool:
        """Start one and kill it so many seconds later; False where it was done before."""
        return self._ask(f"{seconds:.4f}")[0] == "killed"

    def finished(self) -> tuple[int, float]:
        """Let one finish; its exit code, and the seconds it took."""
        _, code, seconds = self._ask(FINISH)
        return code, seconds


if __name__ == "__main__":
    main()
