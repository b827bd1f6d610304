"""Desired state of serving in the MLflow registry, and tags for the actual state."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from metseg.errors import MetsegError, Unreachable, VersionRefused
from metseg.settings import Settings
from metseg.tracking import mlflow_runs, model_registry
from metseg.tracking.mlflow_errors import explained, first_line
from metseg.tracking.model_registry import SERVING_TAG
from metseg.tracking.registry_values import in_filter
from metseg.tracking.serving_labels import LABELS
from metseg.tracking.tracking_address import SERVERS, backend, shown

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import RegisteredModel

DIGEST_TAG = "savedmodel.sha256"
GATE_TAG = "gate"
REASON_TAG = "serving.reason"
SAVED_MODEL = "tf2model"
GOLDEN = "evaluation/golden.npz"

_ABSENT = "RESOURCE_DOES_NOT_EXIST"
_FIRST_EXPERIMENT = "0"
_LONGEST_TAG = 1000
_PAGE = 1000
"""Registered models in one response, as many as MLflow returns."""
_RECHECK_SECONDS = 60.0
"""Time after which a model of others is searched again for a version of metseg: tags may come after the version."""


def label_tag(label: str) -> str:
    """Return the tag of the registered model that names the version under a label."""
    return f"{SERVING_TAG}.{label}"


@dataclass(frozen=True)
class DesiredState:
    """Aliases and tags of a registered model.

    Attributes:
        aliases: version of each alias.
        tags: tags of the model, not of a version.
    """

    aliases: Mapping[str, int]
    tags: Mapping[str, str]

    @property
    def tagged_labels(self) -> dict[str, str]:
        """Version of each label, by the tags that a reconciler wrote to the model."""
        return {label: self.tags[label_tag(label)] for label in LABELS.values() if label_tag(label) in self.tags}


class AliasRegistry:
    """The registry, for serving; every method raises Unreachable while MLflow does not respond.

    Args:
        settings: name the MLflow server; the first method call connects.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._connected: MlflowClient | None = None
        self._ours: set[str] = set()
        self._others: dict[str, tuple[int, float]] = {}

    def connect(self) -> None:
        """Connect, unless that is done."""
        with self._mlflow():
            pass

    def models(self, names: Collection[str] = ()) -> dict[str, DesiredState]:
        """Return aliases and tags of models, by one request for any number of versions.

        Args:
            names: the models; none: all models of which metseg registered a version. Aliases on models that metseg
                did not register are ignored.
        """
        with self._mlflow() as mlflow:
            return {
                model.name: DesiredState({alias: int(number) for alias, number in model.aliases.items()}, model.tags)
                for model in _pages(mlflow, _name_filter(names))
                if names or self._is_ours(mlflow, model)
            }

    def _is_ours(self, mlflow: MlflowClient, model: RegisteredModel) -> bool:
        """Return whether metseg registered a version of a model; True is remembered."""
        if model.name in self._ours:
            return True
        newest = max((int(entry.version) for entry in model.latest_versions), default=0)
        searched, when = self._others.get(model.name, (-1, 0.0))
        if searched == newest and time.monotonic() - when < _RECHECK_SECONDS:
            return False
        if any(DIGEST_TAG in entry.tags for entry in model.latest_versions) or mlflow.search_model_versions(
            f"{_name_filter([model.name])} and tags.`{DIGEST_TAG}` LIKE '%'", max_results=1
        ):
            self._ours.add(model.name)
            self._others.pop(model.name, None)
            return True
        self._others[model.name] = (newest, time.monotonic())
        return False

    def desired_state(self, name: str) -> DesiredState | None:
        """Return aliases and tags of a model; None if it is not registered."""
        return self.models([name]).get(name)

    def identity(self) -> str:
        """Return what distinguishes this registry from others; empty if nothing does.

        It is the time at which MLflow made its database, as that of the experiment that it makes first.
        """
        from mlflow.exceptions import MlflowException

        with self._mlflow() as mlflow:
            try:
                return str(mlflow.get_experiment(_FIRST_EXPERIMENT).creation_time or "")
            except MlflowException as error:
                if error.error_code != _ABSENT:
                    raise
                return ""

    def lacks(self, name: str) -> bool:
        """Return whether a request for a model by name reports that it does not exist."""
        from mlflow.exceptions import MlflowException

        with self._mlflow() as mlflow:
            try:
                mlflow.get_registered_model(name)
            except MlflowException as error:
                if error.error_code != _ABSENT:
                    raise
                return True
            return False

    def version(self, name: str, number: int) -> model_registry.Version | None:
        """Return a version; None if it is not registered."""
        with self._mlflow() as mlflow:
            return model_registry.version(mlflow, name, number)

    def registered(self, name: str, number: int) -> model_registry.Version:
        """Return a version; raises VersionRefused if it is not registered."""
        version = self.version(name, number)
        if version is None:
            raise VersionRefused("it is no longer in the registry")
        return version

    def point(self, name: str, alias: str, number: int | None) -> None:
        """Point an alias at a version; remove it for None or for an unregistered version."""
        from mlflow.exceptions import MlflowException

        with self._mlflow() as mlflow:
            if number is not None:
                try:
                    mlflow.set_registered_model_alias(name, alias, str(number))
                    return
                except MlflowException as error:
                    if error.error_code != _ABSENT:
                        raise
            mlflow.delete_registered_model_alias(name, alias)

    def tag_version(self, name: str, number: int, state: str, reason: str) -> None:
        """Tag a version `verified` or `refused`, with the reason."""
        with self._mlflow() as mlflow:
            mlflow.set_model_version_tag(name, str(number), REASON_TAG, reason[:_LONGEST_TAG])
            mlflow.set_model_version_tag(name, str(number), SERVING_TAG, state)

    def tag_labels(self, name: str, tags: Mapping[str, str], labels: Mapping[str, int]) -> None:
        """Tag the model with the version of each label, unless its `tags` already agree."""
        with self._mlflow() as mlflow:
            for label in LABELS.values():
                tag, number = label_tag(label), labels.get(label)
                if number is not None and tags.get(tag) != str(number):
                    mlflow.set_registered_model_tag(name, tag, str(number))
                elif number is None and tag in tags:
                    mlflow.delete_registered_model_tag(name, tag)

    def saved_model(self, version: model_registry.Version, folder: Path) -> Path:
        """Download the registered SavedModel into `folder`; raises VersionRefused if there is none."""
        from mlflow.artifacts import download_artifacts, list_artifacts

        with self._downloading("the SavedModel", version) as mlflow:
            source = model_registry.artifact_source(mlflow, version.name, version.number)
            names = {Path(entry.path).name for entry in list_artifacts(artifact_uri=source)}
            if SAVED_MODEL not in names:
                raise VersionRefused(f"the artifact store holds no {SAVED_MODEL} at {source}: was it cleaned?")
            return Path(download_artifacts(artifact_uri=f"{source}/{SAVED_MODEL}", dst_path=str(folder)))

    def golden(self, version: model_registry.Version, folder: Path) -> Path:
        """Download the golden requests of a version into `folder`; raises VersionRefused if there are none."""
        with self._downloading("the golden requests", version) as mlflow:
            golden = model_registry.download_from_run(mlflow, version.run, GOLDEN, folder)
        if golden is None:
            raise VersionRefused(f"its run {version.run} holds no {GOLDEN}, so no prediction can be compared")
        return golden

    @contextmanager
    def _mlflow(self) -> Iterator[MlflowClient]:
        from mlflow.exceptions import MlflowException

        if self._connected is None:
            try:
                self._connected = mlflow_runs.client(self._settings)
            except MetsegError as error:
                raise Unreachable(str(error)) from error
        try:
            yield self._connected
        except MlflowException as error:
            if backend(self._settings.tracking_uri) not in SERVERS:
                raise Unreachable(str(explained(error, self._settings.tracking_uri))) from error
            raise Unreachable(f"MLflow at {shown(self._settings.tracking_uri)} refuses: {first_line(error)}") from error
        except MetsegError:
            raise
        except Exception as error:  # a proxy may respond in MLflow's place, with anything
            text = f"MLflow at {shown(self._settings.tracking_uri)} gives no response that can be read"
            raise Unreachable(f"{text}: {type(error).__name__}: {first_line(error)}") from error

    @contextmanager
    def _downloading(self, what: str, version: model_registry.Version) -> Iterator[MlflowClient]:
        from mlflow.exceptions import MlflowException

        with self._mlflow() as mlflow:
            try:
                yield mlflow
            except (MlflowException, VersionRefused):
                raise
            except MetsegError as error:  # an address that MLflow must not choose
                raise VersionRefused(str(error)) from error
            except Exception as error:  # each kind of store (S3, Azure, files …) fails in its own library's way
                text = f"{what} of version {version.number} of {version.name} cannot be fetched"
                raise Unreachable(f"{text}: {type(error).__name__}: {first_line(error)}") from error


def _pages(mlflow: MlflowClient, condition: str) -> Iterator[RegisteredModel]:
    """Yield the registered models of a filter, with aliases, tags and newest version."""
    token: str | None = None
    while True:
        page = mlflow.search_registered_models(condition, max_results=_PAGE, page_token=token)
        yield from page
        token = page.token
        if not token:
            return


def _name_filter(names: Collection[str]) -> str:
    """Return MLflow's filter for these names; empty for none."""
    quoted = [in_filter(name) for name in names]
    if len(quoted) == 1:
        return f"name = {quoted[0]}"
    return f"name IN ({', '.join(quoted)})" if quoted else ""
