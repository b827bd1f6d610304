"""Versions come and go: policies, polling, labels, reloads, on a server of its own for each test."""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from google.protobuf import text_format

from metseg.errors import ServingError
from metseg.serving.model_config import read_configuration
from metseg.serving.publishing import publish, unpublish
from metseg.serving.server.version_source import aspired_versions
from metseg.tensorflow_protos import model_server_config_pb2
from tests.serving.conftest import MODEL, Running, exported, predict_request, run_server
from tests.serving.model_config_files import write_model_config

FAST = {"file_system_poll_wait_seconds": 0.1, "max_num_load_retries": 0}


@contextmanager
def server_on(base_path: Path, **flags: object) -> Iterator[Running]:
    yield from run_server(base_path, **{**FAST, **flags})


def wait_for(condition: Callable[[], bool], seconds: float = 20) -> None:
    ends = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < ends, "it did not happen in time"
        time.sleep(0.05)


def states(running: Running) -> dict[int, str]:
    return {version: status.state for version, status in running.client().versions(MODEL).items()}


@pytest.mark.parametrize(
    ("policy", "versions"),
    [
        ("", [10]),
        ("latest {}", [10]),
        ("latest { num_versions: 2 }", [9, 10]),
        ("latest { num_versions: 99 }", [2, 9, 10]),
        ("all {}", [2, 9, 10]),
        ("specific { versions: 2 versions: 10 versions: 77 }", [2, 10]),
    ],
)
def test_policy_chooses_among_folders_named_by_integers(tmp_path: Path, policy: str, versions: list[int]) -> None:
    for name in ("2", "9", "10", ".metseg-publishing-11-x", "v12", "13 ", "1_4", "1.5", "٣"):
        (tmp_path / name).mkdir()
    model = text_format.Parse(f"model_version_policy {{ {policy} }}", model_server_config_pb2.ModelConfig())
    chosen = aspired_versions(tmp_path, model.model_version_policy)
    assert chosen == {version: tmp_path / str(version) for version in versions}


def test_missing_base_path_says_nothing(tmp_path: Path) -> None:
    assert aspired_versions(tmp_path / "missing", model_server_config_pb2.ModelConfig().model_version_policy) is None


def test_server_starts_empty_and_picks_up_what_is_published(tmp_path: Path, saved_models: dict[int, Path]) -> None:
    with server_on(tmp_path / "base") as running:
        with pytest.raises(ServingError, match=rf"Servable not found for request: Latest\({MODEL}\)"):
            running.client().predict(np.zeros((1, 2, 2, 2)))
        publish(saved_models[1], running.base_path, 1)
        running.client().wait_until_available(MODEL, 1, timeout=20)
        assert exported(running.client()) == 1


def test_new_version_takes_over_without_a_gap(
    tmp_path: Path, saved_models: dict[int, Path], caplog: pytest.LogCaptureFixture
) -> None:
    publish(saved_models[1], tmp_path, 1)
    caplog.set_level("INFO", "metseg.serving")
    answered: list[int] = []
    with server_on(tmp_path) as running:
        done = threading.Event()

        def predict() -> None:
            client = running.client()
            while not done.is_set():
                answered.append(client.predict(np.zeros((1, 2, 2, 2))).version)

        caller = threading.Thread(target=predict)
        caller.start()
        wait_for(lambda: 1 in answered)
        publish(saved_models[2], tmp_path, 2)
        wait_for(lambda: states(running) == {2: "AVAILABLE", 1: "END"} and 2 in answered)
        done.set()
        caller.join()
    assert set(answered) == {1, 2}
    assert answered == sorted(answered)
    messages = [record.getMessage() for record in caplog.records]
    assert [m for m in messages if m.startswith(f"loaded {MODEL} version 2 from")]
    assert f"unloaded {MODEL} version 1" in messages


def test_broken_version_replaces_nothing_and_says_why(tmp_path: Path, saved_models: dict[int, Path]) -> None:
    publish(saved_models[1], tmp_path, 1)
    with server_on(tmp_path) as running:
        (tmp_path / "2").mkdir()
        with pytest.raises(ServingError, match="the server cannot load version 2: Could not find SavedModel"):
            running.client().wait_until_available(MODEL, 2, timeout=20)
        assert states(running) == {2: "END", 1: "AVAILABLE"}
        assert running.client().predict(np.zeros((1, 2, 2, 2))).version == 1
        (tmp_path / "2").rmdir()
        time.sleep(0.5)  # several looks without the folder
        publish(saved_models[2], tmp_path, 2)
        running.client().wait_until_available(MODEL, 2, timeout=20)


def test_failed_load_is_tried_again(tmp_path: Path, saved_models: dict[int, Path]) -> None:
    (tmp_path / "1").mkdir()
    with server_on(tmp_path, max_num_load_retries=1000, load_retry_interval_micros=100_000) as running:
        assert states(running) == {1: "LOADING"}
        shutil.copytree(saved_models[1] / "variables", tmp_path / "1" / "variables")
        shutil.copy(saved_models[1] / "saved_model.pb", tmp_path / "1" / "saved_model.pb")
        running.client().wait_until_available(MODEL, 1, timeout=20)


def test_vanished_base_path_unloads_nothing_but_an_emptied_one_does(
    tmp_path: Path, saved_models: dict[int, Path]
) -> None:
    base_path = tmp_path / "base"
    publish(saved_models[1], base_path, 1)
    with server_on(base_path) as running:
        base_path.rename(tmp_path / "away")
        time.sleep(0.5)
        assert running.client().predict(np.zeros((1, 2, 2, 2))).version == 1
        (tmp_path / "away").rename(base_path)
        unpublish(base_path, 1)
        wait_for(lambda: states(running) == {1: "END"})


def test_version_in_use_ends_after_its_last_request(tmp_path: Path, saved_models: dict[int, Path]) -> None:
    publish(saved_models[1], tmp_path, 1)
    with server_on(tmp_path) as running:
        slow = running.predictions.Predict.future(predict_request("slow", rounds=np.int32(6000)), timeout=120)
        wait_for(slow.running)
        time.sleep(0.3)
        publish(saved_models[2], tmp_path, 2)
        running.client().wait_until_available(MODEL, 2, timeout=20)
        wait_for(lambda: states(running)[1] != "AVAILABLE")
        assert not slow.done()
        assert states(running)[1] == "UNLOADING"
        assert slow.result().model_spec.version.value == 1
        wait_for(lambda: states(running)[1] == "END")


def test_labels_follow_reloads_and_never_point_at_what_is_not_loaded(
    tmp_path: Path, saved_models: dict[int, Path]
) -> None:
    base_path, config_file = tmp_path / "base", tmp_path / "models.config"
    publish(saved_models[1], base_path, 1)
    write_model_config(config_file, MODEL, base_path, [1], {"stable": 1})
    with pytest.raises(ServingError, match=r"not currently available.*allow_version_labels_for_unavailable_models"):
        next(run_server(base_path, model_config_file=str(config_file)))
    labels_ahead = {"allow_version_labels_for_unavailable_models": True}
    with server_on(base_path, model_config_file=str(config_file), **labels_ahead) as running:
        stable = running.client(label="stable")
        assert exported(stable) == 1
        publish(saved_models[2], base_path, 2)
        write_model_config(config_file, MODEL, base_path, [1, 2], {"stable": 2})
        with pytest.raises(ServingError, match="Request to assign label to version 2"):
            stable.reload(read_configuration(config_file))
        assert exported(stable) == 1
        write_model_config(config_file, MODEL, base_path, [1, 2], {"stable": 1})
        stable.reload(read_configuration(config_file))
        stable.wait_until_available(MODEL, 2, timeout=20)
        assert exported(stable) == 1
        write_model_config(config_file, MODEL, base_path, [1, 2], {"stable": 2, "previous": 1})
        stable.reload(read_configuration(config_file))
        assert exported(stable) == 2
        assert exported(running.client(label="previous")) == 1


def test_reload_serves_exactly_the_models_it_names(tmp_path: Path, saved_models: dict[int, Path]) -> None:
    publish(saved_models[1], tmp_path / "one", 1)
    publish(saved_models[2], tmp_path / "two", 2)
    both, other = tmp_path / "both.config", tmp_path / "other.config"
    write_model_config(both, MODEL, tmp_path / "one", [1], {})
    write_model_config(both, "other", tmp_path / "two", [2], {})
    write_model_config(other, "other", tmp_path / "two", [2], {})
    with server_on(tmp_path / "one", model_config_file=str(both)) as running:
        assert exported(running.client()) == 1
        assert exported(running.client(model_name="other")) == 2
        running.client().reload(read_configuration(other))
        wait_for(lambda: states(running) == {1: "END"})
        assert exported(running.client(model_name="other")) == 2
        running.client().reload(read_configuration(both))
        assert exported(running.client()) == 1, "a reload returns when new models are available"
        write_model_config(both, "third", tmp_path / "missing", [1], {})
        with pytest.raises(ServingError, match=r"1 model\(s\) did not become available: .*third.*base path"):
            running.client().reload(read_configuration(both))


def test_changed_config_file_is_applied(tmp_path: Path, saved_models: dict[int, Path]) -> None:
    config_file = tmp_path / "models.config"
    for version, folder in saved_models.items():
        publish(folder, tmp_path / "base", version)
    write_model_config(config_file, MODEL, tmp_path / "base", [1], {})
    flags = {"model_config_file": str(config_file), "model_config_file_poll_wait_seconds": 0.1}
    with server_on(tmp_path / "base", **flags) as running:
        assert states(running) == {1: "AVAILABLE"}
        write_model_config(config_file, MODEL, tmp_path / "base", [2], {"stable": 2})
        # Refused at first, for version 2 is not loaded; a file without the label loads it, and then the label holds.
        time.sleep(0.5)
        assert states(running) == {1: "AVAILABLE"}
        write_model_config(config_file, MODEL, tmp_path / "base", [2], {})
        wait_for(lambda: states(running) == {2: "AVAILABLE", 1: "END"})
        write_model_config(config_file, MODEL, tmp_path / "base", [2], {"stable": 2})
        wait_for(lambda: _described(running) == 2)


def _described(running: Running) -> object:
    try:
        return exported(running.client(label="stable"))
    except ServingError:
        return 0
