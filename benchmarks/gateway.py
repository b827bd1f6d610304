"""Whether 500 hostile requests to the gateway each get the right code: `python -m benchmarks.gateway`."""

from __future__ import annotations

import argparse
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from benchmarks.figures import OUT, Figure, table, write_figures

REQUESTS = 500
AT_ONCE = 4
MOST_MEMORY_MB = 512
MOST_SECONDS = 10.0


def hostile_figures(published: Path, folder: Path) -> list[Figure]:
    """Wrong codes, the slowest answer, peak memory of the gateway, and whether it still works."""
    from metseg.serving.configuration import ServerOptions
    from metseg.serving.server import ModelServer
    from tests.serving.callers.gateways import LIMITS, gateway
    from tests.serving.callers.hostile import Hostile, hostile_requests
    from tests.serving.callers.models import MODEL

    options = ServerOptions(port=0, model_name=MODEL, model_base_path=str(published))
    wrong: list[str] = []
    slowest = (0.0, "")
    with (
        ModelServer(options) as server,
        gateway(f"127.0.0.1:{server.port}", folder, queue=2 * AT_ONCE, label="") as running,
    ):
        peak, done = running.memory(), threading.Event()

        def watch() -> None:
            nonlocal peak
            while not done.wait(0.02):
                peak = max(peak, running.memory())

        watcher = threading.Thread(target=watch)
        watcher.start()

        def send(one: Hostile) -> tuple[Hostile, int, float]:
            began = time.monotonic()
            return one, one.send(running.base), time.monotonic() - began

        with ThreadPoolExecutor(AT_ONCE) as senders:
            for one, code, seconds in senders.map(send, hostile_requests(REQUESTS, LIMITS)):
                slowest = max(slowest, (seconds, one.name))
                if code not in one.right:
                    wrong.append(f"{one.name} got {code}")
        done.set()
        watcher.join()
        with running.http() as http:
            ready = http.get("/readyz").status_code
            left = [path for path in running.folder.iterdir() if path.is_dir()]
    return [
        Figure("hostile requests to the gateway", REQUESTS, at_least=500),
        Figure("  answered by a wrong code", len(wrong), at_most=0, note="; ".join(wrong[:5])),
        Figure("  slowest answer", slowest[0], at_most=MOST_SECONDS, unit="s", note=slowest[1]),
        Figure("  peak memory", peak / 2**20, at_most=MOST_MEMORY_MB, unit="MB"),
        Figure("  ready afterwards (status)", ready, at_least=200, at_most=200),
        Figure("  uploads left on disk", len(left), at_most=0),
    ]


def main() -> None:
    """Print the table, write the JSON."""
    from tests.serving.callers.models import MODEL, export_models

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=OUT / "gateway.json")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="metseg-benchmark-") as folder:
        published = Path(folder) / MODEL
        export_models(published)
        figures = hostile_figures(published, Path(folder) / "gateway")
    print(table(figures))
    write_figures(given.out, figures)


if __name__ == "__main__":
    main()
