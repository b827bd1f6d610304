"""`metseg serve`: the embedded model server, with the command line of `tensorflow_model_server`."""

from __future__ import annotations

from pathlib import Path

import typer

from metseg.process_environment import apply_defaults
from metseg.workspace import require_place_of

_USAGE = """Usage: metseg serve [FLAGS]

  Serve models over gRPC and REST, as TF Serving does.

Examples:

  metseg serve --model_config_file var/serving/models.config

  metseg serve --port=8500 --rest_api_port=8501 --model_name=m --model_base_path=/models/m
"""


def serve(context: typer.Context) -> None:
    """Serve models over gRPC and REST, as TF Serving does.

    The flags are those of tensorflow_model_server.
    """
    if "--help" in context.args:
        from metseg.serving.server.flags import flags_help

        print(f"{_USAGE}\n{flags_help()}")
    elif "--version" in context.args:
        from importlib.metadata import version

        print(f"metseg {version('metseg')}\nTensorFlow {version('tensorflow')}")
    else:
        import logging

        apply_defaults()
        from metseg.serving.server.flags import parse_flags
        from metseg.serving.server.model_server import serve as serve_until_stopped

        logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
        options = parse_flags(context.args)
        if options.model_config_file:
            require_place_of(Path(options.model_config_file))
        serve_until_stopped(options)
