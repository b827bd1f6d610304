"""`metseg reconcile`, `promote` and `rollback`: serving follows the registry's aliases."""

from __future__ import annotations

import logging
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event
from types import FrameType
from typing import TYPE_CHECKING, Annotated

import typer

from metseg.process_environment import apply_defaults
from metseg.serving.reconciliation.reconciliation_limits import ReconcileLimits
from metseg.serving_defaults import MODEL_NAME, MODEL_SERVER

if TYPE_CHECKING:
    from metseg.serving.reconciliation.promotion import Follower
    from metseg.serving.reconciliation.registry_state import AliasRegistry
    from metseg.settings import Settings

# MLflow's own retries, minutes for one call, would hide an outage.
MLFLOW_RETRIES = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "30",
}

ServerOption = Annotated[
    str, typer.Option(help="HOST:PORT of the model server's gRPC API; default: METSEG_MODEL_SERVER.")
]
BasePathOption = Annotated[
    Path | None,
    typer.Option(help="Folder of models.config and the models; default: METSEG_MODEL_BASE_PATH."),
]
ServedPathOption = Annotated[
    Path | None, typer.Option(help="The same folder as the model server sees it, if its path differs there.")
]
ElsewhereOption = Annotated[
    bool, typer.Option("--elsewhere", help="Only move the alias, and wait for `metseg reconcile` next to the server.")
]
ModelNameOption = Annotated[str, typer.Option(help="Registered model.")]


def reconcile(
    server: ServerOption = "",
    base_path: BasePathOption = None,
    server_base_path: ServedPathOption = None,
    model_name: Annotated[
        list[str] | None, typer.Option(help="Registered model; may be repeated; default: all of metseg's.")
    ] = None,
    once: Annotated[
        bool, typer.Option("--once", help="One turn; exit code 1 if serving is not in the desired state.")
    ] = False,
    prepare: Annotated[
        bool, typer.Option("--prepare", help="Only write a models.config without models, if there is none.")
    ] = False,
    interval: Annotated[float, typer.Option(help="Seconds between two requests to the registry.", min=0.1)] = 3.0,
    load_seconds: Annotated[
        float, typer.Option(help="Seconds for loading a version.", min=1.0)
    ] = ReconcileLimits.load_seconds,
    tolerance: Annotated[
        float, typer.Option(help="Largest difference of a golden request.", min=0.0)
    ] = ReconcileLimits.tolerance,
    health_file: Annotated[
        Path | None, typer.Option(help="File that is rewritten while this process is alive, for a liveness probe.")
    ] = None,
) -> None:
    """Keep a model server in line with the registry's aliases.

    The champion is served as stable, the challenger as canary.
    """
    from metseg.retention import Retention
    from metseg.serving.client import ModelClient
    from metseg.serving.reconciliation.daemon import Health, Loop
    from metseg.serving.reconciliation.reconciler import Reconciler
    from metseg.serving.reconciliation.registry_state import AliasRegistry
    from metseg.serving.reconciliation.serving_volume import ServingVolume

    settings = _settings(server, base_path, server_base_path, elsewhere=False)
    volume = ServingVolume(settings.model_base_path, settings.served_base_path)
    volume.prepare()
    if prepare:
        print(f"{volume.config} exists")
        return
    registry, health = AliasRegistry(settings), Health(health_file)
    keep_days = Retention.from_environment().versions
    limits = ReconcileLimits(load_seconds, 600.0 if once else 5.0, tolerance, keep_days=keep_days)
    address = settings.model_server or MODEL_SERVER
    with ModelClient(address, load_seconds, retry_delays=()) as client, _ended_by_sigterm() as stopped:
        reconciler = Reconciler(registry, volume, client, limits, health.beat)
        loop = Loop(registry, reconciler, model_name or [], health)
        if once:
            sys.exit(0 if loop.turn() else 1)
        logging.getLogger(__name__).info(
            "keeping %s in line with the aliases at %s, through %s", address, settings.tracking_uri, volume.root
        )
        loop.run(interval, stopped=stopped.is_set)


def promote(
    version: Annotated[int, typer.Argument(help="Version to make the champion.", min=1)],
    model_name: ModelNameOption = MODEL_NAME,
    server: ServerOption = "",
    base_path: BasePathOption = None,
    server_base_path: ServedPathOption = None,
    elsewhere: ElsewhereOption = False,
) -> None:
    """Make a version the champion, after verification.

    The verification is the pipeline's; if it fails, the alias is set back.
    """
    from metseg.serving.reconciliation import promotion

    with _follower(server, base_path, server_base_path, elsewhere) as (registry, follower):
        promotion.promote(registry, follower, model_name, version)
    print(f"version {version} of {model_name} is champion and served as stable")


def rollback(
    model_name: ModelNameOption = MODEL_NAME,
    server: ServerOption = "",
    base_path: BasePathOption = None,
    server_base_path: ServedPathOption = None,
    elsewhere: ElsewhereOption = False,
) -> None:
    """Make the previous champion the champion again.

    A second roll-back undoes the first.
    """
    from metseg.serving.reconciliation import promotion

    with _follower(server, base_path, server_base_path, elsewhere) as (registry, follower):
        version = promotion.rollback(registry, follower, model_name)
    print(f"version {version} of {model_name} is champion again and served as stable")


def _settings(server: str, base_path: Path | None, served: Path | None, elsewhere: bool) -> Settings:
    """Return the environment's settings, overridden by the command line."""
    apply_defaults()
    for name, value in MLFLOW_RETRIES.items():
        os.environ.setdefault(name, value)
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(message)s")
    logging.getLogger("metseg").setLevel(logging.INFO)
    from metseg.settings import Settings

    settings = Settings.from_environment()
    return settings.replaced(
        model_server=server or settings.model_server,
        model_base_path=(base_path or settings.model_base_path).absolute(),
        served_base_path=served or settings.served_base_path,
        reconciler="elsewhere" if elsewhere else settings.reconciler,
    )


@contextmanager
def _follower(
    server: str, base_path: Path | None, served: Path | None, elsewhere: bool
) -> Iterator[tuple[AliasRegistry, Follower]]:
    from metseg.serving.reconciliation.promotion import following
    from metseg.serving.reconciliation.registry_state import AliasRegistry

    settings = _settings(server, base_path, served, elsewhere)
    registry = AliasRegistry(settings)
    registry.connect()  # before a model server is started
    with following(settings, registry) as follower:
        yield registry, follower


@contextmanager
def _ended_by_sigterm() -> Iterator[Event]:
    """Exit with code 0 at SIGTERM; SIGKILL does no harm either.

    The event is set too: Python drops an exit that is raised within a finalizer.
    """
    stopped = Event()

    def end(number: int, frame: FrameType | None) -> None:
        stopped.set()
        logging.getLogger(__name__).info("stopped")
        sys.exit(0)

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield stopped
    finally:
        signal.signal(signal.SIGTERM, before)
