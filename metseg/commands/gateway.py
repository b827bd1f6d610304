"""`metseg api`: the HTTP gateway in front of a model server."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from metseg.process_environment import apply_defaults


def api(
    port: Annotated[int, typer.Option(help="TCP port.", min=1, max=65535)] = 8080,
    host: Annotated[str, typer.Option(help="Address to listen on; other machines need API keys.")] = "127.0.0.1",
    server: Annotated[str, typer.Option(help="HOST:PORT of the model server; METSEG_GATEWAY_SERVER.")] = "",
    model_name: Annotated[str, typer.Option(help="Name of the served model; METSEG_GATEWAY_MODEL.")] = "",
    label: Annotated[
        str | None, typer.Option(help="Version label, empty for the latest; METSEG_GATEWAY_LABEL.")
    ] = None,
    folder: Annotated[Path | None, typer.Option(help="Folder for uploads and results; METSEG_GATEWAY_FOLDER.")] = None,
    without_keys: Annotated[bool, typer.Option(help="Serve other machines without API keys.")] = False,
    certificate: Annotated[Path | None, typer.Option(help="Certificate (PEM): serve HTTPS.", exists=True)] = None,
    key: Annotated[Path | None, typer.Option(help="Private key of the certificate (PEM).", exists=True)] = None,
) -> None:
    """Serve segmentation over HTTP: files in, masks out.

    Lesions are listed too. API keys: METSEG_API_KEYS; see docs/gateway.md.
    """
    import logging

    apply_defaults()
    from metseg.serving.gateway.server import serve
    from metseg.serving.gateway.settings import GatewaySettings

    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    settings = GatewaySettings.from_environment()
    settings = settings.replaced(
        server=server or settings.server,
        model_name=model_name or settings.model_name,
        label=settings.label if label is None else label,
        folder=folder or settings.folder,
        open_to_all=settings.open_to_all or without_keys,
    )
    serve(settings, host, port, certificate, key)
