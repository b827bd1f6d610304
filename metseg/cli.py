"""The command line: a table of commands; each error becomes one message."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import Annotated

import typer

from metseg.commands.compile import compile_pipeline
from metseg.commands.deidentify import deidentify
from metseg.commands.doctor import doctor
from metseg.commands.gateway import api
from metseg.commands.grouped_help import GroupedHelp
from metseg.commands.inspect import inspect
from metseg.commands.models import lineage, models
from metseg.commands.phantom import phantom
from metseg.commands.predict import predict
from metseg.commands.promotion import promote, reconcile, rollback
from metseg.commands.run import run
from metseg.commands.serve import serve
from metseg.commands.settings import settings
from metseg.commands.submit import submit
from metseg.commands.tune import tune
from metseg.commands.validate import validate
from metseg.commands.viewer import viewer
from metseg.commands.workspace import workspace
from metseg.errors import MetsegError
from metseg.hidden_secrets import print_traceback
from metseg.message_text import printable

EXAMPLES: dict[Callable[..., None], tuple[str, ...]] = {
    phantom: ("metseg phantom data", "metseg phantom /tmp/heads --patients 6 --seed 1"),
    inspect: ("metseg inspect ~/scans", "metseg inspect ~/scans --labels whole --out look"),
    validate: ("metseg validate ~/scans", "metseg validate ~/scans --reference reference_statistics.json"),
    run: (
        "metseg run",
        "metseg run --data ~/scans",
        "metseg run --data s3://bucket/scans",
        "metseg run --data git+https://host/repository.git@v2#data",
        "metseg run --data ~/scans --param train_epochs=40 --param data_clahe=false",
        "metseg run --param train_architectures=nested_unet,attention_unet,unet",
        "metseg run --images 0.2.0",
    ),
    settings: ("metseg settings", "metseg settings train", "metseg settings --markdown"),
    tune: (
        "metseg tune --trials 10",
        "metseg tune --data ~/scans --search train_learning_rate=5e-4..1e-2:log --search 'train_loss=dice_bce|tversky'",
        "metseg tune --search train_filters=8..24 --search 'data_clahe=true|false' --param train_epochs=10",
    ),
    compile_pipeline: ("metseg compile", "metseg compile --out training.yaml --architectures attention_unet,unet"),
    submit: (
        "metseg submit --host http://localhost:8080 --profile local --param data_reference=s3://scans/2026",
        "metseg submit --host https://kubeflow.example.org/pipeline --namespace imaging --token-file token --param "
        "data_reference=s3://scans/2026 --wait",
        "metseg submit --images registry.example.org/imaging:0.2.0 --param data_reference=s3://scans/2026 --dry-run",
        "metseg submit --follow 95fa807b-916b-4ca1-97c0-425832b088e5",
        "metseg submit --cron '0 3 * * 1' --param data_reference=s3://scans/current --name weekly",
        "metseg submit --schedules",
        "metseg submit --pause weekly",
    ),
    models: ("metseg models", "metseg models brain-mets-segmentation-scans", "metseg models --json"),
    lineage: (
        "metseg lineage 3",
        "metseg lineage stable --server 127.0.0.1:8500",
        "metseg lineage champion --model-name brain-mets-segmentation-scans",
    ),
    reconcile: (
        "metseg reconcile --server 127.0.0.1:8500",
        "metseg reconcile --once --model-name brain-mets-segmentation",
        "metseg reconcile --base-path /srv/models --server-base-path /models --health-file /tmp/reconcile.json",
    ),
    promote: ("metseg promote 4", "metseg promote 4 --server 127.0.0.1:8500"),
    rollback: ("metseg rollback", "metseg rollback --elsewhere"),
    predict: (
        "metseg predict scan-t1n.nii.gz scan-t2f.nii.gz scan-t1c.nii.gz --out masks",
        "metseg predict scans/patient1 --out masks --server 127.0.0.1:8500 --label stable",
        "metseg predict a.nii.gz b.nii.gz --channels t1c,t2f --out masks",
        "metseg predict export/study7 --channels 't1c=*ax*post*' --out masks",
    ),
    api: (
        "metseg api",
        "METSEG_API_KEYS=$(openssl rand -hex 24) metseg api --host 0.0.0.0 --port 8080",
        "metseg api --server models:8500 --folder /srv/metseg-jobs",
    ),
    viewer: ("metseg viewer", "metseg viewer --server 10.0.0.5:8500 --samples data"),
    deidentify: (
        "metseg deidentify export/2024 clean",
        "METSEG_PSEUDONYM_KEY=$(cat key) metseg deidentify export/2024 clean",
        "metseg deidentify export/2024 --find file-1c9b0d6e55aa",
    ),
    workspace: ("metseg workspace", "metseg workspace --relocate"),
    doctor: (
        "metseg doctor",
        "metseg doctor --docker",
        "metseg doctor --cluster",
        "metseg doctor --cluster --namespace-of-runs imaging --host https://kubeflow.example.org/pipeline --probe",
    ),
}
"""The commands in the order of `metseg --help`, with the examples of their own help."""

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)


def _print_version(asked: bool) -> None:
    if asked:
        from importlib.metadata import version

        print(f"metseg {version('metseg')}")
        raise typer.Exit()


@app.callback()
def metseg(
    version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_print_version, help="Print the version and exit.")
    ] = False,
) -> None:
    """Train, judge, register, promote and serve segmentation models for brain metastases in MRI."""


for command, examples in EXAMPLES.items():
    app.command(
        name=command.__name__.partition("_")[0],
        cls=GroupedHelp,
        epilog="Examples:\n\n" + "\n\n".join(f"  {example}" for example in examples),
    )(command)
# The flags of `serve` are tensorflow_model_server's: metseg.serving.server.flags parses them and prints their help.
app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []})(serve)


def main() -> None:
    """Run the `metseg` command."""
    try:
        app()
    except MetsegError as error:
        print(f"metseg: {printable(str(error))}", file=sys.stderr)
        sys.exit(error.exit_code)
    except Exception as error:
        from metseg.tracking.mlflow_errors import explained

        readable = explained(error, os.environ.get("MLFLOW_TRACKING_URI", ""))
        if readable is None:
            print_traceback(type(error), error, error.__traceback__)
            sys.exit(1)
        print(f"metseg: {printable(str(readable))}", file=sys.stderr)
        sys.exit(readable.exit_code)
    except KeyboardInterrupt:
        print("metseg: interrupted", file=sys.stderr)
        sys.exit(130)
