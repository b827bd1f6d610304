"""The heart of the embedded server: which version answers a request, and what a new configuration changes."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import grpc
from numpy.typing import NDArray

from metseg.errors import ServingError, UsageError
from metseg.serving.codec.tensor_proto import ReceivedTensor
from metseg.serving.configuration import (
    Labels,
    assign_labels,
    check_configuration,
    initial_configuration,
    read_configuration,
)
from metseg.serving.server.metrics import REQUEST_COUNT, REQUEST_LATENCY, RUNTIME_LATENCY, Metrics
from metseg.serving.server.options import ServerOptions
from metseg.serving.server.prediction import DEFAULT_SIGNATURE, prepared
from metseg.serving.server.refusal import Refusal, invalid_argument, not_found
from metseg.serving.server.saved_model import session_config
from metseg.serving.server.servables import Servable, ServableTable, VersionState
from metseg.serving.server.version_source import BasePathWatcher

LOGGER = logging.getLogger(__name__)

_LONGEST_SECONDS = 1e6
"""A deadline further away than this is none; TensorFlow takes no more than 2^63 milliseconds."""
_MICROSECONDS = 1e6
_UNKNOWN_MODEL = "(unknown)"


class ServerCore:
    """Models, versions and labels of one server; safe to use from any thread.

    Attributes:
        metrics: what the server counts.
    """

    def __init__(self, options: ServerOptions) -> None:
        self.metrics = Metrics()
        self._options = options
        self._table = ServableTable()
        self._watcher = BasePathWatcher(options, self._table, self.metrics)
        self._reloading = threading.Lock()
        self._labels: Labels = {}
        self._configuration = initial_configuration(options)
        if options.tensorflow_session_config_file:
            session_config(options)  # what is wrong with it is told now, not by each version that does not load
        self._stopped = threading.Event()
        self._file_thread = threading.Thread(target=self._follow_file, name="model-config-file", daemon=True)

    def start(self) -> None:
        """Load what is there; raises ServingError when the configuration is refused."""
        try:
            check_configuration(self._configuration)
            self._labels = self._assigned(self._configuration)
        except Refusal as error:
            remedy = (
                "; start with --allow_version_labels_for_unavailable_models=true"
                if error.code is grpc.StatusCode.FAILED_PRECONDITION
                else ""
            )
            source = self._options.model_config_file or "the flags"
            raise ServingError(f"{source}: the model configuration is refused: {error}{remedy}") from error
        self._watcher.start(list(self._configuration.model_config_list.config))
        if self._options.model_config_file and self._options.model_config_file_poll_wait_seconds:
            self._file_thread.start()

    def stop(self) -> None:
        """Stop watching base paths and configuration file, and let go of every version."""
        self._stopped.set()
        self._watcher.stop()
        if self._file_thread.is_alive():
            self._file_thread.join()
        self._table.unload_all()

    def use(self, model_spec: Any) -> AbstractContextManager[Servable]:
        """The version that a ModelSpec asks for, by number, by label or the latest, held until the block ends."""
        if not model_spec.name:
            raise invalid_argument("ModelSpec has no name specified.")
        match model_spec.WhichOneof("version_choice"):
            case "version":
                return self._table.use(model_spec.name, model_spec.version.value)
            case "version_label":
                label = model_spec.version_label
                version = self._labels.get(model_spec.name, {}).get(label)
                if version is None:
                    raise invalid_argument(f"Unrecognized servable version label: {label}")
                return self._table.use(model_spec.name, version)
            case _:
                return self._table.use(model_spec.name, None)

    def predict(
        self,
        servable: Servable,
        signature: str,
        tensors: Mapping[str, ReceivedTensor],
        output_filter: Iterable[str],
        seconds: float | None,
    ) -> dict[str, NDArray[Any]]:
        """Outputs of a signature for tensors as they were received; raises Refusal as TF Serving refuses."""
        inputs, outputs = prepared(servable.model, signature, tensors, output_filter)
        return self.run(servable, signature, inputs, outputs, seconds)

    def run(
        self,
        servable: Servable,
        signature: str,
        inputs: Mapping[str, NDArray[Any]],
        outputs: list[str],
        seconds: float | None,
    ) -> dict[str, NDArray[Any]]:
        """Outputs of a signature for arrays that fit it, with the time counted; raises Refusal."""
        limit = seconds if seconds is not None and seconds < _LONGEST_SECONDS else None
        began = time.monotonic()
        computed = servable.model.run(signature or DEFAULT_SIGNATURE, inputs, outputs, limit)
        self.metrics.add(RUNTIME_LATENCY, servable.name, "Predict", "TF1", amount=_microseconds_since(began))
        return computed

    @contextmanager
    def metered(self, model_name: str, entrypoint: str) -> Iterator[None]:
        """Count a request for a model, its status and, if it is answered, its time.

        Names that no configuration holds are counted together, for callers may ask for any.
        """
        known = {model.name for model in self._configuration.model_config_list.config}
        name = model_name if model_name in known else _UNKNOWN_MODEL
        began, status = time.monotonic(), grpc.StatusCode.INTERNAL
        try:
            yield
            status = grpc.StatusCode.OK
            self.metrics.add(REQUEST_LATENCY, name, "Predict", entrypoint, amount=_microseconds_since(began))
        except Refusal as refusal:
            status = refusal.code
            raise
        finally:
            self.metrics.add(REQUEST_COUNT, name, status.name)

    def states(self, model_spec: Any) -> list[VersionState]:
        """State of the version that is named by number, or of all versions; refuses with NOT_FOUND."""
        states = self._table.states(model_spec.name)
        if model_spec.HasField("version"):
            version = model_spec.version.value
            states = [state for state in states if state.version == version]
            if not states:
                raise not_found(f"Could not find version {version} of model {model_spec.name}")
        elif not states:
            raise not_found(f"Could not find any versions of model {model_spec.name}")
        return states

    def reload(self, configuration: Any) -> None:
        """Serve exactly what a ModelServerConfig names; models that it leaves out are unloaded.

        Returns when a version of every new model answers; models that were there change in the background.

        Raises:
            Refusal: for a configuration that is not applied; UNKNOWN for one with a new model that does not load.
        """
        with self._reloading:
            check_configuration(configuration)
            self._labels = self._assigned(configuration)
            known = {model.name for model in self._configuration.model_config_list.config}
            self._configuration = configuration
            models = list(configuration.model_config_list.config)
            new = [model.name for model in models if model.name not in known]
            self._watcher.replace(models, wait=bool(new))
        unavailable = [name for name in new if not self._table.available(name)]
        if unavailable:
            listed = ", ".join(f"{{name: {name} {self._watcher.trouble(name)}}}" for name in unavailable)
            raise Refusal(
                grpc.StatusCode.UNKNOWN, f"{len(unavailable)} model(s) did not become available: {{{listed}}}"
            )

    def _assigned(self, configuration: Any) -> Labels:
        models = configuration.model_config_list.config
        return assign_labels(
            configuration,
            current=self._labels,
            available={model.name: self._table.available(model.name) for model in models},
            allow_unavailable=self._options.allow_version_labels_for_unavailable_models,
        )

    def _follow_file(self) -> None:
        """Apply the configuration file whenever it changes; one that is refused is tried again at the next turn."""
        applied = self._configuration
        refused = ""
        while not self._stopped.wait(self._options.model_config_file_poll_wait_seconds):
            try:
                configuration = read_configuration(Path(self._options.model_config_file))
                if configuration == applied:
                    continue
                self.reload(configuration)
            except (Refusal, UsageError) as error:
                if str(error) != refused:
                    LOGGER.error("%s: not applied: %s", self._options.model_config_file, error)
                refused = str(error)
            else:
                applied, refused = configuration, ""
                LOGGER.info("%s: applied", self._options.model_config_file)


def _microseconds_since(began: float) -> int:
    return round((time.monotonic() - began) * _MICROSECONDS)
