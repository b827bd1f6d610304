"""The command line: the door where arguments are checked and errors become one message and an exit code.

It is the one module of `metseg` that reaches up to `pipelines`, and it does so inside its functions.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from metseg.commands import calling, gateway, looking
from metseg.errors import MetsegError, UsageError
from metseg.settings import Settings, apply_defaults

app = typer.Typer(
    help="Train, judge, register, promote and serve segmentation models for brain metastases in MRI.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)

PHANTOM_MODEL = "brain-mets-segmentation"
LOG_WIDTH = 120

PHANTOM_BUDGET: dict[str, Any] = {"epochs": 8, "steps_per_epoch": 64, "batch_size": 4}
"""The embedded run's budget: both networks in minutes on two cores."""


def _examples(*lines: str) -> str:
    return "Examples:\n\n" + "\n\n".join(f"  {line}" for line in lines)


@app.command(epilog=_examples("metseg phantom data", "metseg phantom /tmp/heads --patients 6 --seed 1"))
def phantom(
    folder: Annotated[Path, typer.Argument(help="Folder to write; a complete cohort there is left alone.")],
    patients: Annotated[int, typer.Option(help="Number of patients.", min=3)] = 36,
    seed: Annotated[int, typer.Option(help="The same seed gives the same bytes.")] = 2023,
) -> None:
    """Make the phantom cohort: heads with metastases, in the BraTS-METS layout."""
    from metseg.dataset.pinned import record_pinned
    from metseg.imaging.phantom import generate_cohort
    from metseg.progress import Progress

    with Progress("making phantom heads", patients) as progress:

        def report(done: int, total: int) -> None:
            progress.total = total
            progress.update(done)

        generate_cohort(folder, patients, seed, report)
    record_pinned(folder)


def _named(data: str) -> tuple[str, str]:
    """The reference as any process of the run can read it, and the registered model of a run on data of one's own."""
    from metseg.dataset.references.grammar import Archive, Folder, GitRevision, S3Archive, parse

    parsed = parse(data)
    if isinstance(parsed, Folder | Archive):
        path = parsed.path.resolve()
        reference, name = str(path), path.name.partition(".")[0] if isinstance(parsed, Archive) else path.name
    elif isinstance(parsed, GitRevision):
        reference, name = data, parsed.url.rpartition("/")[2].removesuffix(".git")
    elif isinstance(parsed, S3Archive):
        reference, name = data, parsed.key.rpartition("/")[2].partition(".")[0]
    else:
        reference, name = data, parsed.prefix.rpartition("/")[2] or parsed.bucket
    return reference, f"{PHANTOM_MODEL}-{re.sub(r'[^A-Za-z0-9]+', '-', name).strip('-').lower()}"


def _parameters(given: list[str]) -> dict[str, Any]:
    """Check `NAME=VALUE` against the pipeline's parameters and their types."""
    from pipelines.training import training

    known = training.component_spec.inputs
    parsed: dict[str, Any] = {}
    for text in given:
        name, separator, value = text.partition("=")
        if not separator or name not in known:
            raise UsageError(f"--param {text}: expected NAME=VALUE with a NAME of {', '.join(sorted(known))}")
        kind = known[name].type
        try:
            if kind == "NUMBER_INTEGER" or kind == "Integer":
                parsed[name] = int(value)
            elif kind == "NUMBER_DOUBLE" or kind == "Float":
                parsed[name] = float(value)
            elif kind in ("BOOLEAN", "Boolean"):
                parsed[name] = {"true": True, "1": True, "on": True, "false": False, "0": False, "off": False}[
                    value.lower()
                ]
            else:
                parsed[name] = value
        except (ValueError, KeyError):
            raise UsageError(f"--param {text}: {value!r} is not a value of type {kind}") from None
    return parsed


def _check_training(parameters: dict[str, Any]) -> None:
    """Refuse a training that cannot be, before anything is read."""
    from dataclasses import fields

    from metseg.training.configuration import TrainingConfiguration

    names = {field.name for field in fields(TrainingConfiguration)}
    TrainingConfiguration(architecture="nested_unet", **{k: v for k, v in parameters.items() if k in names})


@app.command(
    epilog=_examples(
        "metseg run",
        "metseg run --data ~/scans",
        "metseg run --data s3://bucket/scans",
        "metseg run --data git+https://host/repository.git@v2#data",
        "metseg run --data ~/scans --param epochs=40 --param clahe=false",
    )
)
def run(
    data: Annotated[
        str | None,
        typer.Option(
            help="Images and masks: folder, archive, s3://BUCKET/PREFIX or git+URL@REVISION#PATH; "
            "the phantom cohort where none is given."
        ),
    ] = None,
    param: Annotated[
        list[str] | None, typer.Option(help="NAME=VALUE of a pipeline parameter; may be repeated.")
    ] = None,
) -> None:
    """Run the training pipeline on this machine, from images to a served model."""
    from rich.console import Console

    from pipelines import local

    settings = Settings.from_environment()
    parameters = _parameters(param or [])
    arguments: dict[str, Any] = {"promotion": "automatic", "accelerator_count": 0}
    if data is None:
        arguments |= {"reference": str(settings.data), "model_name": PHANTOM_MODEL, **PHANTOM_BUDGET}
    else:
        reference, name = _named(data)
        arguments |= {"reference": reference, "model_name": name}
    arguments |= parameters
    _check_training(arguments)
    if data is None and not settings.data.is_dir():
        phantom(settings.data)
    # The console is bound to this very stream: the runner redirects `sys.stdout` into it.
    width = None if sys.stdout.isatty() else LOG_WIDTH
    local.run(arguments, settings, Console(file=sys.stdout, width=width))


app.command(epilog=_examples("metseg inspect ~/scans", "metseg inspect ~/scans --labels whole --out look"))(
    looking.inspect
)
app.command(
    epilog=_examples("metseg validate ~/scans", "metseg validate ~/scans --reference reference_statistics.json")
)(looking.validate)


@app.command(name="compile", epilog=_examples("metseg compile", "metseg compile --out training.yaml"))
def compile_command(
    out: Annotated[Path | None, typer.Option(help="File to write; the committed one where none is given.")] = None,
) -> None:
    """Compile the Kubeflow pipeline to YAML."""
    from pipelines.compiling import COMPILED, compile_pipeline

    print(compile_pipeline(out or COMPILED))


@app.command(epilog=_examples("metseg models", "metseg models brain-mets-segmentation-scans"))
def models(name: Annotated[str, typer.Argument(help="Registered model.")] = PHANTOM_MODEL) -> None:
    """List the versions in the registry, with scores and aliases."""
    from rich.console import Console
    from rich.table import Table

    from metseg.tracking import registry, runs

    apply_defaults()
    found = registry.versions(runs.client(Settings.from_environment()), name)
    if not found:
        raise MetsegError(f"the registry holds no model {name}: train one with `metseg run`")
    table = Table("version", "architecture", "Dice", "lesion F1", "gate", "aliases", "data version", title=name)
    for entry in found:
        tag = entry.tags.get
        cells = [tag(key, "–") for key in ("architecture", "test.dice", "test.lesion_f1", "gate")]
        table.add_row(str(entry.number), *cells, ", ".join(entry.aliases), tag("data.version", "–")[:12])
    Console().print(table)


app.command(
    epilog=_examples(
        "metseg predict scan-t1n.nii.gz scan-t2f.nii.gz scan-t1c.nii.gz --out masks",
        "metseg predict scans/patient1 --out masks --server 127.0.0.1:8500 --label stable",
        "metseg predict a.nii.gz b.nii.gz --channels t1c,t2f --out masks",
        "metseg predict export/study7 --channels 't1c=*ax*post*' --out masks",
    )
)(calling.predict)
app.command(
    epilog=_examples(
        "metseg api",
        "METSEG_API_KEYS=$(openssl rand -hex 24) metseg api --host 0.0.0.0 --port 8080",
        "metseg api --server models:8500 --folder /srv/metseg-jobs",
    )
)(gateway.api)


@app.command(
    epilog=_examples(
        "metseg deidentify export/2024 clean",
        "METSEG_PSEUDONYM_KEY=$(cat key) metseg deidentify export/2024 clean",
        "metseg deidentify export/2024 --find file-1c9b0d6e55aa",
    )
)
def deidentify(
    source: Annotated[Path, typer.Argument(help="Folder of DICOM files, in any arrangement.")],
    target: Annotated[Path | None, typer.Argument(help="Folder to write; absent or empty.")] = None,
    find: Annotated[str, typer.Option(help="Print which file a message called so, instead of writing.")] = "",
) -> None:
    """Write copies of DICOM images and masks without what names the patient (PS3.15, basic profile)."""
    import logging

    from metseg.imaging.deidentification import deidentify_folder, find_file

    apply_defaults()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    if find:
        print(find_file(source, find))
    elif target is None:
        raise UsageError("deidentify: name the folder to write after the source, or a file's handle with --find")
    else:
        print(f"{deidentify_folder(source, target)} files written to {target}")


def _serve_command(context: typer.Context) -> None:
    import logging

    apply_defaults()
    from metseg.serving.flags import parse_flags
    from metseg.serving.server import serve

    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    serve(parse_flags(context.args))


app.command(
    name="serve",
    help="Serve models over gRPC with the flags of tensorflow_model_server.",
    epilog=_examples(
        "metseg serve --model_config_file var/serving/models.config",
        "metseg serve --port 8500 --model_name m --model_base_path /models/m",
    ),
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True},
)(_serve_command)


def main() -> None:
    """Entry point of the `metseg` command."""
    try:
        app()
    except MetsegError as error:
        print(f"metseg: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        print("metseg: interrupted", file=sys.stderr)
        sys.exit(130)
