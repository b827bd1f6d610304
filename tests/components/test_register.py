"""The register step on a real MLflow: what it registers, what it turns away, and that a retry changes nothing."""

from __future__ import annotations

import multiprocessing
import os
import signal
from contextlib import nullcontext
from itertools import count
from pathlib import Path
from types import SimpleNamespace

import pytest
from PIL import Image

from components.configuration.settings import Configuration
from components.evaluate.step import evaluate_champion
from components.register.step import register
from metseg.errors import MetsegError
from metseg.files import read_json, write_json
from metseg.imaging.preprocessing.specification import PreprocessingSpecification
from metseg.report.evaluation_data import WORST_CASES
from metseg.serving.reconciliation.registry_state import AliasRegistry
from metseg.settings import Settings
from metseg.tracking import model_registry
from metseg.tracking.champion import OPPONENT_TAG
from metseg.tracking.data_lineage import patients_seen
from metseg.tracking.registration import RUN_RECORD, RunRecord
from metseg.tracking.serving_labels import CHALLENGER
from metseg.training.result_records import EvaluationRecord
from tests.components.registering import COMMIT, GOOD, IMAGE, TEST_PATIENTS, Pipeline, judged, register_until
from tests.mlflow_store import crown, fresh_store
from tests.training_records import training_record
from tests.validation.cohorts import CHANNELS

SERVED_IN_PLACE = {"METSEG_WORKSPACE", "MLFLOW_TRACKING_URI", "METSEG_ARTIFACT_ROOT"}
PRELOADED = [
    "mlflow.artifacts",
    "mlflow.store.model_registry.sqlalchemy_store",
    "mlflow.store.tracking.sqlalchemy_store",
    "pyarrow.parquet",
    "metseg.validation.reference_statistics",
    "components.register.step",
    "tests.components.registering",
]
"""What the killed processes would import each for itself."""

BAD = [0.3, 0.35, 0.2, 0.4, 0.25]


@pytest.fixture(scope="module", autouse=True)
def environment(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tracking")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("METSEG_WORKSPACE", str(folder))
        patch.setenv("MLFLOW_TRACKING_URI", fresh_store(folder))
        patch.setenv("METSEG_ARTIFACT_ROOT", (folder / "artifacts").as_uri())
        yield {name: os.environ[name] for name in SERVED_IN_PLACE}


@pytest.fixture
def name(request) -> str:
    return request.node.name.partition("[")[0]


def result(pipeline: Pipeline, attempt: str = "registration") -> tuple[dict, dict]:
    """Verdict and registration as the step wrote them."""
    return tuple(read_json(pipeline.folder / attempt / file) for file in ("verdict.json", "registration.json"))


def champion_of(pipeline: Pipeline, **changes) -> EvaluationRecord:
    """The champion's evaluation: the registered version of an earlier run."""
    (version,) = model_registry.versions(pipeline.tracking, pipeline.model_name)
    return judged("nested_unet", GOOD, version=version.number, **changes)


def crowned(folder: Path, name: str) -> Pipeline:
    """A run whose model is champion."""
    pipeline = Pipeline(folder / "earlier", name, {"nested_unet": GOOD})
    register(**pipeline.arguments())
    crown(pipeline.tracking, name, 1)
    pipeline.tracking.delete_registered_model_alias(name, CHALLENGER)
    return pipeline


def test_a_version_says_what_it_is_made_from_and_how_it_was_judged(tmp_path, name):
    pipeline = Pipeline(tmp_path / "run", name, {"nested_unet": GOOD, "unet": [0.7] * 5})
    register(**pipeline.arguments())
    (version,) = model_registry.versions(pipeline.tracking, name)
    winner = pipeline.records["nested_unet"]
    assert version.aliases == ("challenger",) and version.run == winner.training.run
    expected = {
        "architecture": "nested_unet",
        "inference_head": "average",
        "channels": "t1n,t1c",
        "labels": "1,3",
        "data.version": "0.dir",
        "patients.train": "5: patient a, patient b, patient c, patient d, patient e",
        "patients.validation": "5: patient f, patient g, patient h, patient i, patient j",
        "patients.test": "5: patient k, patient l, patient m, patient n, patient o",
        "git.commit": COMMIT,
        "container.image": IMAGE,
        "pipeline.run_id": pipeline.run,
        "gate": "passed",
        "threshold": "0.45",
        "minimum_volume_mm3": "10.0",
        "preprocessing.sha256": PreprocessingSpecification(CHANNELS).digest(),
        "savedmodel.sha256": winner.savedmodel_sha256,
        "test.dice": "0.812000",  # the mean of 0.80, 0.82, 0.78, 0.85 and 0.81
        "test.lesion_f1": "1.000000",
        "test.lesion_f1.interval": "1.0000 to 1.0000",
    }
    assert {key: version.tags.get(key) for key in expected} == expected
    low, high = map(float, version.tags["test.dice.interval"].split(" to "))
    assert 0.78 < low < 0.812 < high < 0.85
    assert "promote" in version.tags["verdict"]
    described = pipeline.tracking.get_model_version(name, "1").description
    for part in ("nested_unet", "0.812", "0.dir", COMMIT, pipeline.run, "5 train", "Not a medical device"):
        assert part in described


def test_the_model_card_lies_among_the_files_of_the_version(tmp_path, name):
    pipeline = Pipeline(tmp_path / "run", name, {"nested_unet": GOOD})
    register(**pipeline.arguments())
    (version,) = model_registry.versions(pipeline.tracking, name)
    files = model_registry.download(pipeline.tracking, name, 1, tmp_path / "down")
    card = (files / "model_card.md").read_text()
    assert f"{name}, version 1" in card and "Not a medical device" in card
    assert card == (tmp_path / "run" / "registration" / "model_card.md").read_text()
    from metseg.saved_model_digest import saved_model_digest

    assert saved_model_digest(files / "tf2model") == version.tags["savedmodel.sha256"]


@pytest.mark.parametrize(
    ("networks", "more", "why"),
    [
        ({"nested_unet": BAD}, {}, "floor"),
        ({"nested_unet": GOOD}, {"critical": ["mask_is_binary"]}, "mask_is_binary"),
        ({"nested_unet": GOOD}, {"served_check": None}, "served graph"),
        ({"nested_unet": GOOD}, {"training_patients": (TEST_PATIENTS[2],)}, TEST_PATIENTS[2]),
    ],
)
def test_a_rejected_candidate_is_registered_nowhere_and_the_step_succeeds(tmp_path, networks, more, why, request):
    name = request.node.name.replace("[", "-").replace("]", "")
    pipeline = Pipeline(tmp_path / "run", name, networks, **more)
    register(**pipeline.arguments())
    verdict, record = result(pipeline)
    assert verdict["outcome"] == "rejected" and why in verdict["summary"]
    assert record == {"format": 1, "run": pipeline.run, "registered": None}
    assert model_registry.versions(pipeline.tracking, name) == []
    tags = pipeline.tracking.get_run(pipeline.run).data.tags
    assert (tags["verdict"], tags["winner"]) == ("rejected", "nested_unet")
    stored = pipeline.tracking.download_artifacts(pipeline.run, "verdict.json", str(tmp_path))
    assert read_json(Path(stored)) == verdict


@pytest.mark.parametrize(
    ("outcome", "changes"),
    [("tie", {}), ("incomparable", {"channels": ("t1n",)}), ("rejected", {"training_patients": (TEST_PATIENTS[0],)})],
)
def test_a_champion_that_is_not_beaten_keeps_its_alias(tmp_path, outcome, changes, request):
    name = request.node.name.replace("[", "-").replace("]", "")
    earlier = crowned(tmp_path, name)
    pipeline = Pipeline(tmp_path / "run", name, {"nested_unet": GOOD}, champion_of(earlier, **changes))
    register(**pipeline.arguments())
    assert result(pipeline)[0]["outcome"] == outcome
    (version,) = model_registry.versions(pipeline.tracking, name)
    assert version.aliases == ("champion",)


def test_a_better_model_is_challenger_and_moves_no_other_alias(tmp_path, name):
    earlier = crowned(tmp_path, name)
    better = [dice + 0.05 for dice in GOOD]
    pipeline = Pipeline(tmp_path / "run", name, {"nested_unet": better}, champion_of(earlier))
    register(**pipeline.arguments())
    aliases = {version.number: version.aliases for version in model_registry.versions(pipeline.tracking, name)}
    assert aliases == {1: ("champion",), 2: ("challenger",)}


def test_a_champion_that_came_while_the_run_trained_is_not_passed_over(tmp_path, name):
    earlier = crowned(tmp_path, name)
    opponent = champion_of(earlier)
    rival = Pipeline(tmp_path / "rival", name, {"nested_unet": [dice + 0.1 for dice in GOOD]}, opponent)
    register(**rival.arguments())
    crown(rival.tracking, name, 2)
    late = Pipeline(tmp_path / "late", name, {"nested_unet": [dice + 0.05 for dice in GOOD]}, opponent)
    register(**late.arguments())
    verdict, record = result(late)
    assert record["registered"] is None and verdict["outcome"] == "rejected"
    assert "Compared with version 1, but version 2 is champion now" in verdict["summary"]


def test_a_retry_comes_to_the_same_verdict_and_the_same_version(tmp_path, name):
    pipeline = Pipeline(tmp_path / "run", name, {"nested_unet": GOOD})
    register(**pipeline.arguments())
    register(**pipeline.arguments("again"))
    assert result(pipeline, "again") == result(pipeline)
    assert [version.number for version in model_registry.versions(pipeline.tracking, name)] == [1]


def test_a_retry_after_promotion_keeps_the_verdict_and_calls_no_champion_challenger(tmp_path, name):
    earlier = crowned(tmp_path, name)
    opponent = champion_of(earlier)
    pipeline = Pipeline(tmp_path / "run", name, {"nested_unet": [dice + 0.05 for dice in GOOD]}, opponent)
    register(**pipeline.arguments())
    crown(pipeline.tracking, name, 2)
    pipeline.tracking.delete_registered_model_alias(name, CHALLENGER)
    register(**pipeline.arguments("again"))
    assert result(pipeline, "again") == result(pipeline)
    aliases = {version.number: version.aliases for version in model_registry.versions(pipeline.tracking, name)}
    assert aliases == {1: ("previous",), 2: ("champion",)}


def test_a_retry_does_not_nominate_what_serving_refused(tmp_path, name):
    pipeline = Pipeline(tmp_path / "run", name, {"nested_unet": GOOD})
    register(**pipeline.arguments())
    AliasRegistry(Settings.from_environment()).tag_version(name, 1, model_registry.REFUSED, "a golden answer differs")
    pipeline.tracking.delete_registered_model_alias(name, CHALLENGER)
    register(**pipeline.arguments("again"))
    (version,) = model_registry.versions(pipeline.tracking, name)
    assert version.tags["serving"] == "refused" and version.aliases == ()


@pytest.mark.parametrize("kept", [True, False])
def test_the_card_shows_pictures_where_mlflow_may_keep_pictures(tmp_path, name, kept):
    pipeline = Pipeline(tmp_path / "run", name, {"nested_unet": GOOD})
    pictures = tmp_path / "run" / "nested_unet" / WORST_CASES
    pictures.mkdir()
    Image.new("L", (4, 4)).save(pictures / "worst-1.png")
    write_json(pictures / f"{WORST_CASES}.json", [{"picture": "worst-1.png", "caption": "Worst: one missed lesion"}])
    if kept:
        run = pipeline.records["nested_unet"].training.run
        pipeline.tracking.log_artifacts(run, str(pictures), f"evaluation/{WORST_CASES}")
    register(**pipeline.arguments())
    number = model_registry.versions(pipeline.tracking, name)[-1].number
    files = model_registry.download(pipeline.tracking, name, number, tmp_path / "down")
    for folder in (files, tmp_path / "run" / "registration"):
        shown = f"![Worst: one missed lesion]({WORST_CASES}/worst-1.png)" in (folder / "model_card.md").read_text()
        assert shown == (folder / WORST_CASES / "worst-1.png").exists() == kept


def test_other_models_than_those_of_the_earlier_verdict_are_judged_anew(tmp_path, name):
    pipeline = Pipeline(tmp_path / "run", name, {"nested_unet": BAD})
    register(**pipeline.arguments())
    assert result(pipeline)[0]["outcome"] == "rejected"
    training = pipeline.records["nested_unet"].training
    retrained = judged("nested_unet", GOOD, training=training, savedmodel_sha256="another")
    retrained.write(pipeline.folder / "nested_unet" / "evaluation.json")
    register(**pipeline.arguments("again"))
    assert result(pipeline, "again")[0]["outcome"] == "promote"


def test_the_step_killed_after_any_change_is_completed_by_a_retry(tmp_path, environment):
    processes = multiprocessing.get_context("forkserver")
    processes.set_forkserver_preload(PRELOADED)
    for killed_at in count(1):
        pipeline = Pipeline(tmp_path / str(killed_at), f"killed-{killed_at}", {"nested_unet": GOOD})
        step = processes.Process(target=register_until, args=(killed_at, environment, pipeline.arguments("killed")))
        step.start()
        step.join()
        if step.exitcode == 0:
            break
        assert step.exitcode == -signal.SIGKILL
        register(**pipeline.arguments())
        verdict, record = result(pipeline)
        assert verdict["outcome"] == "promote" and record["registered"]["version"] == 1
        (version,) = model_registry.versions(pipeline.tracking, pipeline.model_name)
        assert version.aliases == ("challenger",) and version.tags["gate"] == "passed"
        assert version.tags["savedmodel.sha256"] == pipeline.records["nested_unet"].savedmodel_sha256
        files = model_registry.download(pipeline.tracking, pipeline.model_name, 1, tmp_path / f"{killed_at}-down")
        assert "Not a medical device" in (files / "model_card.md").read_text()
    assert killed_at > 8, "verdict, two tags, statistics, model, version, card and alias are changes"


def test_a_champion_met_once_is_met_again_after_its_alias_moved(tmp_path, name):
    """A retry of its evaluation after the promotion of this run must not compare the new model with itself."""
    first = Pipeline(tmp_path / "run", name, {"nested_unet": GOOD})
    evaluate_champion(first.folder / "cohort", first.run, name, tmp_path / "first")
    assert first.tracking.get_run(first.run).data.tags[OPPONENT_TAG] == "none"
    register(**first.arguments())
    crown(first.tracking, name, 1)
    evaluate_champion(first.folder / "cohort", first.run, name, tmp_path / "again")
    said = read_json(tmp_path / "again" / "evaluation.json")["reason"]
    assert said == "there was no champion when this run began"


def test_a_champions_evaluation_fails_where_the_run_asked_for_an_accelerator(tmp_path, name, monkeypatch):
    """Where there is no champion, its task was given none and says so instead."""
    from components.evaluate import task

    def evaluate(pipeline: Pipeline, folder: Path, opponent: int | None) -> None:
        cohort = pipeline.folder / "cohort"
        values = {"data_reference": "s3://scans/a", "model_name": name, "pod_evaluate_gpu_count": 1}
        Configuration.of(values).write(cohort)
        RunRecord(pipeline.run, opponent).write(cohort / RUN_RECORD)
        pipeline.manifest.write(cohort / "manifest.json")
        task.evaluate_champion(SimpleNamespace(path=str(cohort)), SimpleNamespace(path=str(folder)))

    monkeypatch.setattr("tensorflow.config.get_visible_devices", lambda kind: [])
    monkeypatch.setattr(task, "executing", lambda step, folder, after: nullcontext(Path(folder)))
    evaluate(Pipeline(tmp_path / "first", name, {"nested_unet": GOOD}), tmp_path / "absent", None)
    assert "no champion" in read_json(tmp_path / "absent" / "evaluation.json")["reason"]
    champion = crowned(tmp_path, name)
    training = training_record("nested_unet", CHANNELS, tuple(champion.manifest.labels))
    training.write(tmp_path / "training.json")
    champion.tracking.log_artifact(champion.records["nested_unet"].training.run, str(tmp_path / "training.json"))
    later = Pipeline(tmp_path / "later", name, {"nested_unet": GOOD})
    with pytest.raises(MetsegError, match=r"requested 1 .*\(pod_evaluate_gpu_count\)"):
        evaluate(later, tmp_path / "champion", 1)


def test_an_opponent_that_is_gone_is_named(tmp_path, name):
    pipeline = Pipeline(tmp_path / "run", name, {"nested_unet": GOOD})
    pipeline.tracking.set_tag(pipeline.run, OPPONENT_TAG, "7")
    with pytest.raises(MetsegError, match="version 7"):
        evaluate_champion(pipeline.folder / "cohort", pipeline.run, name, tmp_path / "champion")


def test_whom_a_champion_has_seen_is_read_from_its_runs_manifest(tmp_path, name):
    pipeline = crowned(tmp_path, name)
    (version,) = model_registry.versions(pipeline.tracking, name)
    training = training_record(training_patients=("patient a",), validation_patients=("someone else",))
    seen, record = patients_seen(pipeline.tracking, version, training)
    assert seen == {f"patient {case}" for case in "abcdefghij"} | {"someone else"}
    assert f"manifest of run {pipeline.run}" in record


def test_without_a_manifest_the_training_record_says_whom_a_champion_has_seen(tmp_path, name):
    pipeline = crowned(tmp_path, name)
    (version,) = model_registry.versions(pipeline.tracking, name)
    lost = model_registry.Version(name, 1, version.run, {**version.tags, "pipeline.run_id": version.run}, ())
    training = training_record(training_patients=("patient a",), validation_patients=("patient f",))
    seen, record = patients_seen(pipeline.tracking, lost, training)
    assert seen == {"patient a", "patient f"} and "training.json" in record
