"""From a command line to a run on Kubeflow: a version where the pipeline changed, then a run or a schedule of it."""

from __future__ import annotations

import json
import logging
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from metseg.errors import UsageError
from metseg.tracking.image_registry import image_exists
from pipelines.submission.client import UPLOAD_SECONDS, Kubeflow
from pipelines.submission.package import Package

logger = logging.getLogger(__name__)

Entries = Callable[[Any], list[Any] | None]
"""Takes the entries out of an answer."""

EXPERIMENT = "metseg"
EVERYWHERE = ("s3://", "git+")
CRON_FIELDS = 5
CRON_CHARACTERS = frozenset("0123456789*/,-?#ABCDEFGHIJKLMNOPQRSTUVWXYZ")


@dataclass(frozen=True)
class Started:
    """A run or a schedule that Kubeflow has.

    Attributes:
        identity: its id.
        page: its address in the UI.
        scheduled: whether it is a schedule.
    """

    identity: str
    page: str
    scheduled: bool


def check_reference(reference: str) -> None:
    """Refuse data that a pod cannot read.

    Raises:
        UsageError: it is a folder or archive of this machine.
    """
    from metseg.dataset.references.grammar import parse

    if not reference.startswith(EVERYWHERE):
        raise UsageError(
            f"parameter reference={reference!r}: pods of a cluster see no folder of this machine; put the data into a "
            "bucket (--param reference=s3://BUCKET/PREFIX) or under DVC (git+URL@REVISION#PATH)"
        )
    parse(reference)


def check_images(images: tuple[str, ...]) -> None:
    """Refuse images that are known not to be there; where nobody can be asked, say so.

    Raises:
        UsageError: an image's registry does not hold it.
    """
    for image in images:
        there = image_exists(image)
        if there is False:
            raise UsageError(
                f"image {image}: its registry does not hold it; `docker push` it, or name others with --images"
            )
        if there is None:
            logger.info("image %s: nobody can say from here whether it is there", image)


def cron_of(text: str) -> str:
    """A schedule as Kubeflow reads it, with seconds before the five fields that people know.

    Raises:
        UsageError: it is none.
    """
    fields = text.split()
    if len(fields) == CRON_FIELDS:
        fields = ["0", *fields]
    if len(fields) != CRON_FIELDS + 1 or not set("".join(fields)) <= CRON_CHARACTERS:
        raise UsageError(f"--cron {text!r}: expected minute, hour, day, month, weekday, such as '0 3 * * 1'")
    return " ".join(fields)


def submit(kubeflow: Kubeflow, package: Package, parameters: dict[str, Any], name: str, cron: str = "") -> Started:
    """Bring the pipeline to Kubeflow where it is not there as it is, and run it, now or by a schedule.

    Args:
        kubeflow: where.
        package: the pipeline.
        parameters: those that are not to have their default.
        name: what the run is called in Kubeflow and MLflow, or the schedule in Kubeflow.
        cron: of a schedule, see `cron_of`; empty for a run now.

    Raises:
        KubeflowError: see `Kubeflow.call`.
    """
    pipeline, version = _version(kubeflow, package)
    experiment = _experiment(kubeflow)
    models = kubeflow.models
    common: dict[str, Any] = {
        "display_name": name,
        "experiment_id": experiment,
        "pipeline_version_reference": models.V2beta1PipelineVersionReference(
            pipeline_id=pipeline, pipeline_version_id=version
        ),
    }
    if not cron:
        config = models.V2beta1RuntimeConfig(parameters={"run_name": name, **parameters})
        run = models.V2beta1Run(runtime_config=config, **common)
        created = kubeflow.call("starting the run", kubeflow.runs.run_service_create_run, run)
        return Started(created.run_id, kubeflow.page(f"runs/details/{created.run_id}"), scheduled=False)
    earlier = _schedules(kubeflow, experiment, name)
    schedule = models.V2beta1RecurringRun(
        runtime_config=models.V2beta1RuntimeConfig(parameters=parameters),
        trigger=models.V2beta1Trigger(cron_schedule=models.V2beta1CronSchedule(cron=cron)),
        mode=models.RecurringRunMode.ENABLE,
        # One at a time, and what was missed is not made up for: each would train on the same data.
        max_concurrency="1",
        no_catchup=True,
        **common,
    )
    create = kubeflow.schedules.recurring_run_service_create_recurring_run
    created = kubeflow.call("making the schedule", create, schedule)
    for replaced in earlier:
        delete = kubeflow.schedules.recurring_run_service_delete_recurring_run
        kubeflow.call("taking away the schedule of that name", delete, replaced)
        logger.info("the schedule %s of that name is replaced", replaced)
    identity = created.recurring_run_id
    return Started(identity, kubeflow.page(f"recurringrun/details/{identity}"), scheduled=True)


def default_name(model_name: str, cron: str) -> str:
    """What a run or schedule is called where nobody says."""
    return f"{model_name} by schedule" if cron else f"{model_name} {time.strftime('%Y-%m-%d %H:%M')}"


def _version(kubeflow: Kubeflow, package: Package) -> tuple[str, str]:
    """Ids of the pipeline and of its version with this very content; both are made where they are not there."""
    pipeline = _found(
        kubeflow,
        "looking for the pipeline",
        kubeflow.pipelines.pipeline_service_list_pipelines,
        package.name,
        lambda answer: answer.pipelines,
        namespace=kubeflow.namespace,
    )
    if pipeline is None:
        body = kubeflow.models.V2beta1Pipeline(display_name=package.name, namespace=kubeflow.namespace or None)
        pipeline = kubeflow.call("making the pipeline", kubeflow.pipelines.pipeline_service_create_pipeline, body)
        logger.info("pipeline %s is new there", package.name)
    identity = pipeline.pipeline_id
    version = _found(
        kubeflow,
        "looking for the version",
        lambda **named: kubeflow.pipelines.pipeline_service_list_pipeline_versions(identity, **named),
        package.version,
        lambda answer: answer.pipeline_versions,
    )
    if version is None:
        version = _upload(kubeflow, package, identity)
        logger.info("uploaded version %s of %s", package.version, package.name)
    else:
        logger.info("version %s of %s is there already", package.version, package.name)
    page = kubeflow.page(f"pipelines/details/{identity}/version/{version.pipeline_version_id}")
    logger.info("Pipeline %s", page)
    return identity, version.pipeline_version_id


def _upload(kubeflow: Kubeflow, package: Package, pipeline: str) -> Any:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"{package.name}.yaml"
        path.write_text(package.text, encoding="utf-8")
        return kubeflow.call(
            "uploading the pipeline",
            kubeflow.uploads.upload_pipeline_version,
            str(path),
            name=package.version,
            pipelineid=pipeline,
            _request_timeout=UPLOAD_SECONDS,
        )


def _experiment(kubeflow: Kubeflow) -> str:
    found = _found(
        kubeflow,
        "looking for the experiment",
        kubeflow.experiments.experiment_service_list_experiments,
        EXPERIMENT,
        lambda answer: answer.experiments,
        namespace=kubeflow.namespace,
    )
    if found is None:
        body = kubeflow.models.V2beta1Experiment(display_name=EXPERIMENT, namespace=kubeflow.namespace or None)
        found = kubeflow.call("making the experiment", kubeflow.experiments.experiment_service_create_experiment, body)
    return str(found.experiment_id)


def _schedules(kubeflow: Kubeflow, experiment: str, name: str) -> list[str]:
    """Schedules of that name: a new one takes their place, for both would train."""
    entries = _named(
        kubeflow,
        "looking for the schedule",
        kubeflow.schedules.recurring_run_service_list_recurring_runs,
        name,
        lambda answer: answer.recurring_runs,
        experiment_id=experiment,
    )
    return [entry.recurring_run_id for entry in entries]


def _found(kubeflow: Kubeflow, doing: str, ask: Callable[..., Any], name: str, entries: Entries, **named: str) -> Any:
    """The entry that is called so, or None."""
    return next(iter(_named(kubeflow, doing, ask, name, entries, **named)), None)


def _named(
    kubeflow: Kubeflow, doing: str, ask: Callable[..., Any], name: str, entries: Entries, **named: str
) -> list[Any]:
    asked = {"predicates": [{"operation": "EQUALS", "key": "display_name", "string_value": name}]}
    given = {key: value for key, value in named.items() if value}
    answer = kubeflow.call(doing, ask, filter=json.dumps(asked), page_size=100, **given)
    return [entry for entry in entries(answer) or [] if entry.display_name == name]
