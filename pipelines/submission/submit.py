"""From a command line to a run on Kubeflow: a version where the pipeline changed, then a run of it."""

from __future__ import annotations

import json
import logging
import re
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from metseg.errors import KubeflowError, NotKnown, UsageError
from metseg.tracking.container_registry import image_exists
from pipelines.submission.kubeflow_client import CREATE_SECONDS, UPLOAD_SECONDS, Kubeflow, Unreachable
from pipelines.submission.pipeline_package import Package

logger = logging.getLogger(__name__)

Entries = Callable[[Any], list[Any] | None]
"""Takes the entries out of an answer."""

EXPERIMENT = "metseg"
EVERYWHERE = ("s3://", "git+")
REFERENCE, RUN_NAME = "data_reference", "run_name"
"""Names of the pipeline's parameters that submitting itself looks at."""
RECENT_SECONDS, RECENT_RUNS = 600.0, 50
"""How old a run may be, and how many of the latest are looked at, to be the one that is submitted again."""
LOOK_AGAIN_SECONDS = (0.0, 5.0, 10.0)
"""Pauses before each look for a run or schedule whose making was not answered."""
RUN_ENDED = ("SUCCEEDED", "FAILED", "SKIPPED", "CANCELED")


@dataclass(frozen=True)
class Started:
    """A run or a schedule that Kubeflow has.

    Attributes:
        identity: its id.
        page: its address in the UI.
        found: whether it was there already, and was not made by this call.
    """

    identity: str
    page: str
    found: bool = False


def check_reference(reference: str) -> None:
    """Refuse data that a pod cannot read.

    Raises:
        UsageError: it is a folder or archive of this machine.
    """
    from metseg.dataset.references.syntax import parse

    if not reference.startswith(EVERYWHERE):
        raise UsageError(
            f"{REFERENCE}={reference!r}: pods of a cluster see no folder of this machine; put the data into "
            f"a bucket (--param {REFERENCE}=s3://BUCKET/PREFIX) or under DVC (git+URL@REVISION#PATH)"
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
            logger.warning(
                "image %s: nobody can say from here whether it is there. The version with it is what Kubeflow's UI "
                "offers first from now on; --dry-run shows what would be uploaded, and uploads nothing",
                image,
            )


def image_states(images: tuple[str, ...]) -> list[tuple[str, str]]:
    """Each image, and whether it is there as far as that can be told from here."""
    known = {True: "there", False: "not in its registry", None: "nobody can say from here whether it is there"}
    return [(image, known[image_exists(image)]) for image in images]


@dataclass(frozen=True)
class Wish:
    """A run that is asked for.

    Attributes:
        name: what it is called in Kubeflow and MLflow.
        parameters: those that are not to have their default, with `name` among them.
        same: tells the name of a run that is this one, submitted before; by default its own.
    """

    name: str
    parameters: dict[str, Any]
    same: re.Pattern[str] | None = None

    def is_met_by(self, run: Any, version: str) -> bool:
        """Whether a run is the one that is asked for: of that name, version and parameters, a minute ago or ten."""
        reference, config = run.pipeline_version_reference, run.runtime_config
        named = self.same.fullmatch(run.display_name or "") if self.same else run.display_name == self.name
        parameters = dict((config.parameters if config else None) or {})
        if self.same:
            parameters[RUN_NAME] = self.name
        young = run.created_at and (datetime.now(UTC) - run.created_at).total_seconds() < RECENT_SECONDS
        return bool(
            named and young and reference and reference.pipeline_version_id == version and parameters == self.parameters
        )


def start(kubeflow: Kubeflow, package: Package, wish: Wish, again: bool = False) -> Started:
    """Bring the pipeline to Kubeflow where it is not there as it is, and run it.

    A run that was submitted in the last minutes with the same name and parameters, and has not ended, is taken for the
    one that is asked for: whoever gave up waiting for an answer submits again.

    Args:
        kubeflow: where.
        package: the pipeline.
        wish: what is to run.
        again: whether a second run is wanted beside such a one.

    Raises:
        KubeflowError: see `Kubeflow.call`.
        NotKnown: it may have been started; nothing answers that could tell.
    """
    pipeline, version = pipeline_version(kubeflow, package)
    within = experiment(kubeflow)
    recent = _recent(kubeflow, within)
    unfinished = [run for run in recent if run.state not in RUN_ENDED]
    if not again and (there := [run for run in unfinished if wish.is_met_by(run, version)]):
        logger.info("the same run was submitted at %s: it is taken up (--again starts another)", there[0].created_at)
        return _started(kubeflow, there[0], found=True)
    models = kubeflow.models
    body = models.V2beta1Run(
        display_name=wish.name,
        experiment_id=within,
        pipeline_version_reference=models.V2beta1PipelineVersionReference(
            pipeline_id=pipeline, pipeline_version_id=version
        ),
        runtime_config=models.V2beta1RuntimeConfig(parameters=wish.parameters),
    )
    create = kubeflow.runs.run_service_create_run
    try:
        created = kubeflow.call("starting the run", create, body, _request_timeout=CREATE_SECONDS)
    except Unreachable as error:
        known, own = {run.run_id for run in recent}, replace(wish, same=None)
        safe = "Submitting again is safe: one that appears late is taken up"
        try:
            made = look_for(
                lambda: _recent(kubeflow, within),
                lambda run: run.run_id not in known and own.is_met_by(run, version),
            )
        except KubeflowError as unseen:
            raise NotKnown(f"{error}. Whether the run is there is not known ({unseen}). {safe}") from error
        if made is None:
            raise Unreachable(f"{error}. No run called {wish.name} is there. {safe}") from error
        logger.warning("Kubeflow did not answer in time, but the run is there")
        return _started(kubeflow, made)
    return _started(kubeflow, created)


def look_for(look: Callable[[], list[Any]], is_meant: Callable[[Any], bool]) -> Any | None:
    """What was made though the answer did not come; None where it does not show within some seconds.

    Args:
        look: gives all that is there.
        is_meant: whether an entry is what was made.

    Raises:
        KubeflowError: the last look was not answered either.
    """
    for number, pause in enumerate(LOOK_AGAIN_SECONDS, start=1):
        time.sleep(pause)
        try:
            there = look()
        except KubeflowError:
            if number == len(LOOK_AGAIN_SECONDS):
                raise
            continue
        if made := [entry for entry in there if is_meant(entry)]:
            return made[0]
    return None


def _recent(kubeflow: Kubeflow, within: str) -> list[Any]:
    answer = kubeflow.call(
        "looking for runs",
        kubeflow.runs.run_service_list_runs,
        experiment_id=within,
        sort_by="created_at desc",
        page_size=RECENT_RUNS,
    )
    return list(answer.runs or ())


def _started(kubeflow: Kubeflow, run: Any, found: bool = False) -> Started:
    return Started(run.run_id, kubeflow.page(f"runs/details/{run.run_id}"), found)


def default_name(model_name: str, cron: str) -> str:
    """What a run or schedule is called where nobody says."""
    return f"{model_name} by schedule" if cron else f"{model_name} {time.strftime('%Y-%m-%d %H:%M')}"


def default_names(model_name: str) -> re.Pattern[str]:
    """All names that `default_name` gives to runs."""
    return re.compile(re.escape(model_name) + r" \d{4}-\d\d-\d\d \d\d:\d\d")


def pipeline_version(kubeflow: Kubeflow, package: Package) -> tuple[str, str]:
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


def experiment(kubeflow: Kubeflow) -> str:
    """Id of the experiment that our runs are in; made where it is not there."""
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
