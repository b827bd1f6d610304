"""A version appears whole or not at all, whatever happens to its publisher."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from metseg.errors import PublishError
from metseg.saved_model_digest import saved_model_digest
from metseg.serving.model_config import ServedModel, read_model_config
from metseg.serving.publishing import (
    publish,
    published_versions,
    unpublish,
)
from tests.serving.model_config_files import write_model_config


@pytest.fixture
def saved_model(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    (folder / "variables").mkdir(parents=True)
    (folder / "assets").mkdir()
    (folder / "saved_model.pb").write_bytes(b"graph")
    (folder / "variables" / "variables.index").write_bytes(b"index")
    return folder


def hidden(base_path: Path) -> list[str]:
    return [child.name for child in base_path.iterdir() if child.is_dir() and not child.name.isdigit()]


def test_digest_is_that_of_paths_lengths_and_contents(saved_model: Path) -> None:
    stream = b"saved_model.pb\0" + (5).to_bytes(8, "big") + b"graph"
    stream += b"variables/variables.index\0" + (5).to_bytes(8, "big") + b"index"
    assert saved_model_digest(saved_model) == hashlib.sha256(stream).hexdigest()


def test_digest_sees_every_change(saved_model: Path) -> None:
    digests = {saved_model_digest(saved_model)}
    (saved_model / "variables" / "variables.index").write_bytes(b"indey")
    digests.add(saved_model_digest(saved_model))
    (saved_model / "variables" / "variables.index").rename(saved_model / "variables" / "renamed")
    digests.add(saved_model_digest(saved_model))
    (saved_model / "extra").write_bytes(b"")
    digests.add(saved_model_digest(saved_model))
    assert len(digests) == 4


def test_published_version_equals_its_source(saved_model: Path, tmp_path: Path) -> None:
    base_path = tmp_path / "new" / "base"
    assert publish(saved_model, base_path, 7) == base_path / "7"
    assert saved_model_digest(base_path / "7") == saved_model_digest(saved_model)
    assert (base_path / "7" / "assets").is_dir()
    assert published_versions(base_path) == [7]
    assert hidden(base_path) == []


def test_publishing_again_changes_nothing_and_other_contents_are_refused(saved_model: Path, tmp_path: Path) -> None:
    base_path = tmp_path / "base"
    publish(saved_model, base_path, 1)
    inode = (base_path / "1").stat().st_ino
    assert publish(saved_model, base_path, 1) == base_path / "1"
    assert (base_path / "1").stat().st_ino == inode
    (saved_model / "saved_model.pb").write_bytes(b"another")
    with pytest.raises(PublishError, match=r"base/1: this version is published with other contents.*new version"):
        publish(saved_model, base_path, 1)
    assert (base_path / "1" / "saved_model.pb").read_bytes() == b"graph"


def test_unpublish_removes_a_version_once(saved_model: Path, tmp_path: Path) -> None:
    base_path = tmp_path / "base"
    for version in (1, 2):
        publish(saved_model, base_path, version)
    assert unpublish(base_path, 1)
    assert not unpublish(base_path, 1)
    assert published_versions(base_path) == [2]
    assert hidden(base_path) == []


def test_only_saved_models_are_published(saved_model: Path, tmp_path: Path) -> None:
    with pytest.raises(PublishError, match="not a SavedModel"):
        publish(tmp_path / "nothing", tmp_path / "base", 1)
    with pytest.raises(PublishError, match="not a version number"):
        publish(saved_model, tmp_path / "base", 0)
    (saved_model / "link").symlink_to(tmp_path)
    with pytest.raises(PublishError, match="link to a folder"):
        publish(saved_model, tmp_path / "base", 1)
    (saved_model / "link").unlink()
    (saved_model / "dangling").symlink_to(tmp_path / "gone")
    with pytest.raises(PublishError, match="cannot be read"):
        publish(saved_model, tmp_path / "base", 1)
    assert published_versions(tmp_path / "base") == []


def test_source_that_changes_meanwhile_is_not_published(
    saved_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def copy_and_spoil(source: object, target: object, length: int = 0) -> None:
        target.write(source.read() + b"!")  # type: ignore[attr-defined]

    monkeypatch.setattr(shutil, "copyfileobj", copy_and_spoil)
    with pytest.raises(PublishError, match="the copy differs"):
        publish(saved_model, tmp_path / "base", 1)
    assert published_versions(tmp_path / "base") == []
    assert hidden(tmp_path / "base") == []


def test_publishers_of_one_version_agree(saved_model: Path, tmp_path: Path) -> None:
    base_path = tmp_path / "base"
    threads = [threading.Thread(target=publish, args=(saved_model, base_path, 3)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert published_versions(base_path) == [3]
    assert hidden(base_path) == []


@pytest.mark.parametrize("delay", [0.02, 0.1, 0.3])
def test_killed_publisher_leaves_no_version(saved_model: Path, tmp_path: Path, delay: float) -> None:
    base_path = tmp_path / "base"
    with (saved_model / "variables" / "variables.data").open("wb") as weights:
        for _ in range(64):
            weights.write(os.urandom(1 << 20))
    command = "import sys; from pathlib import Path; from metseg.serving.publishing import publish\n"
    command += "publish(Path(sys.argv[1]), Path(sys.argv[2]), 5)"
    publisher = subprocess.Popen([sys.executable, "-c", command, str(saved_model), str(base_path)])
    while not (base_path.is_dir() and hidden(base_path)) and publisher.poll() is None:
        time.sleep(0.002)
    time.sleep(delay)
    publisher.kill()
    publisher.wait()
    assert published_versions(base_path) in ([], [5])
    for version in published_versions(base_path):
        assert saved_model_digest(base_path / str(version)) == saved_model_digest(saved_model)
    if delay == 0.02:
        assert hidden(base_path), "the first kill falls into the copying, else this test shows nothing"
    publish(saved_model, base_path, 5)
    assert hidden(base_path) == []
    assert saved_model_digest(base_path / "5") == saved_model_digest(saved_model)


def test_model_config_is_read_as_written_and_keeps_other_models(tmp_path: Path) -> None:
    path = tmp_path / "models.config"
    write_model_config(path, "a", tmp_path / "a", [3, 1], {"stable": 1, "canary": 3})
    write_model_config(path, "b", tmp_path / "b", [2], {})
    write_model_config(path, "a", tmp_path / "a", [3], {"stable": 3})
    assert read_model_config(path) == {
        "a": ServedModel("a", tmp_path / "a", [3], {"stable": 3}),
        "b": ServedModel("b", tmp_path / "b", [2], {}),
    }
    assert [child.name for child in tmp_path.iterdir()] == ["models.config"]
    assert path.stat().st_mode & 0o044 == 0o044, "a server under another user reads it"


def test_model_config_is_what_tf_serving_documents(tmp_path: Path) -> None:
    path = tmp_path / "models.config"
    path.write_text(
        """model_config_list { config { name: "m" base_path: "/models/m" model_platform: "tensorflow"
           model_version_policy { specific { versions: 1 versions: 2 } }
           version_labels { key: "stable" value: 1 } } }"""
    )
    assert read_model_config(path) == {"m": ServedModel("m", Path("/models/m"), [1, 2], {"stable": 1})}


@pytest.mark.parametrize(
    ("base_path", "versions", "labels", "complaint"),
    [
        ("/base", [], {}, "at least one"),
        ("base", [1], {}, "relative"),
        ("/base", [1], {"stable": 2}, "label stable of m points at version 2"),
    ],
)
def test_model_config_that_no_server_takes_is_not_written(
    tmp_path: Path, base_path: str, versions: list[int], labels: dict[str, int], complaint: str
) -> None:
    with pytest.raises(PublishError, match=complaint):
        write_model_config(tmp_path / "models.config", "m", Path(base_path), versions, labels)
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "models.config").write_text("}{")
    with pytest.raises(PublishError, match="not a ModelServerConfig"):
        read_model_config(tmp_path / "models.config")
