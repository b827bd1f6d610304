"""From a version back to everything it came from: a whole chain, then each link broken by itself."""

from __future__ import annotations

import dataclasses
import json
import shutil
import subprocess
from pathlib import Path

import pytest

from components.register.step import register
from metseg.dataset.data_version import data_version
from metseg.errors import MetsegError
from metseg.serving.publishing import publish
from metseg.serving.served_version import find_served
from metseg.settings import Settings
from metseg.tracking import model_lineage
from metseg.tracking.serving_labels import CHALLENGER, CHAMPION
from tests.components.registering import GOOD, Pipeline
from tests.mlflow_store import crown, fresh_store
from tests.serving.model_config_files import write_model_config
from tests.tracking.image_server import ImageServer, running
from tests.validation.cohorts import sound

NAMES = ["served version", "registry version", "run", "data version", "git commit", "image"]


@pytest.fixture(scope="module")
def images():
    with running() as server:
        yield server


@pytest.fixture
def repository(tmp_path, monkeypatch) -> str:
    """A Git repository in the place of this one; gives its commit."""
    root = tmp_path / "code"
    root.mkdir()
    identity = ("-c", "user.name=A Person", "-c", "user.email=person@example.org")
    for command in (("init", "-q"), (*identity, "commit", "-q", "--allow-empty", "-m", "Train with care")):
        subprocess.run(["git", "-C", str(root), *command], check=True, capture_output=True)
    monkeypatch.setattr(model_lineage, "ROOT", root)
    answer = subprocess.run(["git", "-C", str(root), "rev-parse", "HEAD"], check=True, capture_output=True, text=True)
    return answer.stdout.strip()


@pytest.fixture(scope="module", autouse=True)
def tracking_server(tmp_path_factory):
    folder = tmp_path_factory.mktemp("lineage")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("METSEG_WORKSPACE", str(folder))
        patch.setenv("MLFLOW_TRACKING_URI", fresh_store(folder))
        patch.setenv("METSEG_ARTIFACT_ROOT", (folder / "artifacts").as_uri())
        yield folder


@pytest.fixture
def pipeline(tmp_path, repository, images, monkeypatch) -> Pipeline:
    """A run on a folder of data whose model was registered, made champion and published."""
    monkeypatch.setenv("METSEG_MODEL_BASE_PATH", str(tmp_path / "serving"))
    monkeypatch.setenv("METSEG_IMAGE_PREFIX", f"{images.host}/metseg/")
    data = tmp_path / "scans"
    data.mkdir()
    (data / "scan.nii").write_bytes(b"scan")
    manifest = dataclasses.replace(sound()[0], reference=str(data), resolved=str(data), version=data_version(data))
    name = tmp_path.name
    made = Pipeline(
        tmp_path / "run", name, {"nested_unet": GOOD}, manifest=manifest, commit=repository, image=images.image
    )
    register(**made.arguments())
    crown(made.tracking, name, 1)
    made.tracking.delete_registered_model_alias(name, CHALLENGER)
    publish(tmp_path / "run" / "nested_unet-model" / "tf2model", tmp_path / "serving" / name, 1)
    label_stable(tmp_path / "serving", name, 1)
    return made


def label_stable(root: Path, name: str, version: int) -> None:
    write_model_config(root / "models.config", name, root / name, [version], {"stable": version})


def traced(pipeline: Pipeline, server: str = "") -> dict[str, model_lineage.Link]:
    version = model_lineage.find_version(pipeline.tracking, pipeline.model_name, "1")
    settings = Settings.from_environment()
    links = model_lineage.trace(pipeline.tracking, settings, version, lambda: find_served(settings, version, server))
    assert [link.name for link in links] == NAMES
    return {link.name: link for link in links}


def broken(pipeline: Pipeline) -> dict[str, str]:
    return {name: link.detail for name, link in traced(pipeline).items() if link.state == "broken"}


def test_every_link_of_a_whole_chain_is_found(pipeline, repository, images, tmp_path):
    links = traced(pipeline)
    assert {link.state for link in links.values()} == {"there"}, links
    assert "label stable" in links["served version"].detail
    assert (
        links["registry version"].identity == f"{pipeline.model_name} 1"
        and "champion" in links["registry version"].detail
    )
    assert links["run"].identity == pipeline.run and pipeline.records["nested_unet"].training.run in links["run"].detail
    assert links["data version"].identity == data_version(tmp_path / "scans")
    assert links["git commit"].identity == repository and links["git commit"].detail == "Train with care"
    assert links["image"].identity == images.image


@pytest.mark.parametrize("which", ["1", "champion", "stable"])
def test_a_version_is_found_by_number_alias_or_label(pipeline, which):
    assert model_lineage.find_version(pipeline.tracking, pipeline.model_name, which).number == 1


def test_a_version_that_is_not_there_is_named_with_those_that_are(pipeline):
    with pytest.raises(MetsegError, match=r"no version 7; it has 1 \(champion\)"):
        model_lineage.find_version(pipeline.tracking, pipeline.model_name, "7")
    with pytest.raises(MetsegError, match="no model other"):
        model_lineage.find_version(pipeline.tracking, "other", "1")


def test_a_published_version_that_is_gone_or_changed_breaks_the_first_link(pipeline, tmp_path):
    folder = tmp_path / "serving" / pipeline.model_name / "1"
    (folder / "saved_model.pb").write_bytes(b"another")
    assert list(broken(pipeline)) == ["served version"] and "digest" in broken(pipeline)["served version"]
    shutil.rmtree(folder)
    assert "metseg reconcile" in broken(pipeline)["served version"]
    pipeline.tracking.delete_registered_model_alias(pipeline.model_name, CHAMPION)
    assert traced(pipeline)["served version"].state == "unsure", "no alias asks for it to be served"


def test_an_alias_whose_label_points_elsewhere_breaks_the_first_link(pipeline, tmp_path):
    label_stable(tmp_path / "serving", pipeline.model_name, 2)
    assert "label stable points at version 2" in broken(pipeline)["served version"]
    (tmp_path / "serving" / "models.config").unlink()
    assert "points at nothing" in broken(pipeline)["served version"]


def test_a_server_that_does_not_answer_breaks_the_first_link(pipeline):
    link = traced(pipeline, "127.0.0.1:9")["served version"]
    assert link.state == "broken" and "127.0.0.1:9" in link.detail


@pytest.mark.parametrize("harm", ["changed", "gone"])
def test_an_artifact_store_that_was_touched_breaks_the_second_link(pipeline, tracking_server, harm):
    (saved_model,) = tracking_server.glob(f"artifacts/**/{pipeline.records['nested_unet'].training.run}/**/tf2model")
    if harm == "changed":
        (saved_model / "saved_model.pb").write_bytes(b"another")
    else:
        shutil.rmtree(saved_model.parent)
    assert list(broken(pipeline)) == ["registry version"]


def test_a_deleted_run_breaks_its_link_and_that_of_the_data(pipeline):
    pipeline.tracking.delete_run(pipeline.run)
    found = broken(pipeline)
    assert list(found) == ["run", "data version"] and f"restore --run-id {pipeline.run}" in found["run"]
    pipeline.tracking.restore_run(pipeline.run)
    pipeline.tracking.delete_run(pipeline.records["nested_unet"].training.run)
    assert list(broken(pipeline)) == ["run"]


def test_data_that_changed_or_are_gone_break_their_link(pipeline, tmp_path):
    (tmp_path / "scans" / "scan.nii").write_bytes(b"other")
    assert "keep data under DVC" in broken(pipeline)["data version"]
    shutil.rmtree(tmp_path / "scans")
    assert "scans" in broken(pipeline)["data version"]


def test_a_tag_that_names_other_data_than_the_run_breaks_the_link(pipeline):
    pipeline.tracking.set_model_version_tag(pipeline.model_name, "1", "data.version", "other.dir")
    assert "tag or run were changed" in broken(pipeline)["data version"]


def test_a_commit_that_is_not_there_breaks_its_link(pipeline):
    pipeline.tracking.set_model_version_tag(pipeline.model_name, "1", "git.commit", "f" * 40)
    assert "git fetch" in broken(pipeline)["git commit"]
    pipeline.tracking.set_model_version_tag(pipeline.model_name, "1", "git.commit", "unknown")
    assert list(broken(pipeline)) == ["git commit"]


@pytest.mark.parametrize(
    "commit",
    ["--output={file}", "-p", "HEAD", "HEAD~1", "{short}", "{commit}^@", "{commit} --output={file}", "main..x"],
)
def test_a_tag_that_is_no_commit_reaches_no_command_line(pipeline, repository, tmp_path, commit):
    file = tmp_path / "written-by-git"
    text = commit.format(file=file, short=repository[:12], commit=repository)
    pipeline.tracking.set_model_version_tag(pipeline.model_name, "1", "git.commit", text)
    assert "holds no commit" in broken(pipeline)["git commit"]
    assert not list(tmp_path.glob("written-by-git*"))


@pytest.mark.parametrize("run", ["../1", "x'; --", "f" * 31])
def test_a_tag_that_is_no_run_breaks_its_links(pipeline, run):
    pipeline.tracking.set_model_version_tag(pipeline.model_name, "1", "pipeline.run_id", run)
    assert list(broken(pipeline)) == ["run", "data version"] and "no run's id" in broken(pipeline)["run"]


def test_a_tag_that_is_no_images_name_breaks_its_link(pipeline):
    pipeline.tracking.set_model_version_tag(pipeline.model_name, "1", "container.image", "--help")
    assert "no image's name" in broken(pipeline)["image"]


def test_tags_that_steer_a_terminal_or_are_no_numbers_are_listed_harmlessly(pipeline, capsys):
    from metseg.commands.models import lineage, models

    for tag, text in {
        "architecture": "[/red]\x1b[2J",
        "test.dice": "high",
        "gate": "[bold]",
        "git.commit": "\x1b[8m",
    }.items():
        pipeline.tracking.set_model_version_tag(pipeline.model_name, "1", tag, text)
    models(pipeline.model_name, False)
    with pytest.raises(MetsegError):
        lineage("1", pipeline.model_name, "", False)
    printed = capsys.readouterr().out
    assert "[bold]" in printed and "\x1b[2J" not in printed and "\x1b[8m" not in printed


def test_a_dirty_tree_and_a_missing_repository_leave_the_commit_unsure(pipeline, repository, tmp_path, monkeypatch):
    pipeline.tracking.set_model_version_tag(pipeline.model_name, "1", "git.commit", f"{repository}-dirty")
    assert traced(pipeline)["git commit"].state == "unsure"
    (tmp_path / "image").mkdir()
    monkeypatch.setattr(model_lineage, "ROOT", tmp_path / "image")
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path))
    assert "in a clone" in traced(pipeline)["git commit"].detail


@pytest.mark.parametrize(
    ("name", "state"),
    [("{host}/metseg/train:9", "broken"), ("{host}/private/train:1", "unsure"), ("metseg/train:1", "unsure"),
     ("127.0.0.1:9/metseg/train:1", "unsure")],
)  # fmt: skip
def test_an_image_that_is_not_there_breaks_its_link_and_one_nobody_tells_of_leaves_it_unsure(
    pipeline, images: ImageServer, name, state
):
    pipeline.tracking.set_model_version_tag(pipeline.model_name, "1", "container.image", name.format(host=images.host))
    assert traced(pipeline)["image"].state == state


def test_the_command_prints_the_chain_and_ends_with_1_where_it_is_broken(pipeline, tmp_path, capsys):
    from metseg.commands.models import lineage as command

    command("champion", pipeline.model_name, "", False)
    printed = capsys.readouterr().out
    assert [line.split("  ")[0][2:] for line in printed.splitlines()[::2]] == NAMES and printed.count("✓") == 6
    (tmp_path / "scans" / "scan.nii").write_bytes(b"other")
    with pytest.raises(MetsegError, match=r"has broken lineage: data version \(.*keep data under DVC"):
        command("1", pipeline.model_name, "", True)
    states = {link["name"]: link["state"] for link in json.loads(capsys.readouterr().out)}
    assert states == dict.fromkeys(NAMES, "there") | {"data version": "broken"}
    assert MetsegError.exit_code == 1


def test_models_are_listed_with_scores_intervals_and_aliases(pipeline, capsys):
    from metseg.commands.models import models

    models(pipeline.model_name, False)
    printed = capsys.readouterr().out
    row = next(line for line in printed.splitlines() if "nested_unet" in line)
    for part in ("champion", "0.812 (0.79 to 0.83)", "1.000 (1.00 to 1.00)", "passed"):
        assert part in row
    models(pipeline.model_name, True)
    (entry,) = json.loads(capsys.readouterr().out)
    assert entry["number"] == 1 and entry["aliases"] == ["champion"] and entry["tags"]["test.dice"] == "0.812000"
    with pytest.raises(MetsegError, match="metseg run"):
        models("nobody", False)


def test_a_version_that_serving_refused_says_so_in_the_list(pipeline, capsys):
    from metseg.commands.models import models
    from metseg.serving.reconciliation.registry_state import AliasRegistry

    AliasRegistry(Settings.from_environment()).tag_version(
        pipeline.model_name, 1, "refused", "its digest is another one"
    )
    models(pipeline.model_name, False)
    printed = capsys.readouterr().out
    assert "refused" in next(line for line in printed.splitlines() if "nested_unet" in line)
    assert "1 is not served: its digest is another one" in printed
