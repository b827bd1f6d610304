"""Start a run on Kubeflow: upload the pipeline if it changed, then run it."""

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
from metseg.tracking.container_registry import ImageName, image_exists
from pipelines.submission.kubeflow_client import CREATE_SECONDS, UPLOAD_SECONDS, Kubeflow, Unreachable
from pipelines.submission.pipeline_package import Package

logger = logging.getLogger(__name__)

EXPERIMENT = "metseg"
EVERYWHERE = ("s3://", "git+")
REFERENCE, RUN_NAME = "data_reference", "run_name"
"""Names of the pipeline's parameters that `submit` itself reads."""
RECENT_SECONDS, RECENT_RUNS = 600.0, 50
"""Maximum age of a run that a repeated submission reuses, and number of runs that are compared."""
SEARCH_PAUSES = (0.0, 5.0, 10.0)
"""Seconds before each search for a run or schedule whose creation was not confirmed."""
RUN_ENDED = ("SUCCEEDED", "FAILED", "SKIPPED", "CANCELED")


@dataclass(frozen=True)
class Started:
    """A run or a schedule that Kubeflow has.

    Attributes:
        identity: its id.
        page: its address in the UI.
        reused: whether it existed before this call.
    """

    identity: str
    page: str
    reused: bool = False


def check_reference(reference: str) -> None:
    """Refuse data references that a pod cannot read.

    Raises:
        UsageError: it is a folder or archive of this machine.
    """
    from metseg.dataset.references.syntax import parse, require_no_secret

    require_no_secret(reference)
    if not reference.startswith(EVERYWHERE):
        raise UsageError(
            f"{REFERENCE}={reference!r}: pods of a cluster cannot read folders of this machine; put the data into "
            f"a bucket (--param {REFERENCE}=s3://BUCKET/PREFIX) or under DVC (git+URL@REVISION#PATH)"
        )
    parse(reference)


def _exists(image: str) -> bool | None:
    """Return whether an image of the user exists; None if unknown.

    Its registry is trusted, because the user named it.
    """
    return image_exists(image, {ImageName.parse(image).registry})


def check_images(images: tuple[str, ...]) -> None:
    """Refuse images that their registry does not have; warn if that is not known.

    Raises:
        UsageError: an image is not in its registry.
    """
    for image in images:
        exists = _exists(image)
        if exists is False:
            raise UsageError(
                f"image {image}: its registry does not have it; `docker push` it, or name others with --images"
            )
        if exists is None:
            logger.warning(
                "image %s: its registry cannot be queried from here. Kubeflow's UI will offer the version with this "
                "image first; --dry-run shows the upload without sending it",
                image,
            )


def image_states(images: tuple[str, ...]) -> list[tuple[str, str]]:
    """Return each image with its state in its registry, as far as known."""
    known = {True: "exists", False: "not in its registry", None: "its registry cannot be queried from here"}
    return [(image, known[_exists(image)]) for image in images]


@dataclass(frozen=True)
class RunRequest:
    """A run to start.

    Attributes:
        name: its name in Kubeflow and MLflow.
        parameters: values that differ from the defaults, with `name` among them.
        same: pattern for names of an earlier submission of this run; by default its own name.
    """

    name: str
    parameters: dict[str, Any]
    same: re.Pattern[str] | None = None

    def is_met_by(self, run: Any, version: str) -> bool:
        """Return whether a recent run has the requested name, version and parameters."""
        reference, config = run.pipeline_version_reference, run.runtime_config
        named = self.same.fullmatch(run.display_name or "") if self.same else run.display_name == self.name
        parameters = dict((config.parameters if config else None) or {})
        if self.same:
            parameters[RUN_NAME] = self.name
        young = run.created_at and (datetime.now(UTC) - run.created_at).total_seconds() < RECENT_SECONDS
        return bool(
            named and young and reference and reference.pipeline_version_id == version and parameters == self.parameters
        )


def start(kubeflow: Kubeflow, package: Package, request: RunRequest, again: bool = False) -> Started:
    """Upload the pipeline if Kubeflow does not have it yet, and run it.

    An unfinished run with the same name and parameters from the last minutes is reused, because a user whose request
    timed out submits again.

    Args:
        kubeflow: connection to Kubeflow.
        package: the pipeline.
        request: the run.
        again: whether to start a second run even if there is such a run.

    Raises:
        KubeflowError: see `Kubeflow.call`.
        NotKnown: the run may have been started; Kubeflow does not respond.
    """
    pipeline, version = pipeline_version(kubeflow, package)
    within = experiment(kubeflow)
    recent = _recent(kubeflow, within)
    unfinished = [run for run in recent if run.state not in RUN_ENDED]
    if not again and (same := [run for run in unfinished if request.is_met_by(run, version)]):
        logger.info("the same run was submitted at %s and is reused (--again starts another)", same[0].created_at)
        return _started(kubeflow, same[0], reused=True)
    models = kubeflow.models
    body = models.V2beta1Run(
        display_name=request.name,
        experiment_id=within,
        pipeline_version_reference=models.V2beta1PipelineVersionReference(
            pipeline_id=pipeline, pipeline_version_id=version
        ),
        runtime_config=models.V2beta1RuntimeConfig(parameters=request.parameters),
    )
    create = kubeflow.runs.run_service_create_run
    try:
        created = kubeflow.call("starting the run", create, body, _request_timeout=CREATE_SECONDS)
    except Unreachable as error:
        known, own = {run.run_id for run in recent}, replace(request, same=None)
        safe = "Submitting again is safe: a run that appears late is reused"
        try:
            made = search(
                lambda: _recent(kubeflow, within),
                lambda run: run.run_id not in known and own.is_met_by(run, version),
            )
        except KubeflowError as unseen:
            raise NotKnown(f"{error}. Whether the run exists is not known ({unseen}). {safe}") from error
        if made is None:
            raise Unreachable(f"{error}. No run named {request.name} exists. {safe}") from error
        logger.warning("Kubeflow did not respond in time, but the run was created")
        return _started(kubeflow, made)
    return _started(kubeflow, created)


def search(list_entries: Callable[[], list[Any]], matches: Callable[[Any], bool]) -> Any | None:
    """Return an entry whose creation was not confirmed; None if it does not appear.

    Args:
        list_entries: returns all entries.
        matches: whether an entry is the created one.

    Raises:
        KubeflowError: the last request failed too.
    """
    for number, pause in enumerate(SEARCH_PAUSES, start=1):
        time.sleep(pause)
        try:
            entries = list_entries()
        except KubeflowError:
            if number == len(SEARCH_PAUSES):
                raise
            continue
        if made := [entry for entry in entries if matches(entry)]:
            return made[0]
    return None


def _recent(kubeflow: Kubeflow, within: str) -> list[Any]:
    response = kubeflow.call(
        "reading runs",
        kubeflow.runs.run_service_list_runs,
        experiment_id=within,
        sort_by="created_at desc",
        page_size=RECENT_RUNS,
    )
    return list(response.runs or ())


def _started(kubeflow: Kubeflow, run: Any, reused: bool = False) -> Started:
    return Started(run.run_id, kubeflow.page(f"runs/details/{run.run_id}"), reused)


def default_name(model_name: str, cron: str) -> str:
    """Return the default name of a run or schedule."""
    return f"{model_name} by schedule" if cron else f"{model_name} {time.strftime('%Y-%m-%d %H:%M')}"


def default_names(model_name: str) -> re.Pattern[str]:
    """Return a pattern for the default names of runs."""
    return re.compile(re.escape(model_name) + r" \d{4}-\d\d-\d\d \d\d:\d\d")


def pipeline_version(kubeflow: Kubeflow, package: Package) -> tuple[str, str]:
    """Return the ids of the pipeline and of this version; create missing ones."""
    pipeline = _find(
        kubeflow,
        "reading the pipeline",
        kubeflow.pipelines.pipeline_service_list_pipelines,
        package.name,
        "pipelines",
        namespace=kubeflow.namespace,
    )
    if pipeline is None:
        body = kubeflow.models.V2beta1Pipeline(display_name=package.name, namespace=kubeflow.namespace or None)
        pipeline = kubeflow.call("creating the pipeline", kubeflow.pipelines.pipeline_service_create_pipeline, body)
        logger.info("pipeline %s was created", package.name)
    identity = pipeline.pipeline_id
    version = _find(
        kubeflow,
        "reading the version",
        lambda **named: kubeflow.pipelines.pipeline_service_list_pipeline_versions(identity, **named),
        package.version,
        "pipeline_versions",
    )
    if version is None:
        version = _upload(kubeflow, package, identity)
        logger.info("uploaded version %s of %s", package.version, package.name)
    else:
        logger.info("version %s of %s exists already", package.version, package.name)
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
    """Return the id of metseg's experiment; create it if it is missing."""
    existing = _find(
        kubeflow,
        "reading the experiment",
        kubeflow.experiments.experiment_service_list_experiments,
        EXPERIMENT,
        "experiments",
        namespace=kubeflow.namespace,
    )
    if existing is None:
        body = kubeflow.models.V2beta1Experiment(display_name=EXPERIMENT, namespace=kubeflow.namespace or None)
        existing = kubeflow.call(
            "creating the experiment", kubeflow.experiments.experiment_service_create_experiment, body
        )
    return str(existing.experiment_id)


def _find(kubeflow: Kubeflow, doing: str, method: Callable[..., Any], name: str, field: str, **named: str) -> Any:
    """Return the entry with a display name in a field of the response, or None."""
    predicate = {"operation": "EQUALS", "key": "display_name", "string_value": name}
    given = {key: value for key, value in named.items() if value}
    response = kubeflow.call(doing, method, filter=json.dumps({"predicates": [predicate]}), page_size=100, **given)
    return next((entry for entry in getattr(response, field) or [] if entry.display_name == name), None)
