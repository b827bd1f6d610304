"""What the MLflow registry asks to be served, and what is written back to it."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from metseg.serving.reconciliation.outcome import Refused, Unreachable
from metseg.settings import Settings
from metseg.tracking import model_registry, runs

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import RegisteredModel

DIGEST_TAG = "savedmodel.sha256"
GATE_TAG = "gate"
REASON_TAG = "serving.reason"
SAVED_MODEL = "tf2model"
GOLDEN = "evaluation/golden.npz"

_ABSENT = "RESOURCE_DOES_NOT_EXIST"
_LONGEST_TAG = 1000
_PAGE = 1000
"""Registered models in one answer, as many as MLflow gives."""
_ASK_AGAIN_SECONDS = 60.0
"""After which it is looked again whether a model of others has a version of ours: tags may come after the version."""


def label_tag(label: str) -> str:
    """Tag of the registered model that names the version under a label."""
    return f"{model_registry.SERVING_TAG}.{label}"


@dataclass(frozen=True)
class Wanted:
    """A registered model as it is now.

    Attributes:
        aliases: version of each alias.
        tags: tags of the model, not of a version.
    """

    aliases: Mapping[str, int]
    tags: Mapping[str, str]


class AliasRegistry:
    """The registry, as far as serving is concerned; every method raises Unreachable while MLflow does not answer.

    Args:
        settings: where MLflow is; it is asked for the first time when the first method is called.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._connected: MlflowClient | None = None
        self._ours: set[str] = set()
        self._others: dict[str, tuple[int, float]] = {}

    def names(self) -> list[str]:
        """Names of the models of which metseg registered a version."""
        return sorted(self.models())

    def models(self, names: Collection[str] = ()) -> dict[str, Wanted]:
        """Return the models as they are now, by one request however many versions they have.

        Args:
            names: those to look for; all of which metseg registered a version where none is named. Aliases on the
                models of others are not followed.
        """
        with self._asking() as mlflow:
            found = list(_pages(mlflow, _named(names)))
            return {model.name: _wanted(model) for model in found if names or self._is_ours(mlflow, model)}

    def _is_ours(self, mlflow: MlflowClient, model: RegisteredModel) -> bool:
        """Whether metseg registered a version of a model; once it did, it is not asked again."""
        if model.name in self._ours:
            return True
        newest = max((int(entry.version) for entry in model.latest_versions), default=0)
        asked, when = self._others.get(model.name, (-1, 0.0))
        if asked == newest and time.monotonic() - when < _ASK_AGAIN_SECONDS:
            return False
        if any(DIGEST_TAG in entry.tags for entry in model.latest_versions) or mlflow.search_model_versions(
            f"{_named([model.name])} and tags.`{DIGEST_TAG}` LIKE '%'", max_results=1
        ):
            self._ours.add(model.name)
            self._others.pop(model.name, None)
            return True
        self._others[model.name] = (newest, time.monotonic())
        return False

    def wanted(self, name: str) -> Wanted | None:
        """Aliases and tags of a model; None where it is not registered."""
        return self.models([name]).get(name)

    def version(self, name: str, number: int) -> model_registry.Version | None:
        """One version; None where it is not registered."""
        with self._asking() as mlflow:
            return model_registry.version(mlflow, name, number)

    def point(self, name: str, alias: str, number: int | None) -> None:
        """Point an alias at a version, or remove it; it is removed too where the version is not registered any more."""
        from mlflow.exceptions import MlflowException

        with self._asking() as mlflow:
            if number is not None:
                try:
                    mlflow.set_registered_model_alias(name, alias, str(number))
                    return
                except MlflowException as error:
                    if error.error_code != _ABSENT:
                        raise
            mlflow.delete_registered_model_alias(name, alias)

    def note(self, name: str, number: int, state: str, reason: str) -> None:
        """Say in a version's tags how it fared, `verified` or `refused`, and why."""
        with self._asking() as mlflow:
            mlflow.set_model_version_tag(name, str(number), REASON_TAG, reason[:_LONGEST_TAG])
            mlflow.set_model_version_tag(name, str(number), model_registry.SERVING_TAG, state)

    def note_labels(self, name: str, tags: Mapping[str, str], labels: Mapping[str, int]) -> None:
        """Say in the model's tags which version each label points at, where `tags` does not say so already."""
        with self._asking() as mlflow:
            for label in model_registry.LABELS.values():
                tag, number = label_tag(label), labels.get(label)
                if number is not None and tags.get(tag) != str(number):
                    mlflow.set_registered_model_tag(name, tag, str(number))
                elif number is None and tag in tags:
                    mlflow.delete_registered_model_tag(name, tag)

    def saved_model(self, version: model_registry.Version, folder: Path) -> Path:
        """Fetch the registered SavedModel into `folder`; raises Refused where the artifact store holds none."""
        from mlflow.artifacts import download_artifacts, list_artifacts

        with self._asking() as mlflow, _fetching(f"the SavedModel of version {version.number} of {version.name}"):
            source = mlflow.get_model_version_download_uri(version.name, str(version.number)).rstrip("/")
            held = {Path(entry.path).name for entry in list_artifacts(artifact_uri=source)}
            if SAVED_MODEL not in held:
                raise Refused(f"the artifact store holds no {SAVED_MODEL} at {source}: was it cleaned?")
            return Path(download_artifacts(artifact_uri=f"{source}/{SAVED_MODEL}", dst_path=str(folder)))

    def golden(self, version: model_registry.Version, folder: Path) -> Path:
        """Fetch the golden requests of a version into `folder`; raises Refused where there are none."""
        with self._asking() as mlflow, _fetching(f"the golden requests of version {version.number} of {version.name}"):
            found = model_registry.download_from_run(mlflow, version.run, GOLDEN, folder)
        if found is None:
            raise Refused(f"its run {version.run} holds no {GOLDEN}, so that no answer can be compared")
        return found

    @contextmanager
    def _asking(self) -> Iterator[MlflowClient]:
        from mlflow.exceptions import MlflowException

        if self._connected is None:
            self._connected = _connect(self._settings)
        try:
            yield self._connected
        except MlflowException as error:
            raise Unreachable(f"MLflow at {self._settings.tracking_uri} refuses: {_first_line(error)}") from error


def _pages(mlflow: MlflowClient, asked: str) -> Iterator[RegisteredModel]:
    """Registered models, with aliases, tags and the newest version of each."""
    token: str | None = None
    while True:
        page = mlflow.search_registered_models(asked, max_results=_PAGE, page_token=token)
        yield from page
        token = page.token
        if not token:
            return


def _wanted(model: RegisteredModel) -> Wanted:
    return Wanted({str(alias): int(number) for alias, number in model.aliases.items()}, dict(model.tags))


def _named(names: Collection[str]) -> str:
    """MLflow's filter for these names; empty for none."""
    quoted = [f'"{name}"' if "'" in name else f"'{name}'" for name in names]
    if len(quoted) == 1:
        return f"name = {quoted[0]}"
    return f"name IN ({', '.join(quoted)})" if quoted else ""


def _connect(settings: Settings) -> MlflowClient:
    from metseg.errors import MetsegError

    try:
        return runs.client(settings)
    except MetsegError as error:
        raise Unreachable(str(error)) from error


@contextmanager
def _fetching(what: str) -> Iterator[None]:
    from mlflow.exceptions import MlflowException

    try:
        yield
    except (MlflowException, Refused):
        raise
    except Exception as error:  # each kind of store (S3, Azure, files …) fails in its own library's way
        raise Unreachable(f"{what} cannot be fetched: {type(error).__name__}: {_first_line(error)}") from error


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or ["no text"])[0]
