"""`metseg reconcile`, `promote` and `rollback`: what the registry's aliases say is what is served."""

from __future__ import annotations

import logging
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated

import typer

from metseg.defaults import MODEL_NAME, MODEL_SERVER
from metseg.environment import apply_defaults
from metseg.serving.reconciliation.limits import Limits

if TYPE_CHECKING:
    from metseg.serving.reconciliation.promotion import Follower
    from metseg.serving.reconciliation.registry_state import AliasRegistry
    from metseg.settings import Settings

# MLflow's own patience, minutes for one call, would hide that it is down.
MLFLOW_PATIENCE = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "30",
}

ServerOption = Annotated[
    str, typer.Option(help="HOST:PORT of the model server's gRPC API; METSEG_MODEL_SERVER where none is given.")
]
BasePathOption = Annotated[
    Path | None,
    typer.Option(help="Folder of models.config and the models; METSEG_MODEL_BASE_PATH where none is given."),
]
ServedPathOption = Annotated[
    Path | None, typer.Option(help="The same folder as the model server sees it, where it is mounted elsewhere.")
]
ElsewhereOption = Annotated[
    bool, typer.Option("--elsewhere", help="Only move the alias, and wait for `metseg reconcile` beside the server.")
]
ModelNameOption = Annotated[str, typer.Option(help="Registered model.")]


def reconcile(
    server: ServerOption = "",
    base_path: BasePathOption = None,
    server_base_path: ServedPathOption = None,
    model_name: Annotated[
        list[str] | None, typer.Option(help="Registered model; may be repeated; all of metseg's where none is given.")
    ] = None,
    once: Annotated[bool, typer.Option("--once", help="One turn; exit code 1 where not all is as asked.")] = False,
    prepare: Annotated[
        bool, typer.Option("--prepare", help="Only write a models.config without models where there is none.")
    ] = False,
    interval: Annotated[float, typer.Option(help="Seconds between two looks at the registry.", min=0.1)] = 3.0,
    load_seconds: Annotated[
        float, typer.Option(help="Seconds that loading a version may take.", min=1.0)
    ] = Limits.load_seconds,
    tolerance: Annotated[
        float, typer.Option(help="Largest difference of a golden answer.", min=0.0)
    ] = Limits.tolerance,
    health_file: Annotated[
        Path | None, typer.Option(help="File that is rewritten while this process is alive, for a liveness probe.")
    ] = None,
) -> None:
    """Keep a model server at what the registry's aliases point at: champion as stable, challenger as canary."""
    from metseg.retention import version_days
    from metseg.serving.reconciliation.connection import ServerConnection
    from metseg.serving.reconciliation.daemon import Health, Loop
    from metseg.serving.reconciliation.reconciler import Reconciler
    from metseg.serving.reconciliation.registry_state import AliasRegistry
    from metseg.serving.reconciliation.serving_volume import ServingVolume

    settings = _settings(server, base_path, server_base_path, elsewhere=False)
    volume = ServingVolume(settings.model_base_path, settings.served_base_path)
    volume.prepare()
    if prepare:
        print(f"{volume.config} is there")
        return
    registry, health = AliasRegistry(settings), Health(health_file)
    limits = Limits(load_seconds, 600.0 if once else 5.0, tolerance, keep_days=version_days())
    with ServerConnection(settings.model_server or MODEL_SERVER, load_seconds) as connection, _ended_by_sigterm():
        reconciler = Reconciler(registry, volume, connection, limits, health.beat)
        loop = Loop(registry, reconciler, model_name or [], health)
        if once:
            sys.exit(0 if loop.turn() else 1)
        logging.getLogger(__name__).info(
            "keeping %s at what the aliases at %s say, through %s",
            connection.address,
            settings.tracking_uri,
            volume.root,
        )
        loop.run(interval)


def promote(
    version: Annotated[int, typer.Argument(help="Version to make the champion.", min=1)],
    model_name: ModelNameOption = MODEL_NAME,
    server: ServerOption = "",
    base_path: BasePathOption = None,
    server_base_path: ServedPathOption = None,
    elsewhere: ElsewhereOption = False,
) -> None:
    """Make a version the champion through the pipeline's checks; where one fails, the alias is set back."""
    from metseg.serving.reconciliation import promotion

    settings = _settings(server, base_path, server_base_path, elsewhere)
    with _follower(settings) as (registry, follower):
        promotion.promote(registry, follower, model_name, version)
    print(f"version {version} of {model_name} is champion and answers as stable")


def rollback(
    model_name: ModelNameOption = MODEL_NAME,
    server: ServerOption = "",
    base_path: BasePathOption = None,
    server_base_path: ServedPathOption = None,
    elsewhere: ElsewhereOption = False,
) -> None:
    """Make the version champion again that was it before; a second roll-back leads back."""
    from metseg.serving.reconciliation import promotion

    settings = _settings(server, base_path, server_base_path, elsewhere)
    with _follower(settings) as (registry, follower):
        version = promotion.rollback(registry, follower, model_name)
    print(f"version {version} of {model_name} is champion again and answers as stable")


def _settings(server: str, base_path: Path | None, served: Path | None, elsewhere: bool) -> Settings:
    """The environment's settings with what the command line says instead."""
    apply_defaults()
    for name, value in MLFLOW_PATIENCE.items():
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
def _follower(settings: Settings) -> Iterator[tuple[AliasRegistry, Follower]]:
    from metseg.serving.reconciliation.promotion import following
    from metseg.serving.reconciliation.registry_state import AliasRegistry

    registry = AliasRegistry(settings)
    with following(settings, Limits(), registry) as follower:
        yield registry, follower


@contextmanager
def _ended_by_sigterm() -> Iterator[None]:
    """End in an orderly way at SIGTERM; being killed instead does no harm either."""

    def end(number: int, frame: FrameType | None) -> None:
        logging.getLogger(__name__).info("stopped")
        sys.exit(0)

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
