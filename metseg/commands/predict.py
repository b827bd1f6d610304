"""`metseg predict`: segment images through a model server."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from metseg.process_environment import apply_defaults
from metseg.serving_defaults import MODEL_NAME, MODEL_SERVER


def predict(
    images: Annotated[
        list[Path], typer.Argument(help="Image files of one or more cases, folders of them, or of DICOM files.")
    ],
    out: Annotated[Path, typer.Option(help="Folder for masks, overlays, lesions.json and lesions.csv.")],
    server: Annotated[str, typer.Option(help="HOST:PORT of the model server.")] = MODEL_SERVER,
    model_name: Annotated[str, typer.Option(help="Model on the server.")] = MODEL_NAME,
    label: Annotated[
        str, typer.Option(help="Version label: stable or canary; empty for the latest version.")
    ] = "stable",
    channels: Annotated[
        str,
        typer.Option(
            help="Channel of each file in order, if names do not state it; of DICOM NAME=PATTERN of a description."
        ),
    ] = "",
    timeout: Annotated[float, typer.Option(help="Seconds for one request to the model server.", min=0.1)] = 600.0,
    tls_ca: Annotated[
        Path | None, typer.Option(help="Use TLS; PEM file of the model server's CA certificate.", exists=True)
    ] = None,
    identified: Annotated[
        bool, typer.Option(help="Keep the patient's name in a DICOM SEG, instead of a pseudonym.")
    ] = False,
) -> None:
    """Segment images through a model server.

    Each mask has its image's own geometry; for DICOM it is a DICOM SEG.
    """
    from metseg.malloc import keep_freed_memory
    from metseg.serving.client import Tls
    from metseg.serving.client.batch_predict import predict_files

    apply_defaults()
    names = [name.strip() for name in channels.split(",") if name.strip()]
    tls = None if tls_ca is None else Tls(root_certificates=tls_ca)
    keep_freed_memory()
    predict_files(images, out, server, model_name, label, names, timeout=timeout, tls=tls, identified=identified)
