"""From a served version back to everything it came from, each link looked up where it should be."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from metseg.dataset.cache import DataCache
from metseg.dataset.manifest import Manifest
from metseg.dataset.references.availability import look_again
from metseg.errors import DataError, MetsegError, PublishError
from metseg.serving.model_config import read_model_config
from metseg.serving.publishing import saved_model_digest
from metseg.settings import Settings
from metseg.tracking import model_registry
from metseg.tracking.container_registry import image_exists

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

State = Literal["there", "unsure", "broken"]

SERVED_ALIASES = (model_registry.CHAMPION, model_registry.CHALLENGER)
CONFIG = "models.config"
MANIFEST = "data/manifest.json"
DIRTY = "-dirty"
ROOT = Path(__file__).resolve().parents[2]
"""Where this code lies, in a clone or in an image."""


@dataclass(frozen=True)
class Link:
    """One link of the chain.

    Attributes:
        name: what it is.
        identity: which one.
        state: `there`, `broken`, or `unsure` where it could not be looked up from here.
        detail: what was found; for a broken link also what to do.
    """

    name: str
    identity: str
    state: State
    detail: str


Found = tuple[State, str]
"""What looking for a link gave: its state but `broken`, which is raised, and the words for it."""


@dataclass(frozen=True)
class _Origin:
    """What the links are looked up with."""

    tracking: MlflowClient
    settings: Settings
    version: model_registry.Version
    server: str

    def tag(self, name: str) -> str:
        return self.version.tags.get(name, "")


def find_version(tracking: MlflowClient, name: str, which: str) -> model_registry.Version:
    """The version of a model by its number, an alias (`champion`) or a label of the server (`stable`).

    Raises:
        MetsegError: there is no such model or version; the message names those that there are.
    """
    alias = {label: alias for alias, label in model_registry.LABELS.items()}.get(which, which)
    if which.isdecimal():
        version = model_registry.version(tracking, name, int(which))
    else:
        version = model_registry.version_of_alias(tracking, name, alias)
    if version is not None:
        return version
    found = model_registry.versions(tracking, name)
    if not found:
        raise MetsegError(f"the registry holds no model {name}: train one with `metseg run`")
    listed = [" ".join([str(version.number), *(f"({alias})" for alias in version.aliases)]) for version in found]
    raise MetsegError(f"{name} has no version {which}; it has {', '.join(listed)}")


def trace(tracking: MlflowClient, settings: Settings, version: model_registry.Version, server: str = "") -> list[Link]:
    """The links from the served version to the image, in this order; a broken one does not end the search.

    Args:
        tracking: MLflow client.
        settings: where versions are published.
        version: of the registry.
        server: `HOST:PORT` of a model server to ask; without one, the base path on this machine is looked at.
    """
    origin = _Origin(tracking, settings, version, server)
    number = str(version.number)
    commit, image = origin.tag("git.commit"), origin.tag("container.image")
    return [
        _look("served version", number, lambda: _served_by(origin) if server else _published(origin)),
        _look("registry version", f"{version.name} {number}", lambda: _registered(origin)),
        _look("run", origin.tag("pipeline.run_id") or "unknown", lambda: _runs(origin)),
        _look("data version", origin.tag("data.version") or "unknown", lambda: _data(origin)),
        _look("git commit", commit or "unknown", lambda: _commit(commit)),
        _look("image", image or "none", lambda: _image(origin)),
    ]


def _look(name: str, identity: str, look: Callable[[], Found]) -> Link:
    """The link as looking for it found it; what it raises says why it is broken."""
    from mlflow.exceptions import MlflowException

    try:
        return Link(name, identity, *look())
    except (MlflowException, MetsegError, OSError) as error:
        return Link(name, identity, "broken", " ".join(str(error).split()))


def _published(origin: _Origin) -> Found:
    """Whether the version lies below the base path as it was registered."""
    version = origin.version
    folder = origin.settings.model_base_path / version.name / str(version.number)
    if not (folder / "saved_model.pb").is_file():
        aliases = [alias for alias in version.aliases if alias in SERVED_ALIASES]
        if not aliases:
            return "unsure", "it is not published, and no alias asks for that"
        raise PublishError(
            f"it is {' and '.join(aliases)}, but {folder} is not there: run `metseg reconcile`, or name the server "
            "with --server where another machine serves it"
        )
    _compare(origin, folder, "remove the folder and run `metseg reconcile`")
    labels = _labels(origin)
    for alias in set(version.aliases) & set(SERVED_ALIASES):
        label = model_registry.LABELS[alias]
        if labels.get(label) != version.number:
            where = f"at version {labels[label]}" if label in labels else "at nothing"
            raise PublishError(f"it is {alias}, but label {label} points {where}: run `metseg reconcile`")
    own = [label for label, number in sorted(labels.items()) if number == version.number]
    shown = f"label {' and '.join(own)}" if own else "no label"
    return "there", f"{folder}, {shown}; the files that were registered"


def _labels(origin: _Origin) -> dict[str, int]:
    """What the labels of the model point at, by the configuration beside the base path."""
    config = origin.settings.model_base_path / CONFIG
    model = read_model_config(config).get(origin.version.name) if config.is_file() else None
    return model.labels if model else {}


def _served_by(origin: _Origin) -> Found:
    """Whether a server has the version loaded."""
    from metseg.serving.client.segmentation_client import SegmentationClient

    number = origin.version.number
    with SegmentationClient(origin.server, origin.version.name) as client:
        states = {status.version: status.state for status in client.status()}
    if states.get(number) != "AVAILABLE":
        loaded = ", ".join(f"{version} {state}" for version, state in states.items()) or "none"
        raise PublishError(f"{origin.server} does not answer for it; versions there: {loaded}. Run `metseg reconcile`")
    return "there", f"available at {origin.server}"


def _registered(origin: _Origin) -> Found:
    """Whether the registry still has the files of the version, as they were."""
    version = origin.version
    with tempfile.TemporaryDirectory(prefix="metseg-lineage-") as folder:
        files = model_registry.download(origin.tracking, version.name, version.number, Path(folder))
        _compare(origin, files / "tf2model", "restore the artifact store, and serve nothing of this version until then")
    aliases = f"alias {' and '.join(version.aliases)}" if version.aliases else "no alias"
    return "there", f"{aliases}; gate {origin.tag('gate') or 'unknown'}; the files that were registered"


def _compare(origin: _Origin, saved_model: Path, remedy: str) -> None:
    digest, expected = saved_model_digest(saved_model), origin.tag("savedmodel.sha256")
    if digest != expected:
        raise PublishError(f"{saved_model.name} has digest {digest}, registered was {expected or 'none'}: {remedy}")


def _runs(origin: _Origin) -> Found:
    """Whether the pipeline's run and the training nested in it are on record."""
    pipeline = _run_of(origin)
    training = _active(origin, origin.version.run)
    name, status = pipeline.info.run_name, str(pipeline.info.status).lower()
    return "there", f"{name}, {status}; training {training.info.run_id}"


def _run_of(origin: _Origin) -> Run:
    """The pipeline's run."""
    if not origin.tag("pipeline.run_id"):
        raise MetsegError("the version has no tag pipeline.run_id: it was not registered by a run of the pipeline")
    return _active(origin, origin.tag("pipeline.run_id"))


def _active(origin: _Origin, run: str) -> Run:
    found = origin.tracking.get_run(run)
    if found.info.lifecycle_stage != "active":
        raise MetsegError(f"run {run} was deleted: `mlflow runs restore --run-id {run}` brings it back")
    return found


def _data(origin: _Origin) -> Found:
    """Whether the data that the run read are on record and still there."""
    run, version = _run_of(origin), origin.tag("data.version")
    digests = [entry.dataset.digest for entry in run.inputs.dataset_inputs] if run.inputs else []
    if version not in digests:
        raise DataError(f"the run names {', '.join(digests) or 'no data'}: tag or run were changed since")
    with tempfile.TemporaryDirectory(prefix="metseg-lineage-") as folder:
        manifest = Manifest.read(Path(origin.tracking.download_artifacts(run.info.run_id, MANIFEST, folder)))
    if manifest.version != version:
        raise DataError(f"the run's {MANIFEST} is of version {manifest.version}: it was changed since")
    where = look_again(manifest, DataCache.of(origin.settings))
    return "there", f"{where}; {len(manifest.patients())} patients"


def _commit(commit: str) -> Found:
    """Whether the repository that this code lies in holds the commit."""
    clean = commit.removesuffix(DIRTY)
    if clean in ("", "unknown"):
        raise MetsegError("the training ran outside a Git repository, and METSEG_GIT_COMMIT named no commit")
    if _git("rev-parse", "--git-dir") is None:
        return "unsure", "there is no Git repository here to look in: ask in a clone"
    subject = _git("log", "-1", "--format=%s", f"{clean}^{{commit}}")
    if subject is None:
        raise MetsegError("this repository does not hold it: `git fetch --all`, or `--unshallow` in a shallow clone")
    if commit.endswith(DIRTY):
        return "unsure", "the tree had changes that no commit holds: train what is to be served from a clean one"
    return "there", subject


def _git(*arguments: str) -> str | None:
    """What Git answers on the repository of this code; None where it refuses, or is not there."""
    command = ["git", "-C", str(ROOT), *arguments]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=20).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None


def _image(origin: _Origin) -> Found:
    """Whether the image of the training can be had."""
    image = origin.tag("container.image")
    if not image:
        return "there", f"trained outside a container, by metseg {origin.tag('metseg.version') or 'of unknown version'}"
    exists = image_exists(image)
    if exists is None:
        return "unsure", "neither Docker here nor its registry says without credentials whether it is there"
    if not exists:
        raise MetsegError("its registry does not hold it: push it again from that commit")
    return "there", "Docker here or its registry holds it"
