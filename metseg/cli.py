"""The command line: the door where arguments are checked and errors become one message and an exit code.

It is the one module of `metseg` that reaches up to `pipelines`, and it does so inside its functions.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from metseg.commands import gateway, inspect, models, predict, promotion, serve, viewer
from metseg.commands.grouped_help import GroupedHelp
from metseg.errors import MetsegError, UsageError
from metseg.settings import MODEL_NAME, Settings, apply_defaults

app = typer.Typer(
    help="Train, judge, register, promote and serve segmentation models for brain metastases in MRI.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)

PHANTOM_MODEL = MODEL_NAME
LOG_WIDTH = 120

PHANTOM_BUDGET: dict[str, Any] = {"train_epochs": 8, "train_steps_per_epoch": 64, "train_batch_size": 4}
"""The embedded run's budget: both networks in minutes on two cores."""


def _examples(*lines: str) -> str:
    return "Examples:\n\n" + "\n\n".join(f"  {line}" for line in lines)


@app.command(epilog=_examples("metseg phantom data", "metseg phantom /tmp/heads --patients 6 --seed 1"))
def phantom(
    folder: Annotated[Path, typer.Argument(help="Folder to write; a complete cohort there is left alone.")],
    patients: Annotated[int, typer.Option(help="Number of patients.", min=3)] = 60,
    seed: Annotated[int, typer.Option(help="The same seed gives the same bytes.")] = 2023,
) -> None:
    """Make the phantom cohort: heads with metastases, in the BraTS-METS layout."""
    from metseg.dataset.dvc_pin import record_pinned
    from metseg.phantom import generate_cohort
    from metseg.progress import Progress

    with Progress("making phantom heads", patients) as progress:

        def report(done: int, total: int) -> None:
            progress.total = total
            progress.update(done)

        generate_cohort(folder, patients, seed, report)
    record_pinned(folder)


def _named(data: str) -> tuple[str, str]:
    """The reference as any process of the run can read it, and the registered model of a run on data of one's own."""
    from metseg.dataset.references.syntax import Archive, Folder, GitRevision, S3Archive, parse

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


def _settings(given: list[str]) -> dict[str, Any]:
    """Read `NAME=VALUE` of a run's settings, by their kinds."""
    from components.configuration.parsing import parse

    return parse(given)


@app.command(
    epilog=_examples(
        "metseg run",
        "metseg run --data ~/scans",
        "metseg run --data s3://bucket/scans",
        "metseg run --data git+https://host/repository.git@v2#data",
        "metseg run --data ~/scans --param train_epochs=40 --param data_clahe=false",
        "metseg run --param train_architectures=nested_unet,attention_unet,unet",
        "metseg run --images 0.1.0",
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
        list[str] | None, typer.Option(help="NAME=VALUE of a setting (metseg settings); may be repeated.")
    ] = None,
    images: Annotated[
        str | None,
        typer.Option(help="TAG, or PREFIX:TAG, of images to run each step in, by Docker; no container by default."),
    ] = None,
) -> None:
    """Run the training pipeline on this machine, from images to a served model."""
    from rich.console import Console

    from components.check.step import check
    from metseg.option_checks import refuse_empty
    from pipelines import containers

    refuse_empty({"--images": images})
    settings = Settings.from_environment()
    if images:
        containers.require_services(settings)
        containers.choose(images)
    from pipelines import local

    given = _settings(param or [])
    values: dict[str, Any] = {"gate_promotion": "automatic", "gpu_count": 0}
    if data is None:
        values |= {"data_reference": str(settings.data), "model_name": PHANTOM_MODEL, **PHANTOM_BUDGET}
    else:
        reference, name = _named(data)
        values |= {"data_reference": reference, "model_name": name}
    values |= given
    check(values)
    if images:
        containers.require_images()
    if data is None and not settings.data.is_dir():
        phantom(settings.data)
    # The console is bound to this very stream: the runner redirects `sys.stdout` into it.
    width = None if sys.stdout.isatty() else LOG_WIDTH
    local.run(values, settings, Console(file=sys.stdout, width=width), in_containers=bool(images))


@app.command(
    name="settings", epilog=_examples("metseg settings", "metseg settings train", "metseg settings --markdown")
)
def list_settings(
    group: Annotated[str, typer.Argument(help="One group: data, train, gate, gpu, model, pod or run.")] = "",
    as_markdown: Annotated[bool, typer.Option("--markdown", help="Print docs/settings.md.")] = False,
) -> None:
    """List the settings of a run: names, defaults, where Kubeflow's form takes them."""
    from rich.console import Console
    from rich.table import Table

    from components.configuration.setting_names import GROUPS, SETTINGS
    from components.configuration.settings_table import markdown, place, shown

    if group and group not in GROUPS:
        raise UsageError(f"settings {group}: expected a group of {', '.join(GROUPS)}")
    if as_markdown:
        print(markdown(), end="")
        return
    table = Table("setting", "default", "Kubeflow's form", "")
    for setting in SETTINGS.values():
        if group in ("", setting.group):
            table.add_row(setting.name, shown(setting.default), place(setting), setting.description)
    Console(width=None if sys.stdout.isatty() else LOG_WIDTH).print(table, markup=False)


INGEST_OPTIONS = (
    "data_layout",
    "data_channels",
    "data_labels",
    "data_mask_threshold",
    "data_resample_masks",
    "model_name",
)


@app.command(
    epilog=_examples(
        "metseg tune --trials 10",
        "metseg tune --data ~/scans --search train_learning_rate=5e-4..1e-2:log --search 'train_loss=dice_bce|tversky'",
        "metseg tune --search train_filters=8..24 --search 'data_clahe=true|false' --param train_epochs=10",
    )
)
def tune(
    data: Annotated[
        str | None, typer.Option(help="Images and masks, as for run; the phantom cohort by default.")
    ] = None,
    trials: Annotated[int, typer.Option(help="Trainings in the end, those of earlier calls counted.", min=1)] = 20,
    architecture: Annotated[str, typer.Option(help="Network: nested_unet, attention_unet or unet.")] = "nested_unet",
    search: Annotated[
        list[str] | None,
        typer.Option(help="NAME=LOW..HIGH[:log] or NAME=VALUE|VALUE of what is varied; may be repeated."),
    ] = None,
    param: Annotated[
        list[str] | None, typer.Option(help="NAME=VALUE of a parameter that is not varied; may be repeated.")
    ] = None,
    objective: Annotated[
        str, typer.Option(help="Validation patients' mean to raise: lesion_f1 or dice.")
    ] = "lesion_f1",
    study: Annotated[str, typer.Option(help="Name; a stopped search of that name goes on. Data and network.")] = "",
) -> None:
    """Search for the parameters of a run; what is found is printed as the run to type."""
    from rich.console import Console

    from components.configuration.setting_names import find
    from metseg.tuning.search_space import DEFAULT_SEARCH, PREPROCESSING, TRAINING, parse_search
    from metseg.tuning.study import OBJECTIVES, Search
    from pipelines import tuning

    settings = Settings.from_environment()
    given = _settings(param or [])
    if unfit := sorted(set(given) - {*INGEST_OPTIONS, *PREPROCESSING, *TRAINING}):
        raise UsageError(
            f"--param {unfit[0]}: a search reads data, preprocesses and trains, and takes no such parameter"
        )
    if objective not in OBJECTIVES:
        raise UsageError(f"--objective {objective}: expected {' or '.join(OBJECTIVES)}")
    for text in search or []:
        find(text.partition("=")[0], where="--search ")
    budget = PHANTOM_BUDGET if data is None else {}
    fixed = {name: value for name, value in {**budget, **given}.items() if name not in INGEST_OPTIONS}
    dimensions = parse_search(search or DEFAULT_SEARCH, lambda name, value: _settings([f"{name}={value}"])[name])
    chosen = Search(architecture, dimensions, fixed, objective, trials)
    chosen.check()
    reference, name = (str(settings.data), PHANTOM_MODEL) if data is None else _named(data)
    options = {"model_name": name, **{name: value for name, value in given.items() if name in INGEST_OPTIONS}}
    if data is None and not settings.data.is_dir():
        phantom(settings.data)
    width = None if sys.stdout.isatty() else LOG_WIDTH
    tuning.run(
        chosen,
        tuning.Data(reference, data or "", options),
        study or f"{name.removeprefix(PHANTOM_MODEL).strip('-') or 'phantom'}-{architecture}",
        settings,
        Console(file=sys.stdout, width=width),
    )


app.command(epilog=_examples("metseg inspect ~/scans", "metseg inspect ~/scans --labels whole --out look"))(
    inspect.inspect
)
app.command(
    epilog=_examples("metseg validate ~/scans", "metseg validate ~/scans --reference reference_statistics.json")
)(inspect.validate)
app.command(epilog=_examples("metseg viewer", "metseg viewer --server 10.0.0.5:8500 --samples data"))(viewer.viewer)


@app.command(
    name="compile",
    epilog=_examples("metseg compile", "metseg compile --out training.yaml --architectures attention_unet,unet"),
)
def compile_command(
    out: Annotated[Path | None, typer.Option(help="File to write; the committed ones where none is given.")] = None,
    architectures: Annotated[str, typer.Option(help="Networks that the pipeline in --out has tasks for.")] = "",
) -> None:
    """Compile the Kubeflow pipeline to YAML: for the usual networks, and with the baseline."""
    from metseg.training.configuration import DEFAULT_ARCHITECTURES, architectures_of
    from pipelines.compiling import NETWORKS, compile_pipeline

    asked = {out: architectures_of(architectures or DEFAULT_ARCHITECTURES)} if out else NETWORKS
    if architectures and not out:
        raise UsageError("--architectures: name the file to write with --out")
    for path, networks in asked.items():
        print(compile_pipeline(path, networks))


RUN_PANEL, WATCH_PANEL, SCHEDULES_PANEL, ACCESS_PANEL = "Run", "Watch", "Schedules", "Access"


@app.command(
    cls=GroupedHelp,
    epilog=_examples(
        "metseg submit --host http://localhost:8080 --profile local --param data_reference=s3://scans/2026",
        "metseg submit --host https://kubeflow.example.org/pipeline --namespace imaging --token-file token --param "
        "data_reference=s3://scans/2026 --wait",
        "metseg submit --images registry.example.org/imaging:0.2.0 --param data_reference=s3://scans/2026 --dry-run",
        "metseg submit --follow 95fa807b-916b-4ca1-97c0-425832b088e5",
        "metseg submit --cron '0 3 * * 1' --param data_reference=s3://scans/current --name weekly",
        "metseg submit --schedules",
        "metseg submit --pause weekly",
    ),
)
def submit(
    param: Annotated[
        list[str] | None,
        typer.Option(help="NAME=VALUE of a setting, see metseg settings; may be repeated.", rich_help_panel=RUN_PANEL),
    ] = None,
    profile: Annotated[
        str | None,
        typer.Option(
            help="Named set of settings, which --param can change: local, for a laptop's cluster without a GPU.",
            rich_help_panel=RUN_PANEL,
        ),
    ] = None,
    images: Annotated[
        str | None,
        typer.Option(
            help="TAG, or PREFIX:TAG, of the images; those of the committed pipeline by default.",
            rich_help_panel=RUN_PANEL,
        ),
    ] = None,
    name: Annotated[
        str | None,
        typer.Option(
            help="Of the run, in Kubeflow and MLflow, or of the schedule; model and time by default.",
            rich_help_panel=RUN_PANEL,
        ),
    ] = None,
    again: Annotated[
        bool,
        typer.Option(
            "--again",
            help="Start a run even where one of that name and parameters was started within ten minutes and goes on; "
            "without this, that one is taken up.",
            rich_help_panel=RUN_PANEL,
        ),
    ] = False,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run",
            help="Show version, images and parameters, and send nothing to Kubeflow.",
            rich_help_panel=RUN_PANEL,
        ),
    ] = False,
    wait: Annotated[
        bool,
        typer.Option(
            "--wait",
            help="Follow the run to its verdict. Exit code 0: a version was registered; 3: the gate registered "
            "nothing; 1: the run failed, or none was started; 2: called wrongly; 4: not known, the run goes on or its "
            "verdict could not be read (--follow asks again).",
            rich_help_panel=WATCH_PANEL,
        ),
    ] = False,
    follow: Annotated[
        str | None,
        typer.Option(
            metavar="RUN",
            help="Follow a run that is there already, whoever started it, as --wait does; RUN is its id, or the "
            "address of its page.",
            rich_help_panel=WATCH_PANEL,
        ),
    ] = None,
    cron: Annotated[
        str | None,
        typer.Option(
            metavar="TIMES",
            help="Run by a schedule: minute, hour, day, month, weekday. It takes the place of one of that name.",
            rich_help_panel=SCHEDULES_PANEL,
        ),
    ] = None,
    schedules: Annotated[
        bool,
        typer.Option(
            "--schedules", help="List the schedules, with their last and next run.", rich_help_panel=SCHEDULES_PANEL
        ),
    ] = False,
    pause: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="Have a schedule start nothing until it is resumed.", rich_help_panel=SCHEDULES_PANEL
        ),
    ] = None,
    resume: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Have a paused schedule go on.", rich_help_panel=SCHEDULES_PANEL),
    ] = None,
    delete: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="Take a schedule away; the runs that it started stay.", rich_help_panel=SCHEDULES_PANEL
        ),
    ] = None,
    host: Annotated[
        str,
        typer.Option(
            metavar="ADDRESS",
            help="Of Kubeflow Pipelines' UI.",
            envvar="KF_PIPELINES_ENDPOINT",
            rich_help_panel=ACCESS_PANEL,
        ),
    ] = "",
    namespace: Annotated[
        str, typer.Option(help="Profile, where Kubeflow serves several people.", rich_help_panel=ACCESS_PANEL)
    ] = "",
    token_file: Annotated[
        Path | None,
        typer.Option(
            help="File with the token; METSEG_KUBEFLOW_TOKEN may hold it instead.", rich_help_panel=ACCESS_PANEL
        ),
    ] = None,
    certificate: Annotated[
        Path | None,
        typer.Option(
            help="PEM file of the host's CA certificate.", exists=True, dir_okay=False, rich_help_panel=ACCESS_PANEL
        ),
    ] = None,
) -> None:
    """Run the pipeline on Kubeflow: upload it where it changed, start or schedule a run, follow it to its verdict."""
    from pipelines.submission.submit_command import Options, run

    run(
        Options(
            host=host,
            param=tuple(param or ()),
            profile=profile,
            images=images,
            name=name,
            again=again,
            dry_run=dry_run,
            wait=wait,
            follow=follow,
            cron=cron,
            schedules=schedules,
            pause=pause,
            resume=resume,
            delete=delete,
            namespace=namespace,
            token_file=token_file,
            certificate=certificate,
        )
    )


app.command(epilog=_examples("metseg models", "metseg models brain-mets-segmentation-scans", "metseg models --json"))(
    models.models
)
app.command(
    epilog=_examples(
        "metseg lineage 3",
        "metseg lineage stable --server 127.0.0.1:8500",
        "metseg lineage champion --model-name brain-mets-segmentation-scans",
    )
)(models.lineage)


app.command(
    epilog=_examples(
        "metseg reconcile --server 127.0.0.1:8500",
        "metseg reconcile --once --model-name brain-mets-segmentation",
        "metseg reconcile --base-path /srv/models --server-base-path /models --health-file /tmp/reconcile.json",
    )
)(promotion.reconcile)
app.command(epilog=_examples("metseg promote 4", "metseg promote 4 --server 127.0.0.1:8500"))(promotion.promote)
app.command(epilog=_examples("metseg rollback", "metseg rollback --elsewhere"))(promotion.rollback)


app.command(
    epilog=_examples(
        "metseg predict scan-t1n.nii.gz scan-t2f.nii.gz scan-t1c.nii.gz --out masks",
        "metseg predict scans/patient1 --out masks --server 127.0.0.1:8500 --label stable",
        "metseg predict a.nii.gz b.nii.gz --channels t1c,t2f --out masks",
        "metseg predict export/study7 --channels 't1c=*ax*post*' --out masks",
    )
)(predict.predict)
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

    from metseg.imaging.dicom.deidentification import deidentify_folder, find_file

    apply_defaults()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    if find:
        print(find_file(source, find))
    elif target is None:
        raise UsageError("deidentify: name the folder to write after the source, or a file's handle with --find")
    else:
        print(f"{deidentify_folder(source, target)} files written to {target}")


@app.command(
    epilog=_examples(
        "metseg doctor",
        "metseg doctor --docker",
        "metseg doctor --cluster",
        "metseg doctor --cluster --namespace-of-runs imaging --host https://kubeflow.example.org/pipeline --probe",
    )
)
def doctor(
    cluster: Annotated[bool, typer.Option("--cluster", help="Examine a cluster instead, by kubectl.")] = False,
    docker: Annotated[bool, typer.Option("--docker", help="Examine Docker too.")] = False,
    namespace_of_runs: Annotated[
        str | None,
        typer.Option(
            help="Namespace that Kubeflow runs pipelines in (a profile, where it serves several people); kubeflow by "
            "default."
        ),
    ] = None,
    context: Annotated[str | None, typer.Option(help="Context of the kubeconfig; the current one by default.")] = None,
    kubeconfig: Annotated[Path | None, typer.Option(help="Kubeconfig; kubectl's own by default.", exists=True)] = None,
    host: Annotated[
        str | None, typer.Option(help="Address of Kubeflow Pipelines' UI; through the cluster by default.")
    ] = None,
    token_file: Annotated[Path | None, typer.Option(help="File with Kubeflow's token, as for submit.")] = None,
    certificate: Annotated[
        Path | None, typer.Option(help="CA certificate of the host (PEM).", exists=True, dir_okay=False)
    ] = None,
    images: Annotated[str | None, typer.Option(help="TAG, or PREFIX:TAG, of the images, as for submit.")] = None,
    gpu_type: Annotated[
        str | None, typer.Option(help="Resource that trainings ask for; nvidia.com/gpu by default.")
    ] = None,
    probe: Annotated[
        bool, typer.Option("--probe", help="Start two short-lived pods: connections, images, network policies.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead.")] = False,
) -> None:
    """Report what this machine, or a cluster, lacks for a run; exit code 1 if anything must be mended."""
    from metseg.doctor.findings import exit_code, print_report
    from metseg.doctor.options import GPU_TYPE, RUNS, Options

    Options(
        cluster, docker, namespace_of_runs, context, kubeconfig, host, token_file, certificate, images, gpu_type, probe
    ).check()
    apply_defaults()
    if cluster:
        from metseg.doctor.kubectl import Kubectl
        from pipelines.cluster_doctor import Access, diagnose

        access, kubectl = Access(host or "", token_file, certificate), Kubectl(context or "", kubeconfig)
        findings = diagnose(kubectl, namespace_of_runs or RUNS, gpu_type or GPU_TYPE, images or "", access, probe)
    else:
        from metseg.doctor import machine

        findings = machine.examine(Settings.from_environment(), docker)
    print_report("cluster" if cluster else "this machine", findings, as_json)
    if code := exit_code(findings):
        raise typer.Exit(code)


# The flags of `serve` are tensorflow_model_server's: metseg.serving.server.flags parses them and prints their help.
app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []})(
    serve.serve
)


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
