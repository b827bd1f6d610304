"""The life of a schedule: made, replaced, listed, paused, resumed, deleted; and the times that it names."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import kfp_server_api
import pytest

from components.configuration.parsing import unpack
from metseg.errors import UsageError
from pipelines.submission.cron import Cron
from pipelines.submission.pipeline_package import documents
from tests.conftest import ROOT
from tests.pipelines.submission import DATA, recorded
from tests.pipelines.submission.kubeflow_server import UNAVAILABLE
from tests.pipelines.submission.schema import Refused

WEEKLY = (*DATA, "--cron", "0 3 * * 1", "--name", "weekly")
MADE_AT_92EF0E7 = ROOT / "tests/compatibility/schedule-92ef0e7.json"
ZONE_PATH = "/api/v1/namespaces/kubeflow/configmaps/pipeline-install-config"


def test_cron_makes_a_schedule_and_takes_the_place_of_the_one_of_that_name(submit, kubeflow, host):
    code, said = submit(*DATA, "--cron", "0 3 * * 1")
    assert code == 0 and not kubeflow.runs
    (first,) = kubeflow.schedules.values()
    assert first["trigger"]["cron_schedule"]["cron"] == "0 0 3 * * 1"
    assert first["mode"] == "ENABLE" and first["max_concurrency"] == "1" and first["no_catchup"] is True
    assert f"{host}/#/recurringrun/details/{first['recurring_run_id']}" in said
    submit(*DATA, "--cron", "30 4 * * *")
    (second,) = kubeflow.schedules.values()
    assert second["trigger"]["cron_schedule"]["cron"] == "0 30 4 * * *"
    submit(*DATA, "--cron", "30 4 * * *", "--name", "other")
    assert len(kubeflow.schedules) == 2


def test_schedule_whose_answer_is_lost_is_found_and_takes_the_others_place(submit, kubeflow):
    submit(*WEEKLY)
    (first,) = kubeflow.schedules
    kubeflow.lose = 1
    code, said = submit(*DATA, "--cron", "30 4 * * *", "--name", "weekly")
    (second,) = kubeflow.schedules
    assert code == 0 and second != first and "did not respond in time, but the schedule was created" in said
    assert f"recurringrun/details/{second}" in said


def test_schedule_that_was_not_made_is_said_not_to_be_there_and_the_earlier_one_stays(submit, kubeflow, monkeypatch):
    submit(*WEEKLY)

    def refuse(*_):
        raise Refused(UNAVAILABLE, "upstream request timeout")

    monkeypatch.setattr(kubeflow, "_recurring_run_service_create_recurring_run", refuse)
    code, said = submit(*DATA, "--cron", "0 3 * * 1", "--name", "weekly")
    assert code == 1 and "No new schedule named weekly exists" in said and "Repeating the command is safe" in said
    assert len(kubeflow.schedules) == 1
    lose = kubeflow._recurring_run_service_list_recurring_runs
    answered = []

    def once(*arguments):
        answered.append(arguments)
        return lose(*arguments) if len(answered) == 1 else refuse()

    monkeypatch.setattr(kubeflow, "_recurring_run_service_list_recurring_runs", once)
    code, said = submit(*DATA, "--cron", "0 3 * * 1", "--name", "weekly")
    assert code == 1 and "Whether the schedule exists is not known" in said


def test_earlier_schedule_that_cannot_be_deleted_is_named_beside_the_new_one(submit, kubeflow, monkeypatch):
    submit(*WEEKLY)
    (first,) = kubeflow.schedules
    with monkeypatch.context() as patched:

        def refuse(*_):
            raise Refused(UNAVAILABLE, "upstream request timeout")

        patched.setattr(kubeflow, "_recurring_run_service_delete_recurring_run", refuse)
        code, said = submit(*WEEKLY)
    second = list(kubeflow.schedules)[-1]
    assert (
        code == 1
        and f"The schedule weekly was created ({second}), but {first} with the same name may still exist" in said
    )
    assert submit(*WEEKLY)[0] == 0 and len(kubeflow.schedules) == 1


def test_making_a_schedule_may_take_three_minutes(submit, monkeypatch):
    asked = []
    create = kfp_server_api.RecurringRunServiceApi.recurring_run_service_create_recurring_run
    monkeypatch.setattr(
        kfp_server_api.RecurringRunServiceApi,
        "recurring_run_service_create_recurring_run",
        lambda self, body, **named: asked.append(named["_request_timeout"]) or create(self, body, **named),
    )
    submit(*WEEKLY)
    assert asked == [180]


def test_zone_of_the_times_is_said_and_asked_of_kubernetes_where_it_can_be(submit, kubernetes):
    _, said = submit(*WEEKLY)
    assert "(UTC, unless Kubeflow's ConfigMap pipeline-install-config names another in cronScheduleTimezone)" in said
    kubernetes[ZONE_PATH] = {"data": {"cronScheduleTimezone": "Europe/Berlin"}}
    _, said = submit(*WEEKLY)
    assert "03:00 (Europe/Berlin)" in said


def test_schedules_are_listed_with_state_next_and_last_run(submit, kubeflow):
    submit(*WEEKLY)
    (weekly,) = kubeflow.schedules.values()
    submit(*DATA)
    run = next(iter(kubeflow.runs.values()))
    run |= {"recurring_run_id": weekly["recurring_run_id"], "state": "FAILED", "created_at": "2026-11-23T03:00:05Z"}
    submit(*DATA, "--cron", "0 0 1 1 *", "--name", "yearly")
    submit("--pause", "yearly")
    code, said = submit("--schedules")
    assert code == 0
    lines = {line.split()[0]: line for line in said.splitlines() if line.startswith(("weekly", "yearly"))}
    now = datetime.now(UTC)
    monday = (now + timedelta(days=(7 - now.weekday()) % 7)).replace(hour=3, minute=0)
    monday += timedelta(days=7) if monday <= now else timedelta()
    assert "enabled" in lines["weekly"] and f"{monday:%Y-%m-%d} 03:00" in lines["weekly"]
    assert "2026-11-23 03:00 failed" in lines["weekly"]
    assert "paused" in lines["yearly"] and "03:00" not in lines["yearly"]
    assert "in UTC, unless" in said


def test_no_schedules_are_said_to_be_none(submit):
    code, said = submit("--schedules")
    assert code == 0 and "no schedules" in said and "--cron" in said


def test_schedule_of_the_recording_is_listed(submit, kubeflow):
    (entry,) = recorded.answer("recurring-runs")["recurringRuns"]
    kubeflow.schedules[entry["recurring_run_id"]] = entry
    code, said = submit("--schedules")
    assert code == 0 and "every2" in said and "*/2 * * * *" in said and "enabled" in said


@pytest.fixture
def old(kubeflow):
    """The schedule `weekly` in a Kubeflow that holds what `metseg submit --cron` of 92ef0e7 made there."""
    for name, entries in json.loads(MADE_AT_92EF0E7.read_text(encoding="utf-8")).items():
        getattr(kubeflow, name).update(entries)
    (version,) = kubeflow.versions.values()
    version["_documents"] = documents(recorded.FIXTURE.read_text(encoding="utf-8"))
    (schedule,) = kubeflow.schedules.values()
    return schedule


def test_schedule_of_92ef0e7_is_listed_paused_and_resumed(submit, old):
    code, said = submit("--schedules")
    assert code == 0 and "weekly" in said and "0 3 * * 1" in said and "enabled" in said
    for option, state in (("--pause", "DISABLED"), ("--resume", "ENABLED")):
        assert submit(option, "weekly")[0] == 0 and old["status"] == state


def test_schedule_of_92ef0e7_is_made_anew_by_new_names_alone(submit, kubeflow, old):
    given = old["runtime_config"]["parameters"]
    renamed = {
        "reference": "data_reference",
        "clahe": "data_clahe",
        "epochs": "train_epochs",
        "floor_dice": "gate_dice",
        "promotion": "gate_promotion",
        "accelerator_count": "gpu_count",
        "accelerator_node_selector": "gpu_node_selector",
    }
    assert set(renamed) == set(given)
    again = ("--cron", "0 3 * * 1", "--name", "weekly")
    text = {name: value if isinstance(value, str) else json.dumps(value) for name, value in given.items()}
    for name, new in renamed.items():
        code, said = submit(*again, "--param", f"{name}={text[name]}")
        assert code == 2 and f"{name} is named {new} now" in said
    assert list(kubeflow.schedules.values()) == [old]
    code, said = submit(*again, *(part for name in given for part in ("--param", f"{renamed[name]}={text[name]}")))
    (schedule,) = kubeflow.schedules.values()
    assert code == 0 and schedule["recurring_run_id"] != old["recurring_run_id"]
    made = unpack(schedule["runtime_config"]["parameters"])
    assert made == {renamed[name]: value for name, value in given.items()}
    assert schedule["pipeline_version_reference"]["pipeline_id"] == old["pipeline_version_reference"]["pipeline_id"]
    assert schedule["pipeline_version_reference"] != old["pipeline_version_reference"]


def test_more_schedules_than_a_page_holds_are_all_listed(submit, kubeflow):
    (entry,) = recorded.answer("recurring-runs")["recurringRuns"]
    for number in range(103):
        kubeflow.schedules[f"s{number}"] = {**entry, "recurring_run_id": f"s{number}", "display_name": f"n{number:03d}"}
    _, said = submit("--schedules")
    assert "n000" in said and "n102" in said


def test_schedule_is_paused_resumed_and_deleted_by_name_or_id(submit, kubeflow):
    submit(*WEEKLY)
    (schedule,) = kubeflow.schedules.values()
    code, said = submit("--pause", "weekly")
    assert code == 0 and schedule["status"] == "DISABLED" and "--resume" in said
    code, said = submit("--resume", schedule["recurring_run_id"])
    assert code == 0 and schedule["status"] == "ENABLED" and "next at" in said
    code, said = submit("--delete", "weekly")
    assert code == 0 and not kubeflow.schedules and "its runs stay" in said


def test_name_of_no_schedule_or_of_two_is_refused(submit, kubeflow):
    submit(*WEEKLY)
    code, said = submit("--delete", "daily")
    assert code == 2 and "no schedule is named daily; existing schedules: weekly" in said
    (entry,) = kubeflow.schedules.values()
    kubeflow.schedules["twin"] = {**entry, "recurring_run_id": "twin"}
    code, said = submit("--delete", "weekly")
    assert code == 2 and "2 schedules are named weekly" in said and "twin" in said and len(kubeflow.schedules) == 2


@pytest.mark.parametrize(
    ("cron", "after", "expected"),
    [
        # github.com/robfig/cron v1, spec_test.go; its seconds in front.
        ("0 */15 * * * *", "2012-07-09 14:45:00", "2012-07-09 15:00:00"),
        ("0 20-35/15 * * * *", "2012-07-09 15:45:00", "2012-07-09 16:20:00"),
        ("0 */15 * * * *", "2012-07-09 23:46:00", "2012-07-10 00:00:00"),
        ("15/35 20-35/15 1/2 */2 * *", "2012-07-09 23:35:51", "2012-07-11 01:20:15"),
        ("0 0 0 9 Apr-Oct ?", "2012-07-09 23:35:00", "2012-08-09 00:00:00"),
        ("0 0 0 */5 Apr,Aug,Oct Mon", "2012-07-09 23:35:00", "2012-08-06 00:00:00"),
        ("0 0 0 */5 Oct Mon", "2012-07-09 23:35:00", "2012-10-01 00:00:00"),
        ("0 0 0 * Feb Mon", "2012-07-09 23:35:00", "2013-02-04 00:00:00"),
        ("0 0 0 * Feb Mon/2", "2012-07-09 23:35:00", "2013-02-01 00:00:00"),
        ("0 0 0 29 Feb ?", "2012-07-09 23:35:00", "2016-02-29 00:00:00"),
        ("0 0 0 30 Feb ?", "2012-07-09 23:35:00", None),
        # Five fields, as people type them.
        ("0 3 * * 1", "2026-11-27 21:00:00", "2026-11-30 03:00:00"),
        ("0 3 * * 1", "2026-11-30 03:00:00", "2026-12-07 03:00:00"),
    ],
)
def test_next_time_is_that_of_kubeflows_scheduler(cron, after, expected):
    zone = ZoneInfo("UTC")
    found = Cron.parse(cron).next(datetime.fromisoformat(after).replace(tzinfo=zone))
    assert found == (datetime.fromisoformat(expected).replace(tzinfo=zone) if expected else None)


@pytest.mark.parametrize(
    "cron",
    [
        "daily",
        "* * *",
        "0 3 * * 1 2 3",
        "0 3 * * mon!",
        "61 * * * *",
        "0 24 * * *",
        "0 3 0 * *",
        "0 3 * * 7",
        "*/0 * * * *",
        "9-3 * * * *",
    ],
)
def test_cron_that_is_none_is_refused(cron):
    with pytest.raises(UsageError, match="minute, hour, day"):
        Cron.parse(cron)
