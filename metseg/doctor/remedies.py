"""Commands that fix a finding, written for the examined cluster."""

from __future__ import annotations

from collections.abc import Collection

OVERLAY = "kubectl apply -k infra/kubernetes/overlays/OVERLAY"
SHIPPED = "kubeflow"
"""Namespace of runs in the overlays as shipped."""
STORAGE, SERVER = "metseg-storage", "metseg-mlflow-server"
OF_SCRIPT = (
    "metseg-mlflow-client",
    STORAGE,
    "metseg-pseudonyms",
    "metseg-database",
    SERVER,
    "metseg-gateway",
    "metseg-viewer-login",
)
"""Secrets that `infra/kubernetes/secrets.sh` makes."""


def overlay(runs: str) -> str:
    """Return how to apply an overlay to a namespace of runs."""
    if runs == SHIPPED:
        return OVERLAY
    return (
        f"an overlay goes to the namespace in its runs/kustomization.yaml, as shipped {SHIPPED}: write {runs} there, "
        f"or for a further namespace into a copy of runs/ that the overlay's `resources` name; then {OVERLAY}"
    )


def secrets_command(runs: str) -> str:
    """Return the command that creates missing namespaces, labels and secrets."""
    return f"infra/kubernetes/secrets.sh {runs} | kubectl apply -f -"


def first_call(runs: str) -> str:
    """Return the command for a cluster that may have no secrets yet."""
    return (
        f"{secrets_command(runs)}; for a database elsewhere, or pods with a role of the cloud, the first call is "
        "another (docs/cluster.md)"
    )


def storage_keys(runs: str) -> str:
    """Return what to do without storage keys; pods with a cloud role need none."""
    return (
        f"nothing if pods have a role of the cloud; else {secrets_command(runs)} copies the keys of the services, "
        "or takes AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY if these are set"
    )


def secrets(missing: Collection[str], runs: str) -> str:
    """Return how to make Secrets that pods need to start, or keys in them.

    Args:
        missing: names of the Secrets.
        runs: namespace of runs.
    """
    parts = []
    if SERVER in missing:
        parts.append(first_call(runs))
    elif set(missing) & set(OF_SCRIPT) - {STORAGE}:
        parts.append(f"{secrets_command(runs)} fills gaps")
    if STORAGE in missing and SERVER not in missing:
        parts.append(f"{STORAGE}: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, then {secrets_command(runs)}")
    parts += [f"docs/cluster.md has the command that makes {name}" for name in missing if name not in OF_SCRIPT]
    return "; ".join(parts)
