"""The life of a schedule on Kubeflow: made or replaced, listed, paused, resumed, deleted."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from metseg.errors import KubeflowError, UsageError
from pipelines.submission.cron import Cron
from pipelines.submission.kubeflow_client import CREATE_SECONDS, Kubeflow, Unreachable
from pipelines.submission.pipeline_package import Package
from pipelines.submission.pod_events import Cluster
from pipelines.submission.submit import Started, experiment, look_for, pipeline_version

logger = logging.getLogger(__name__)

PAGE = 100
ZONE_SETTING = ("pipeline-install-config", "cronScheduleTimezone")
"""ConfigMap and key from which Kubeflow's scheduler takes the zone of all its times."""


@dataclass(frozen=True)
class Zone:
    """The zone of a schedule's times.

    Attributes:
        name: of the zone.
        known: whether Kubernetes was asked; else it is Kubeflow's default.
    """

    name: str
    known: bool

    @property
    def said(self) -> str:
        """How it is told."""
        if self.known:
            return self.name
        return f"{self.name}, unless Kubeflow's ConfigMap {ZONE_SETTING[0]} names another in {ZONE_SETTING[1]}"

    def now(self) -> datetime:
        """The time there."""
        return datetime.now(ZoneInfo(self.name))


def zone() -> Zone:
    """The zone of Kubeflow's scheduler: one for all schedules, which its API does not give."""
    name = Cluster("kubeflow").setting(*ZONE_SETTING)
    try:
        ZoneInfo(name)
    except (ValueError, KeyError, OSError):
        return Zone("UTC", known=False)
    return Zone(name, known=True)


def schedule(kubeflow: Kubeflow, package: Package, parameters: dict[str, Any], name: str, cron: Cron) -> Started:
    """Have the pipeline run by a schedule, which takes the place of those of that name: all of them would train.

    Raises:
        KubeflowError: see `Kubeflow.call`; the message says which schedules are there.
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
        # One at a time, and what was missed is not made up for: each would train on the same data.
        max_concurrency="1",
        no_catchup=True,
    )
    identity = _made(kubeflow, body, earlier).recurring_run_id
    for number, replaced in enumerate(earlier):
        try:
            _delete(kubeflow, replaced.recurring_run_id)
        except KubeflowError as error:
            left = ", ".join(known.recurring_run_id for known in earlier[number:])
            raise KubeflowError(
                f"{error}. The schedule {name} is made ({identity}), and {left} of that name may still be there: all "
                "of them would train. The same call again makes one and deletes the others"
            ) from error
        logger.info("the schedule %s of that name is replaced", replaced.recurring_run_id)
    return Started(identity, kubeflow.page(f"recurringrun/details/{identity}"))


def _made(kubeflow: Kubeflow, body: Any, earlier: list[Any]) -> Any:
    """The schedule that is made of this; where the answer does not come, it is looked for."""
    create = kubeflow.schedules.recurring_run_service_create_recurring_run
    try:
        return kubeflow.call("making the schedule", create, body, _request_timeout=CREATE_SECONDS)
    except Unreachable as error:
        known = {entry.recurring_run_id for entry in earlier}
        own = (body.display_name, body.experiment_id, body.trigger.cron_schedule.cron)

        def is_meant(entry: Any) -> bool:
            cron = entry.trigger and entry.trigger.cron_schedule and entry.trigger.cron_schedule.cron
            return entry.recurring_run_id not in known and (entry.display_name, entry.experiment_id, cron) == own

        again = f"The same call again is safe: it takes the place of every schedule called {body.display_name}"
        try:
            made = look_for(lambda: _all(kubeflow), is_meant)
        except KubeflowError as unseen:
            raise Unreachable(f"{error}. Whether the schedule is there is not known ({unseen}). {again}") from error
        if made is None:
            raise Unreachable(f"{error}. No new schedule called {body.display_name} is there. {again}") from error
        logger.warning("Kubeflow did not answer in time, but the schedule is there")
        return made


def pause(kubeflow: Kubeflow, name: str) -> str:
    """Have a schedule start no more runs until it is resumed; a run that it started goes on."""
    found = find(kubeflow, name)
    stop = kubeflow.schedules.recurring_run_service_disable_recurring_run
    kubeflow.call("pausing the schedule", stop, found.recurring_run_id)
    return f"{found.display_name} is paused: metseg submit --resume {json.dumps(found.display_name)} has it go on"


def resume(kubeflow: Kubeflow, name: str) -> str:
    """Have a paused schedule start runs again; what it missed is not made up for."""
    found = find(kubeflow, name)
    go_on = kubeflow.schedules.recurring_run_service_enable_recurring_run
    kubeflow.call("resuming the schedule", go_on, found.recurring_run_id)
    there = zone()
    following = next_time(found, None, there)
    when = f": next at {moment(following, there)} ({there.said})" if following else ""
    return f"{found.display_name} goes on{when}"


def delete(kubeflow: Kubeflow, name: str) -> str:
    """Take a schedule away; the runs that it started stay."""
    found = find(kubeflow, name)
    _delete(kubeflow, found.recurring_run_id)
    return f"{found.display_name} is deleted; the runs that it started stay"


def find(kubeflow: Kubeflow, name: str) -> Any:
    """The schedule of that name or id.

    Raises:
        UsageError: there is none, or more than one.
    """
    known = _all(kubeflow)
    found = [entry for entry in known if name in (entry.display_name, entry.recurring_run_id)]
    if len(found) > 1:
        ids = ", ".join(entry.recurring_run_id for entry in found)
        raise UsageError(f"{len(found)} schedules are called {name}: give the id of one ({ids})")
    if not found:
        names = ", ".join(sorted(entry.display_name for entry in known)) or "none"
        raise UsageError(f"no schedule is called {name}; there are: {names}")
    return found[0]


@dataclass(frozen=True)
class Row:
    """A schedule as it is listed; every field is text."""

    name: str
    state: str
    when: str
    next: str
    last: str


def listed(kubeflow: Kubeflow, there: Zone) -> list[Row]:
    """Every schedule, by name."""
    return [_row(kubeflow, entry, there) for entry in sorted(_all(kubeflow), key=lambda entry: entry.display_name)]


def _row(kubeflow: Kubeflow, entry: Any, there: Zone) -> Row:
    predicate = {"operation": "EQUALS", "key": "recurring_run_id", "string_value": entry.recurring_run_id}
    answer = kubeflow.call(
        "looking for the runs of a schedule",
        kubeflow.runs.run_service_list_runs,
        filter=json.dumps({"predicates": [predicate]}),
        sort_by="created_at desc",
        page_size=1,
        **({"namespace": kubeflow.namespace} if kubeflow.namespace else {}),
    )
    last = (answer.runs or [None])[0]
    enabled = entry.status == "ENABLED"
    following = next_time(entry, last, there) if enabled else None
    return Row(
        name=str(entry.display_name),
        state="enabled" if enabled else "paused" if entry.status == "DISABLED" else str(entry.status).lower(),
        when=_when(entry),
        next=moment(following, there) if following else "–",
        last=f"{moment(last.created_at, there)} {str(last.state).lower()}" if last else "–",
    )


def moment(time: datetime, there: Zone) -> str:
    """A time as it is shown, in the zone of the schedules."""
    return time.astimezone(ZoneInfo(there.name)).strftime("%Y-%m-%d %H:%M")


def next_time(entry: Any, last: Any | None, there: Zone) -> datetime | None:
    """When a schedule starts its next run; None where nothing tells."""
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
    return list(_pages(kubeflow))


def _pages(kubeflow: Kubeflow) -> Iterator[Any]:
    token = ""
    while True:
        answer = kubeflow.call(
            "looking for schedules",
            kubeflow.schedules.recurring_run_service_list_recurring_runs,
            page_size=PAGE,
            **({"namespace": kubeflow.namespace} if kubeflow.namespace else {}),
            **({"page_token": token} if token else {}),
        )
        yield from answer.recurring_runs or ()
        token = answer.next_page_token or ""
        if not token:
            return
