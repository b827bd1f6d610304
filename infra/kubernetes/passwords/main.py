"""Make or rotate the secrets of the manifests."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import cluster
from cluster import RUNS_LABEL, SERVICES, Failure
from content import NAMES, OF_RUNS, content, keeps_role
from rotation import OF_STEPS, ROTATED

NAMESPACE_FILE = Path(__file__).resolve().parents[1] / "base" / "services" / "namespace.yaml"
EPILOG = """
Without --rotate: makes missing namespaces, labels those of runs, and prints all secrets for `kubectl apply -f -`. What
the cluster holds stays as it is, so a second call prints the same. Namespaces that were named in an earlier call are
found by their label and need not be named again.

For a gap, DATABASE_URI, AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY come from the environment if they are set.
After a call with --no-storage-keys, later calls make no storage keys either, unless these two are set.
"""


def report(line: str) -> None:
    """Print one line for the user; standard output is for kubectl."""
    print(line, file=sys.stderr)


def note(line: str) -> None:
    """Print what is unusual, and stays."""
    report(f"note: {line}")


def prepared(named: Sequence[str]) -> list[str]:
    """Make and label namespaces; returns those of runs, named now or earlier."""
    existing = cluster.namespaces()
    labelled = [name for name, labels in existing.items() if labels.get(RUNS_LABEL) == "true"]
    runs = sorted({*named, *labelled} or {"kubeflow"})
    if SERVICES in runs:
        raise Failure(
            f"{SERVICES} is the namespace of the services: name the namespaces that Kubeflow runs pipelines in"
        )
    if SERVICES not in existing:
        cluster.kubectl("apply", f"--filename={NAMESPACE_FILE}")
        report(f"namespace {SERVICES}: created")
    for name in runs:
        if name not in existing:
            cluster.kubectl("create", "namespace", name)
            report(f"namespace {name}: created")
        if name not in labelled:
            cluster.kubectl("label", "namespace", name, f"{RUNS_LABEL}=true", "--overwrite")
            report(f"namespace {name}: labelled {RUNS_LABEL}=true")
    return runs


def main(arguments: Sequence[str]) -> None:
    """Print or rotate."""
    parser = argparse.ArgumentParser(
        prog="secrets.sh", description=__doc__, epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("runs", nargs="*", metavar="NAMESPACE", help="that Kubeflow runs the pipeline in (kubeflow)")
    parser.add_argument(
        "--no-storage-keys", action="store_true", help="pods have a role of the cloud instead (first call)"
    )
    parser.add_argument("--rotate", choices=sorted(ROTATED), help="change this password everywhere, and restart")
    parser.add_argument("--now", action="store_true", help="rotate although steps run, which will fail")
    options = parser.parse_args(arguments)

    runs = prepared(options.runs)
    held = cluster.secrets(SERVICES, NAMES)
    for namespace in runs:
        held |= cluster.secrets(namespace, OF_RUNS)
    storage = not options.no_storage_keys and not keeps_role(held, runs, os.environ, bool(options.rotate), note)
    secrets = content(held, runs, os.environ, storage, note)
    if not options.rotate:
        print("".join(secret.manifest() for secret in secrets), end="")
        return
    if options.rotate in OF_STEPS and not options.now and (steps := cluster.running_steps(runs)):
        raise Failure(
            f"{len(steps)} steps run with the password that would change, and would fail: {', '.join(steps[:5])}. "
            "Wait until they have ended, or add --now"
        )
    # Gaps first: a rotation starts from what the cluster holds.
    cluster.apply(secrets)
    ROTATED[options.rotate](secrets, os.environ, report)


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except Failure as failure:
        sys.exit(f"secrets.sh: {failure}")
