"""`metseg api`: the HTTP gateway in front of a model server."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from metseg.environment import apply_defaults


def api(
    port: Annotated[int, typer.Option(help="TCP port.", min=1, max=65535)] = 8080,
    host: Annotated[str, typer.Option(help="Address to listen on; others than this machine's own need keys.")] = (
        "127.0.0.1"
    ),
    server: Annotated[str, typer.Option(help="HOST:PORT of the model server; METSEG_GATEWAY_SERVER.")] = "",
    model_name: Annotated[str, typer.Option(help="Model to ask; METSEG_GATEWAY_MODEL.")] = "",
    label: Annotated[
        str | None, typer.Option(help="Version label to ask, empty for the latest; METSEG_GATEWAY_LABEL.")
    ] = None,
    folder: Annotated[Path | None, typer.Option(help="Folder for uploads and results; METSEG_GATEWAY_FOLDER.")] = None,
    without_keys: Annotated[bool, typer.Option(help="Answer anyone who can reach the address.")] = False,
    certificate: Annotated[Path | None, typer.Option(help="PEM file: serve HTTPS.", exists=True)] = None,
    key: Annotated[Path | None, typer.Option(help="PEM file of the certificate's private key.", exists=True)] = None,
) -> None:
    """Serve segmentation over HTTP: files in, masks and lesions out. Keys: METSEG_API_KEYS; more in docs/gateway.md."""
    import dataclasses
    import logging

    apply_defaults()
    from metseg.serving.gateway.server import serve
    from metseg.serving.gateway.settings import GatewaySettings

    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    settings = GatewaySettings.from_environment()
    settings = dataclasses.replace(
        settings,
        server=server or settings.server,
        model_name=model_name or settings.model_name,
        label=settings.label if label is None else label,
        folder=settings.folder if folder is None else folder.absolute(),
        open_to_all=settings.open_to_all or without_keys,
    )
    serve(settings, host, port, certificate, key)
