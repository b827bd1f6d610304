"""Test the connections of a pipeline step from inside a pod.

Prints one line of JSON.

Its source is handed to `python -c` in the image of the data steps, of whatever version: it needs the standard library
alone. A pod that has just started is let through by enforced policies only after some seconds, hence the retries.
"""

import base64
import json
import os
import socket
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable

SECONDS = 5.0


def first(*names: str) -> str:
    """Return the value of the first of these variables that is set."""
    return next((os.environ[name] for name in names if os.environ.get(name)), "")


def http(address: str, headers: dict[str, str] | None = None) -> str:
    """Return "" if a server responds, else the error; of HTTP errors, only 401 and 403 count."""
    request = urllib.request.Request(address, headers=headers or {})
    try:
        with urllib.request.urlopen(request, timeout=SECONDS):
            return ""
    except urllib.error.HTTPError as error:
        return f"HTTP {error.code}" if error.code in (401, 403) else ""
    except (OSError, ValueError) as error:
        return str(error)


def mlflow() -> str:
    """Log into MLflow as a step does."""
    address = first("METSEG_MLFLOW_TRACKING_URI", "MLFLOW_TRACKING_URI").rstrip("/")
    user = first("METSEG_MLFLOW_USERNAME", "MLFLOW_TRACKING_USERNAME")
    password = first("METSEG_MLFLOW_PASSWORD", "MLFLOW_TRACKING_PASSWORD")
    if not address.startswith("http"):
        return "METSEG_MLFLOW_TRACKING_URI is " + ("no address over HTTP" if address else "''")
    login = base64.b64encode(f"{user}:{password}".encode()).decode()
    headers = {"Authorization": f"Basic {login}"} if user else {}
    problem = http(f"{address}/api/2.0/mlflow/experiments/search?max_results=1", headers)
    return f"{problem}: MLflow refuses the login of Secret metseg-mlflow-client" if "HTTP" in problem else problem


def store() -> str:
    """Reach the object store; it may well refuse a caller without a signature."""
    address = first("METSEG_S3_ENDPOINT_URL", "AWS_ENDPOINT_URL")
    if not address:
        return "not set"
    problem = http(address)
    return "" if problem.startswith("HTTP") else problem


def model_server() -> str:
    """Connect to the model server."""
    host, _, port = first("METSEG_MODEL_SERVER").rpartition(":")
    try:
        with socket.create_connection((host, int(port)), timeout=SECONDS):
            return ""
    except (OSError, ValueError) as error:
        return str(error)


def persist(check: Callable[[], str], patience: float) -> str:
    """Repeat a check until it succeeds or patience ends; return its last problem."""
    end = time.monotonic() + patience
    while True:
        problem = check()
        if not problem or problem == "not set" or time.monotonic() > end:
            return problem
        time.sleep(2.0)


def main() -> None:
    """Run every check and print the problems.

    The first argument is the number of seconds to keep trying, the second the pause before.
    """
    patience, pause = (float(value) for value in sys.argv[1:3])
    time.sleep(pause)
    checks = {"mlflow": mlflow, "store": store, "model server": model_server}
    print(json.dumps({name: persist(check, patience) for name, check in checks.items()}), flush=True)


if __name__ == "__main__":
    main()
