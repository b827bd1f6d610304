"""Models, versions and labels of the embedded server.

The rules of a configuration are those of TF Serving's `ServerCore` (model_servers/server_core.cc).
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import grpc
from numpy.typing import NDArray

from metseg.errors import ServingError, UsageError
from metseg.serving.model_config import PLATFORM, empty_configuration, read_configuration
from metseg.serving.server.flags import ServerOptions
from metseg.serving.server.metrics import REQUEST_COUNT, REQUEST_LATENCY, RUNTIME_LATENCY, Metrics
from metseg.serving.server.request_validation import DEFAULT_SIGNATURE
from metseg.serving.server.saved_model import session_config
from metseg.serving.server.servables import Servable, ServableTable, VersionState
from metseg.serving.server.status import StatusError, failed_precondition, invalid_argument, not_found
from metseg.serving.server.version_source import BasePathWatcher
from metseg.tensorflow_protos import model_server_config_pb2

LOGGER = logging.getLogger(__name__)

_LONGEST_SECONDS = 1e6
"""A longer deadline counts as none; TensorFlow takes no more than 2^63 milliseconds."""
_UNKNOWN_MODEL = "(unknown)"

Labels = dict[str, dict[str, int]]
"""Version of each label of each model."""


class ServerCore:
    """Models, versions and labels of one server; safe to use from any thread.

    Attributes:
        metrics: counters and latencies for Prometheus.
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
            session_config(options)  # report errors in the file now, not with each version
        self._stopped = threading.Event()
        self._file_thread = threading.Thread(target=self._follow_file, name="model-config-file", daemon=True)

    def start(self) -> None:
        """Load the versions below the base paths; raises ServingError for an invalid configuration."""
        try:
            check_configuration(self._configuration)
            self._labels = self._assigned(self._configuration)
        except StatusError as error:
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
        """Stop watching base paths and configuration file, and unload every version."""
        self._stopped.set()
        self._watcher.stop()
        if self._file_thread.is_alive():
            self._file_thread.join()
        self._table.unload_all()

    def use(self, model_spec: Any) -> AbstractContextManager[Servable]:
        """Hold the version of a ModelSpec until the block ends; by default the latest."""
        if not model_spec.name:
            raise invalid_argument("ModelSpec has no name specified.")
        version = model_spec.version.value if model_spec.HasField("version") else None
        if model_spec.HasField("version_label"):
            version = self._labels.get(model_spec.name, {}).get(model_spec.version_label)
            if version is None:
                raise invalid_argument(f"Unrecognized servable version label: {model_spec.version_label}")
        return self._table.use(model_spec.name, version)

    def run(
        self,
        servable: Servable,
        signature: str,
        inputs: Mapping[str, NDArray[Any]],
        outputs: list[str],
        seconds: float | None,
    ) -> dict[str, NDArray[Any]]:
        """Compute outputs of a signature for valid arrays and record the latency.

        Raises:
            StatusError: as `LoadedModel.run`.
        """
        limit = seconds if seconds is not None and seconds < _LONGEST_SECONDS else None
        began = time.monotonic()
        computed = servable.model.run(signature or DEFAULT_SIGNATURE, inputs, outputs, limit)
        self.metrics.add_time(RUNTIME_LATENCY, servable.name, "Predict", "TF1", since=began)
        return computed

    @contextmanager
    def metered(self, model_name: str, entrypoint: str) -> Iterator[None]:
        """Count a request for a model by status, and record the latency of a success.

        Requests for models outside the configuration are counted under one name, so that callers cannot add names.
        """
        known = {model.name for model in self._configuration.model_config_list.config}
        name = model_name if model_name in known else _UNKNOWN_MODEL
        began, status = time.monotonic(), grpc.StatusCode.INTERNAL
        try:
            yield
            status = grpc.StatusCode.OK
            self.metrics.add_time(REQUEST_LATENCY, name, "Predict", entrypoint, since=began)
        except StatusError as refusal:
            status = refusal.code
            raise
        finally:
            self.metrics.add(REQUEST_COUNT, name, status.name)

    def states(self, model_spec: Any) -> dict[int, VersionState]:
        """Return the state of one version (by number) or of all; raises StatusError with NOT_FOUND."""
        states = self._table.states(model_spec.name)
        if model_spec.HasField("version"):
            version = model_spec.version.value
            if version not in states:
                raise not_found(f"Could not find version {version} of model {model_spec.name}")
            return {version: states[version]}
        if not states:
            raise not_found(f"Could not find any versions of model {model_spec.name}")
        return states

    def reload(self, configuration: Any) -> None:
        """Serve exactly the models of a ModelServerConfig; others are unloaded.

        Returns when every new model has an available version; the other models change in the background.

        Raises:
            StatusError: for a configuration that is not applied; UNKNOWN if a new model does not load.
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
            listed = ", ".join(f"{{name: {name} {self._watcher.failure_text(name)}}}" for name in unavailable)
            raise StatusError(
                grpc.StatusCode.UNKNOWN, f"{len(unavailable)} model(s) did not become available: {{{listed}}}"
            )

    def _assigned(self, configuration: Any) -> Labels:
        """Return the labels of a new configuration.

        `--allow_version_labels_for_unavailable_models` covers, as in TF Serving, a label that is new or does not move.

        Raises:
            StatusError: FAILED_PRECONDITION for a label on a version that is not available.
        """
        labels: Labels = {}
        for model in configuration.model_config_list.config:
            labels[model.name] = dict(model.version_labels)
            available, current = self._table.available(model.name), self._labels.get(model.name, {})
            for label, version in model.version_labels.items():
                moves = current.get(label, version) != version
                if version not in available and (
                    moves or not self._options.allow_version_labels_for_unavailable_models
                ):
                    raise failed_precondition(
                        f"Request to assign label to version {version} of model {model.name}, "
                        "which is not currently available for inference"
                    )
        return labels

    def _follow_file(self) -> None:
        """Apply the configuration file whenever it changes; retry a rejected file."""
        applied = self._configuration
        last_error = ""
        while not self._stopped.wait(self._options.model_config_file_poll_wait_seconds):
            try:
                configuration = read_configuration(Path(self._options.model_config_file))
                if configuration == applied:
                    continue
                self.reload(configuration)
            except (StatusError, UsageError) as error:
                if str(error) != last_error:
                    LOGGER.error("%s: not applied: %s", self._options.model_config_file, error)
                last_error = str(error)
            else:
                applied, last_error = configuration, ""
                LOGGER.info("%s: applied", self._options.model_config_file)


def initial_configuration(options: ServerOptions) -> Any:
    """Return the ModelServerConfig of the flags; raises UsageError for a file that cannot be read."""
    if options.model_config_file:
        return read_configuration(Path(options.model_config_file))
    configuration = empty_configuration()
    configuration.model_config_list.config.add(
        name=options.model_name, base_path=str(Path(options.model_base_path).absolute()), model_platform=PLATFORM
    )
    return configuration


def check_configuration(configuration: Any) -> None:
    """Raise StatusError, INVALID_ARGUMENT, for a configuration that TF Serving rejects."""
    if configuration.WhichOneof("config") != "model_config_list":
        raise invalid_argument(
            "ServerModelConfig type not supported by HandleReloadConfigRequest."
            " Only ModelConfigList is currently supported"
        )
    names = set()
    for model in configuration.model_config_list.config:
        if model.name in names:
            raise invalid_argument(f"Illegal to list model {model.name} multiple times in config list")
        names.add(model.name)
    for model in configuration.model_config_list.config:
        if not Path(model.base_path).is_absolute():
            raise invalid_argument(
                f"Expected model {model.name} to have an absolute path or URI; got base_path()={model.base_path}"
            )
        _check_platform(model)


def _check_platform(model: Any) -> None:
    if model.model_type and model.model_platform:
        raise invalid_argument(
            "Illegal setting both ModelServerConfig::model_type (deprecated) and ModelServerConfig::model_platform."
        )
    platform = PLATFORM if model.model_type == model_server_config_pb2.TENSORFLOW else model.model_platform
    if not platform:
        raise invalid_argument(
            "Illegal setting neither ModelServerConfig::model_type (deprecated) nor ModelServerConfig::model_platform."
        )
    if platform != PLATFORM:
        raise invalid_argument(f"Model {model.name} requests unsupported platform {platform}")
