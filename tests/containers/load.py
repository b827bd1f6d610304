"""What trainings and people ask of MLflow, more than they do, from several threads for a while."""

from __future__ import annotations

import secrets
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from mlflow import MlflowClient
from mlflow.entities import Metric

THREADS = 8
ARTIFACT = 4 << 20


def load(address: str, seconds: float) -> int:
    """Ask without a pause, and return the number of rounds; each logs, uploads, downloads and searches.

    Raises:
        MlflowException: MLflow refuses or does not answer.
    """
    tracking = MlflowClient(address)
    experiment = tracking.create_experiment(f"load-{secrets.token_hex(4)}")
    ends, rounds, counting = time.monotonic() + seconds, [0], threading.Lock()

    def ask(number: int) -> None:
        client = MlflowClient(address)
        with tempfile.TemporaryDirectory() as scratch:
            file = Path(scratch) / f"weights-{number}.bin"
            file.write_bytes(secrets.token_bytes(ARTIFACT))
            while time.monotonic() < ends:
                run = client.create_run(experiment).info.run_id
                for step in range(5):
                    now = int(time.time() * 1000)
                    client.log_batch(run, [Metric(f"loss-{name}", 1.0 / (step + 1), now, step) for name in range(50)])
                client.log_artifact(run, str(file), "model")
                client.download_artifacts(run, f"model/{file.name}", scratch)
                client.search_runs([experiment], max_results=200)
                client.search_registered_models()
                client.set_terminated(run)
                with counting:
                    rounds[0] += 1

    with ThreadPoolExecutor(THREADS) as pool:
        for asked in [pool.submit(ask, number) for number in range(THREADS)]:
            asked.result()
    return rounds[0]
