"""Schedules on Kubeflow: create or replace, list, pause, resume, delete."""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from metseg.errors import KubeflowError, UsageError
from pipelines.submission.cron import Cron
from pipelines.submission.kubeflow_client import CREATE_SECONDS, Kubeflow, Unreachable
from pipelines.submission.pipeline_package import Package
from pipelines.submission.pod_events import Cluster
from pipelines.submission.submit import Started, experiment, pipeline_version, search

logger = logging.getLogger(__name__)

PAGE = 100
ZONE_SETTING = ("pipeline-install-config", "cronScheduleTimezone")
"""ConfigMap and key with the time zone of Kubeflow's scheduler."""


@dataclass(frozen=True)
class Zone:
    """The zone of a schedule's times.

    Attributes:
        name: of the zone.
        known: whether it was read from Kubernetes; else it is Kubeflow's default.
    """

    name: str
    known: bool

    @property
    def text(self) -> str:
        """The zone as messages show it."""
        if self.known:
            return self.name
        return f"{self.name}, unless Kubeflow's ConfigMap {ZONE_SETTING[0]} names another in {ZONE_SETTING[1]}"

    def now(self) -> datetime:
        """Return the current time in the zone."""
        return datetime.now(ZoneInfo(self.name))


def zone() -> Zone:
    """Return the time zone of Kubeflow's scheduler, which its API does not report."""
    name = Cluster("kubeflow").setting(*ZONE_SETTING)
    try:
        ZoneInfo(name)
    except (ValueError, KeyError, OSError):
        return Zone("UTC", known=False)
    return Zone(name, known=True)


def schedule(kubeflow: Kubeflow, package: Package, parameters: dict[str, Any], name: str, cron: Cron) -> Started:
    """Create a schedule of the pipeline; it replaces all schedules with its name.

    Raises:
        KubeflowError: see `Kubeflow.call`; the message names the schedules that exist.
    """
    models = kubeflow.models
    pipeline, version = pipeline_version(kubeflow, package)
    within = experiment(kubeflow)
    earlier = [known for known in _all(kubeflow) if known.display_name == name and known.experiment_id == within]
    body = models.V2beta1RecurringRun(
        display_name=name,
        experiment_id=within,
        pipeline_version_reference=models.V2beta1PipelineVersionReference(
            pipeline_id=pipeline, pipeline_version_id=version
        ),
        runtime_config=models.V2beta1RuntimeConfig(parameters=parameters),
        trigger=models.V2beta1Trigger(cron_schedule=models.V2beta1CronSchedule(cron=cron.text)),
        mode=models.RecurringRunMode.ENABLE,
        # One run at a time and no catching up: each would train on the same data.
        max_concurrency="1",
        no_catchup=True,
    )
    identity = _create(kubeflow, body, earlier).recurring_run_id
    for number, replaced in enumerate(earlier):
        try:
            _delete(kubeflow, replaced.recurring_run_id)
        except KubeflowError as error:
            left = ", ".join(known.recurring_run_id for known in earlier[number:])
            raise KubeflowError(
                f"{error}. The schedule {name} was created ({identity}), but {left} with the same name may still "
                "exist: all of them would train. Repeat the command to keep one and delete the others"
            ) from error
        logger.info("the schedule %s with the same name is replaced", replaced.recurring_run_id)
    return Started(identity, kubeflow.page(f"recurringrun/details/{identity}"))


def _create(kubeflow: Kubeflow, body: Any, earlier: list[Any]) -> Any:
    """Create a schedule; if the response is lost, search for it."""
    create = kubeflow.schedules.recurring_run_service_create_recurring_run
    try:
        return kubeflow.call("creating the schedule", create, body, _request_timeout=CREATE_SECONDS)
    except Unreachable as error:
        known = {entry.recurring_run_id for entry in earlier}
        own = (body.display_name, body.experiment_id, body.trigger.cron_schedule.cron)

        def is_created(entry: Any) -> bool:
            cron = entry.trigger and entry.trigger.cron_schedule and entry.trigger.cron_schedule.cron
            return entry.recurring_run_id not in known and (entry.display_name, entry.experiment_id, cron) == own

        again = f"Repeating the command is safe: it replaces every schedule named {body.display_name}"
        try:
            made = search(lambda: _all(kubeflow), is_created)
        except KubeflowError as unseen:
            raise Unreachable(f"{error}. Whether the schedule exists is not known ({unseen}). {again}") from error
        if made is None:
            raise Unreachable(f"{error}. No new schedule named {body.display_name} exists. {again}") from error
        logger.warning("Kubeflow did not respond in time, but the schedule was created")
        return made


def pause(kubeflow: Kubeflow, name: str) -> str:
    """Pause a schedule; a run that it started continues."""
    entry = find(kubeflow, name)
    disable = kubeflow.schedules.recurring_run_service_disable_recurring_run
    kubeflow.call("pausing the schedule", disable, entry.recurring_run_id)
    return f"{entry.display_name} is paused; metseg submit --resume {json.dumps(entry.display_name)} resumes it"


def resume(kubeflow: Kubeflow, name: str) -> str:
    """Resume a paused schedule; missed runs are not made up."""
    entry = find(kubeflow, name)
    enable = kubeflow.schedules.recurring_run_service_enable_recurring_run
    kubeflow.call("resuming the schedule", enable, entry.recurring_run_id)
    there = zone()
    following = next_time(entry, None, there)
    when = f": next at {moment(following, there)} ({there.text})" if following else ""
    return f"{entry.display_name} is resumed{when}"


def delete(kubeflow: Kubeflow, name: str) -> str:
    """Delete a schedule; its runs stay."""
    entry = find(kubeflow, name)
    _delete(kubeflow, entry.recurring_run_id)
    return f"{entry.display_name} is deleted; its runs stay"


def find(kubeflow: Kubeflow, name: str) -> Any:
    """Return the schedule with a name or id.

    Raises:
        UsageError: none or several match.
    """
    known = _all(kubeflow)
    matches = [entry for entry in known if name in (entry.display_name, entry.recurring_run_id)]
    if len(matches) > 1:
        ids = ", ".join(entry.recurring_run_id for entry in matches)
        raise UsageError(f"{len(matches)} schedules are named {name}: give the id of one ({ids})")
    if not matches:
        names = ", ".join(sorted(entry.display_name for entry in known)) or "none"
        raise UsageError(f"no schedule is named {name}; existing schedules: {names}")
    return matches[0]


def listed(kubeflow: Kubeflow, there: Zone) -> list[tuple[str, ...]]:
    """Return the texts of every schedule's row, sorted by name.

    A row has name, state, times, next run and last run.
    """
    return [_row(kubeflow, entry, there) for entry in sorted(_all(kubeflow), key=lambda entry: entry.display_name)]


def _row(kubeflow: Kubeflow, entry: Any, there: Zone) -> tuple[str, ...]:
    predicate = {"operation": "EQUALS", "key": "recurring_run_id", "string_value": entry.recurring_run_id}
    response = kubeflow.call(
        "reading the runs of a schedule",
        kubeflow.runs.run_service_list_runs,
        filter=json.dumps({"predicates": [predicate]}),
        sort_by="created_at desc",
        page_size=1,
        **({"namespace": kubeflow.namespace} if kubeflow.namespace else {}),
    )
    last = (response.runs or [None])[0]
    enabled = entry.status == "ENABLED"
    following = next_time(entry, last, there) if enabled else None
    return (
        str(entry.display_name),
        "enabled" if enabled else "paused" if entry.status == "DISABLED" else str(entry.status).lower(),
        _when(entry),
        moment(following, there) if following else "–",
        f"{moment(last.created_at, there)} {str(last.state).lower()}" if last else "–",
    )


def moment(time: datetime, there: Zone) -> str:
    """Return a time as text, in the zone of the schedules."""
    return time.astimezone(ZoneInfo(there.name)).strftime("%Y-%m-%d %H:%M")


def next_time(entry: Any, last: Any | None, there: Zone) -> datetime | None:
    """Return the time of a schedule's next run; None if unknown."""
    trigger = entry.trigger
    if trigger and trigger.cron_schedule and trigger.cron_schedule.cron:
        try:
            return Cron.parse(trigger.cron_schedule.cron).next(there.now())
        except UsageError:
            return None
    if trigger and trigger.periodic_schedule and trigger.periodic_schedule.interval_second:
        interval = timedelta(seconds=int(trigger.periodic_schedule.interval_second))
        before: datetime = last.created_at if last else entry.created_at
        return max(before + interval, datetime.now(UTC))
    return None


def _when(entry: Any) -> str:
    trigger = entry.trigger
    if trigger and trigger.cron_schedule and trigger.cron_schedule.cron:
        text = str(trigger.cron_schedule.cron)
        return text.removeprefix("0 ") if len(text.split()) == 6 else text
    if trigger and trigger.periodic_schedule:
        return f"every {trigger.periodic_schedule.interval_second} s"
    return "–"


def _delete(kubeflow: Kubeflow, identity: str) -> None:
    kubeflow.call("deleting the schedule", kubeflow.schedules.recurring_run_service_delete_recurring_run, identity)


def _all(kubeflow: Kubeflow) -> list[Any]:
    """Return every schedule, page after page."""
    entries: list[Any] = []
    options = {"namespace": kubeflow.namespace} if kubeflow.namespace else {}
    list_page = kubeflow.schedules.recurring_run_service_list_recurring_runs
    while True:
        response = kubeflow.call("reading schedules", list_page, page_size=PAGE, **options)
        entries += response.recurring_runs or ()
        if not response.next_page_token:
            return entries
        options["page_token"] = response.next_page_token
