"""Lineage of a model version: registry, run, data, commit and image, each verified."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from metseg.child_environment import GIT, child_environment
from metseg.dataset.data_cache import DataCache
from metseg.dataset.manifest import Manifest
from metseg.dataset.references import look_again
from metseg.errors import DataError, MetsegError, PublishError
from metseg.saved_model_digest import saved_model_digest
from metseg.settings import Settings
from metseg.tracking import model_registry
from metseg.tracking.container_registry import image_exists, trusted_registries
from metseg.tracking.registry_values import COMMIT, require_run
from metseg.tracking.serving_labels import LABELS

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

State = Literal["there", "unsure", "broken"]

MANIFEST = "data/manifest.json"
DIRTY = "-dirty"
ROOT = Path(__file__).resolve().parents[2]
"""Folder of this code, in a clone or in an image."""


@dataclass(frozen=True)
class Link:
    """One link of the chain.

    Attributes:
        name: kind of the link, such as `data version`.
        identity: its number, id or digest.
        state: `there`, `broken`, or `unsure` if it cannot be verified from here.
        detail: the evidence; for a broken link also the remedy.
    """

    name: str
    identity: str
    state: State
    detail: str


Evidence = tuple[State, str]
"""State of a link and its detail; a broken link is raised instead."""


@dataclass(frozen=True)
class _Origin:
    """Sources that the links are verified with."""

    tracking: MlflowClient
    settings: Settings
    version: model_registry.Version

    def tag(self, name: str) -> str:
        return self.version.tags.get(name, "")


def find_version(tracking: MlflowClient, name: str, which: str) -> model_registry.Version:
    """Return a model's version by its number, alias (`champion`) or label (`stable`).

    Raises:
        MetsegError: the model or version does not exist; the message lists the existing ones.
    """
    alias = {label: alias for alias, label in LABELS.items()}.get(which, which)
    if which.isdecimal():
        version = model_registry.version(tracking, name, int(which))
    else:
        version = model_registry.version_of_alias(tracking, name, alias)
    if version is not None:
        return version
    versions = model_registry.versions(tracking, name)
    if not versions:
        raise MetsegError(f"the registry holds no model {name}: train one with `metseg run`")
    listed = [" ".join([str(version.number), *(f"({alias})" for alias in version.aliases)]) for version in versions]
    raise MetsegError(f"{name} has no version {which}; it has {', '.join(listed)}")


def trace(
    tracking: MlflowClient, settings: Settings, version: model_registry.Version, find_served: Callable[[], Evidence]
) -> list[Link]:
    """Return the links from served version to image, also those after a broken one.

    Args:
        tracking: MLflow client.
        settings: name the cache of data.
        version: of the registry.
        find_served: returns the evidence that the version is served.
    """
    origin = _Origin(tracking, settings, version)
    number = str(version.number)
    commit, image = origin.tag("git.commit"), origin.tag("container.image")
    return [
        _look_up("served version", number, find_served),
        _look_up("registry version", f"{version.name} {number}", lambda: _registered(origin)),
        _look_up("run", origin.tag("pipeline.run_id") or "unknown", lambda: _runs(origin)),
        _look_up("data version", origin.tag("data.version") or "unknown", lambda: _data(origin)),
        _look_up("git commit", commit or "unknown", lambda: _commit(commit)),
        _look_up("image", image or "none", lambda: _image(origin)),
    ]


def require_digest(version: model_registry.Version, saved_model: Path, remedy: str) -> None:
    """Compare a SavedModel with the registered digest of a version.

    Raises:
        PublishError: they differ, or the folder is no SavedModel; the message gives the remedy.
    """
    digest, expected = saved_model_digest(saved_model), version.tags.get("savedmodel.sha256", "")
    if digest != expected:
        raise PublishError(f"{saved_model.name} has digest {digest}, registered was {expected or 'none'}: {remedy}")


def _look_up(name: str, identity: str, find: Callable[[], Evidence]) -> Link:
    """Return the link with its evidence; an error is the reason why it is broken."""
    from mlflow.exceptions import MlflowException

    try:
        return Link(name, identity, *find())
    except (MlflowException, MetsegError, OSError) as error:
        return Link(name, identity, "broken", " ".join(str(error).split()))


def _registered(origin: _Origin) -> Evidence:
    """Verify that the artifact store holds the registered files of the version."""
    version = origin.version
    with tempfile.TemporaryDirectory(prefix="metseg-lineage-") as folder:
        files = model_registry.download(origin.tracking, version.name, version.number, Path(folder))
        require_digest(
            version, files / "tf2model", "restore the artifact store, and serve nothing of this version until then"
        )
    aliases = f"alias {' and '.join(version.aliases)}" if version.aliases else "no alias"
    return "there", f"{aliases}; gate {origin.tag('gate') or 'unknown'}; the files that were registered"


def _runs(origin: _Origin) -> Evidence:
    """Verify that MLflow holds the pipeline's run and its nested training run."""
    pipeline, training = _run(origin, origin.tag("pipeline.run_id")), _run(origin, origin.version.run)
    name, status = pipeline.info.run_name, str(pipeline.info.status).lower()
    return "there", f"{name}, {status}; training {training.info.run_id}"


def _run(origin: _Origin, run: str) -> Run:
    """Return a run that was not deleted."""
    if not run:
        raise MetsegError("the version has no tag pipeline.run_id: it was not registered by a run of the pipeline")
    entity = origin.tracking.get_run(require_run(run))
    if entity.info.lifecycle_stage != "active":
        raise MetsegError(f"run {run} was deleted: restore it by `mlflow runs restore --run-id {run}`")
    return entity


def _data(origin: _Origin) -> Evidence:
    """Verify that the run recorded its data, and that they are unchanged at their source."""
    run, version = _run(origin, origin.tag("pipeline.run_id")), origin.tag("data.version")
    digests = [entry.dataset.digest for entry in run.inputs.dataset_inputs] if run.inputs else []
    if version not in digests:
        raise DataError(f"the run names {', '.join(digests) or 'no data'}: tag or run were changed since")
    with tempfile.TemporaryDirectory(prefix="metseg-lineage-") as folder:
        path = model_registry.download_from_run(origin.tracking, run.info.run_id, MANIFEST, Path(folder))
        if path is None:
            raise DataError(f"the run holds no {MANIFEST}: was the artifact store cleaned?")
        manifest = Manifest.read(path)
    if manifest.version != version:
        raise DataError(f"the run's {MANIFEST} is of version {manifest.version}: it was changed since")
    where = look_again(manifest, DataCache.of(origin.settings))
    return "there", f"{where}; {len(manifest.patients())} patients"


def _commit(commit: str) -> Evidence:
    """Verify that the repository of this code holds the commit."""
    clean = commit.removesuffix(DIRTY)
    if clean in ("", "unknown"):
        raise MetsegError("the training run was outside a Git repository, and METSEG_GIT_COMMIT named no commit")
    if not COMMIT.fullmatch(clean):
        raise MetsegError("the tag git.commit holds no commit (40 hexadecimal digits): it was changed since")
    if _git("rev-parse", "--git-dir") is None:
        return "unsure", "there is no Git repository here: run the command in a clone"
    subject = _git("log", "-1", "--format=%s", "--end-of-options", f"{clean}^{{commit}}")
    if subject is None:
        raise MetsegError("this repository does not hold it: `git fetch --all`, or `--unshallow` in a shallow clone")
    if commit.endswith(DIRTY):
        return "unsure", "the tree had uncommitted changes: train models for serving from a clean tree"
    return "there", subject


def _git(*arguments: str) -> str | None:
    """Return Git's output for the repository of this code; None if Git fails."""
    command = ["git", "-C", str(ROOT), *arguments]
    try:
        environment = child_environment(GIT)
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True, timeout=20)
        return done.stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None


def _image(origin: _Origin) -> Evidence:
    """Verify that the container image of the training run exists."""
    image = origin.tag("container.image")
    if not image:
        return "there", f"trained outside a container, by metseg {origin.tag('metseg.version') or 'of unknown version'}"
    exists = image_exists(image, trusted_registries())
    if exists is None:
        return "unsure", (
            "neither Docker here nor, without credentials, its registry can confirm that it exists; only registries "
            "that METSEG_IMAGE_PREFIX or another image of this installation names get a request"
        )
    if not exists:
        raise MetsegError("its registry does not hold it: push it again from that commit")
    return "there", "Docker here or its registry holds it"
