"""Send 500 hostile requests to the gateway and count wrong codes: `python -m benchmarks.gateway`."""

from __future__ import annotations

import argparse
import math
import tempfile
import time
from contextlib import ExitStack, closing
from pathlib import Path

from benchmarks.figures import OUT, Figure, table, write_figures
from benchmarks.hostile import volley_figures

REQUESTS = 500
AT_ONCE = 4
MOST_MEMORY_MB = 512
MOST_SECONDS = 10.0
SLOW_SENDERS = 20
MOST_WAITING_SECONDS = 5.0


def hostile_figures(published: Path, folder: Path) -> list[Figure]:
    """Return wrong codes, the slowest response, the gateway's peak memory, and its readiness afterwards."""
    from metseg.serving.server.flags import ServerOptions
    from metseg.serving.server.model_server import ModelServer
    from tests.serving.callers.gateways import LIMITS, gateway
    from tests.serving.callers.hostile import hostile_requests
    from tests.serving.callers.models import MODEL
    from tests.serving.hostile.volley import fire

    options = ServerOptions(port=0, model_name=MODEL, model_base_path=str(published))
    with (
        ModelServer(options) as server,
        gateway(f"127.0.0.1:{server.port}", folder, queue=2 * AT_ONCE, label="") as running,
        running.http() as http,
    ):

        def well() -> str:
            status = http.get("/readyz").status_code
            return "" if status == 200 else f"/readyz answered {status}"

        volley = fire(hostile_requests(REQUESTS, LIMITS), running.base, running.process.pid, AT_ONCE, well)
        left = [path for path in running.folder.iterdir() if path.is_dir()]
    return [
        *volley_figures("gateway", volley, REQUESTS, MOST_MEMORY_MB, MOST_SECONDS),
        Figure("  uploads left on disk", len(left), at_most=0),
    ]


def waiting_figure(published: Path, folder: Path) -> Figure:
    """Return how long an upload of one key takes while another key has begun many and sends no more."""
    from metseg.serving.server.flags import ServerOptions
    from metseg.serving.server.model_server import ModelServer
    from tests.serving.callers.gateways import gateway
    from tests.serving.callers.hostile import ROUTE, slow_sender
    from tests.serving.callers.models import MODEL

    slow, quick = "first-key-0123456789", "second-key-0123456789"
    options = ServerOptions(port=0, model_name=MODEL, model_base_path=str(published))
    keys = {"api_keys": f"{slow},{quick}", "patience_seconds": 60, "slowest_rate": 1, "label": ""}
    with (
        ModelServer(options) as server,
        gateway(f"127.0.0.1:{server.port}", folder, **keys) as running,
        running.http(headers={"X-API-Key": quick}) as http,
        ExitStack() as lines,
    ):
        for _ in range(SLOW_SENDERS):
            lines.enter_context(closing(slow_sender(running.base, slow)))
        sample = http.get("/docs/sample.png").content
        began = time.monotonic()
        job = http.post(f"{ROUTE}?wait=60", files={"files": ("sample.png", sample)}).json()
        seconds = time.monotonic() - began if job.get("state") == "done" else math.inf
    return Figure(
        f"an upload beside {SLOW_SENDERS} slow senders of another key", seconds, at_most=MOST_WAITING_SECONDS, unit="s"
    )


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
        figures.append(waiting_figure(published, Path(folder) / "waiting"))
    print(table(figures))
    write_figures(given.out, figures)


if __name__ == "__main__":
    main()
