"""Send 500 hostile requests to the gateway and count wrong codes: `python -m benchmarks.gateway`."""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from benchmarks.figures import OUT, Figure, table, write_figures
from benchmarks.hostile import volley_figures

REQUESTS = 500
AT_ONCE = 4
MOST_MEMORY_MB = 512
MOST_SECONDS = 10.0


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
