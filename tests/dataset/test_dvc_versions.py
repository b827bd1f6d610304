"""Data under DVC on an S3 server: two versions of a cohort, each fetched as its commit pins it, both on record."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from components.configuration.settings import DataSettings
from components.ingest.step import ingest as ingest_step
from metseg.dataset.data_cache import DataCache
from metseg.dataset.data_version import HashTable, data_version
from metseg.dataset.manifest import Manifest
from metseg.dataset.references import Pinned, resolve
from metseg.errors import DataError
from metseg.settings import Settings
from metseg.tracking import mlflow_runs
from tests.dataset.cohorts import brats_case, brats_cohort
from tests.dataset.s3_server import BUCKET, S3Server

Command = Callable[..., str]


@pytest.fixture
def repository(tmp_path: Path, dvc_environment: None) -> Command:
    """An empty Git repository under DVC; gives a function that runs a command in it."""
    root = tmp_path / "repository"
    root.mkdir()

    def command(*words: str) -> str:
        if words[0] == "dvc":
            words = (sys.executable, "-m", *words)
        answer = subprocess.run(words, cwd=root, check=True, capture_output=True, text=True, timeout=120)
        return answer.stdout.strip()

    command("git", "init", "-q")
    command("dvc", "init", "-q")
    return command


def resolved(reference: str, root: Path) -> Pinned:
    cache = DataCache(root)
    with HashTable(cache.hashes) as table:
        return resolve(reference, cache, table)


def pinned_version(root: Path) -> str:
    return str(yaml.safe_load((root / "data.dvc").read_text())["outs"][0]["md5"])


def test_two_revisions_are_two_versions_in_mlflow(
    tmp_path: Path, repository: Command, s3: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "repository"
    brats_cohort(root / "data", 3)
    repository("dvc", "remote", "add", "-q", "-d", "store", f"s3://{BUCKET}/dvc")
    repository("dvc", "add", "-q", "data")
    repository("git", "add", "-A")
    repository("git", "commit", "-qm", "Three patients")
    repository("git", "tag", "v1")
    repository("dvc", "push", "-q")
    first = pinned_version(root)
    brats_case(root / "data", "PHANTOM-MET-00004-000", seed=4)
    repository("dvc", "add", "-q", "data")
    repository("git", "commit", "-qam", "Four patients")
    repository("dvc", "push", "-q")
    second = pinned_version(root)

    monkeypatch.setenv("METSEG_WORKSPACE", str(tmp_path / "workspace"))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    settings = Settings.from_environment()
    # Another machine has neither the folder nor DVC's cache.
    (root / ".dvc" / "cache").rename(tmp_path / "gone")
    (root / "data").rename(tmp_path / "gone-data")
    manifests, found = {}, {}
    for revision in ("v1", "main"):
        reference = f"git+{root.as_uri()}@{revision}#data"
        run = ingest_step(DataSettings(reference), tmp_path / revision, model_name="m")
        mlflow_runs.finish(mlflow_runs.client(settings), run)
        manifests[revision] = Manifest.read(tmp_path / revision / "manifest.json")
        found[revision] = mlflow_runs.client(settings).get_run(run)
    assert (manifests["v1"].version, manifests["main"].version) == (first, second)
    assert len(manifests["v1"].cases) == 3 and len(manifests["main"].cases) == 4
    for revision, run in found.items():
        commit = repository("git", "rev-parse", f"{revision}^{{commit}}")
        manifest = manifests[revision]
        assert (manifest.commit, manifest.resolved) == (commit, f"git+{root.as_uri()}@{commit}#data")
        assert run.data.tags["data.version"] == manifest.version and run.data.tags["data.commit"] == commit
        (dataset,) = run.inputs.dataset_inputs
        assert (dataset.dataset.name, dataset.dataset.digest) == ("data", manifest.version)
        assert json.loads(dataset.dataset.source)["uri"] == manifest.resolved
    assert manifests["v1"].assignments().items() <= manifests["main"].assignments().items()

    s3.asked.clear()
    assert resolved(f"git+{root.as_uri()}@{manifests['v1'].commit[:10]}#data", settings.state / "data").version == first
    assert [path for path in s3.fetched() if not path.endswith(".dir")] == []


def pushed(repository: Command, root: Path, remote: str) -> None:
    brats_cohort(root / "data", 3)
    for words in (
        ("dvc", "remote", "add", "-q", "-d", "store", remote),
        ("dvc", "add", "-q", "data"),
        ("git", "add", "-A"),
        ("git", "commit", "-qm", "Three patients"),
        ("dvc", "push", "-q"),
    ):
        repository(*words)


def test_what_the_remote_lost_or_damaged_is_refused_and_what_was_fetched_stays(
    tmp_path: Path, repository: Command, s3: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "repository"
    pushed(repository, root, f"s3://{BUCKET}/dvc")
    expected = data_version(root / "data")
    (root / ".dvc" / "cache").rename(tmp_path / "gone")
    keys = [entry["Key"] for entry in s3.client().list_objects_v2(Bucket=BUCKET)["Contents"]]
    victim = next(key for key in keys if not key.endswith(".dir"))
    whole = s3.client().get_object(Bucket=BUCKET, Key=victim)["Body"].read()
    reference = f"git+{root.as_uri()}@main#data"
    s3.client().put_object(Bucket=BUCKET, Key=victim, Body=b"0" * len(whole))
    with pytest.raises(DataError, match="damaged"):
        resolved(reference, tmp_path / "cache")
    s3.client().delete_object(Bucket=BUCKET, Key=victim)
    with pytest.raises(DataError, match="dvc push"):
        resolved(reference, tmp_path / "cache")
    s3.client().put_object(Bucket=BUCKET, Key=victim, Body=whole)
    s3.asked.clear()
    assert resolved(reference, tmp_path / "cache").version == expected
    assert {path for path in s3.fetched("/files/md5/") if not path.endswith(".dir")} == {f"/{BUCKET}/{victim}"}
    # The listing itself: other content under the name that the commit pins.
    listing = next(key for key in keys if key.endswith(".dir"))
    body = s3.client().get_object(Bucket=BUCKET, Key=listing)["Body"].read()
    entries = json.loads(body)
    s3.client().put_object(Bucket=BUCKET, Key=listing, Body=json.dumps(entries[1:]).encode())
    monkeypatch.setenv("DVC_SITE_CACHE_DIR", str(tmp_path / "new-machine"))
    with pytest.raises(DataError, match="pins"):
        resolved(reference, tmp_path / "fresh")


def test_what_is_not_in_the_repository_is_named(tmp_path: Path, repository: Command) -> None:
    root = tmp_path / "repository"
    pushed(repository, root, str(tmp_path / "store"))
    for revision, path, said in (
        ("v9", "data", "v9"),
        ("main", "nothing", "nothing"),
        ("main", "data/PHANTOM-MET-00001-000", "as a whole"),
    ):
        with pytest.raises(DataError, match=said):
            resolved(f"git+{root.as_uri()}@{revision}#{path}", tmp_path / "cache")
    with pytest.raises(DataError, match="URL"):
        resolved(f"git+{(tmp_path / 'no-repository').as_uri()}@main#data", tmp_path / "cache")


def test_data_of_dvc_2_are_refused_with_the_remedy_which_helps(tmp_path: Path, repository: Command) -> None:
    root = tmp_path / "repository"
    brats_cohort(root / "data", 1)
    (root / "data" / "participants.csv").write_bytes(b"a,b\r\n1,2\r\n")
    repository("dvc", "add", "-q", "data")
    pointer = root / "data.dvc"
    pointer.write_text(pointer.read_text().replace("  hash: md5\n", ""))  # as DVC 2 wrote it
    legacy = root / ".dvc" / "cache"
    for entry in (legacy / "files" / "md5").iterdir():
        entry.rename(legacy / entry.name)
    repository("git", "add", "-A")
    repository("git", "commit", "-qm", "By DVC 2")
    with pytest.raises(DataError, match="DVC 2 added this folder") as refused:
        resolved(f"git+file://{root}@{repository('git', 'rev-parse', 'HEAD')}#data", tmp_path / "cache")
    repository(*str(refused.value).split("`")[1].split())
    repository("git", "commit", "-qam", "By DVC 3")
    reference = f"git+file://{root}@{repository('git', 'rev-parse', 'HEAD')}#data"
    assert resolved(reference, tmp_path / "cache").version == pinned_version(root)


def test_a_project_inside_a_repository_is_refused_with_the_reason(tmp_path: Path, repository: Command) -> None:
    root = tmp_path / "repository"
    for command in (["git", "rm", "-rqf", "--ignore-unmatch", ".dvc", ".dvcignore"], ["mkdir", "inner"]):
        repository(*command)
    shutil.rmtree(root / ".dvc", ignore_errors=True)
    dvc = [sys.executable, "-m", "dvc"]
    brats_cohort(root / "inner" / "data", 1)
    for words in (["init", "-q", "--subdir"], ["add", "-q", "data"]):
        subprocess.run([*dvc, *words], cwd=root / "inner", check=True, timeout=120)
    repository("git", "add", "-A")
    repository("git", "commit", "-qm", "Inside")
    with pytest.raises(DataError, match=r"inner is a DVC project inside a repository .*--subdir"):
        resolved(f"git+file://{root}@HEAD#inner/data", tmp_path / "cache")
