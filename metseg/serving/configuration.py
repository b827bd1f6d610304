"""What the embedded model server is told: its flags and its model configuration, checked before anything runs.

Flags carry the names and defaults of `tensorflow_model_server` (model_servers/main.cc); the rules for a configuration
are those of TF Serving's `ServerCore` (model_servers/server_core.cc).
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from google.protobuf import text_format

from metseg.errors import UsageError
from metseg.serving.protos import model_server_config_pb2
from metseg.serving.refusal import failed_precondition, invalid_argument

DEFAULT_MODEL_NAME = "brain-mets-segmentation"
DEFAULT_PORT = 8500
PLATFORM = "tensorflow"


@dataclass(frozen=True)
class ServerOptions:
    """The flags of `tensorflow_model_server` that the embedded server honours, under the same names.

    Defaults are TF Serving's, but for `model_name` (there: `default`). Two settings are our own: `host`, which keeps a
    server without authentication to this machine unless told otherwise, and `shutdown_grace_seconds`.
    """

    port: int = DEFAULT_PORT
    """TCP port for gRPC; 0 picks a free one."""
    host: str = "127.0.0.1"
    """Address to listen on; `0.0.0.0` opens the server to the network."""
    rest_api_port: int = 0
    """The HTTP/REST port; only 0 (off) is supported."""
    model_name: str = DEFAULT_MODEL_NAME
    """Name under which `model_base_path` is served."""
    model_base_path: str = ""
    """Folder that holds one folder per version, named by its number; ignored when there is a `model_config_file`."""
    model_config_file: str = ""
    """Text file with a ModelServerConfig: several models, version policies, labels."""
    model_config_file_poll_wait_seconds: float = 0
    """Seconds between two looks at `model_config_file`; 0 reads it once."""
    allow_version_labels_for_unavailable_models: bool = False
    """Accept a new label for a version that is not loaded yet; moving a label never may."""
    file_system_poll_wait_seconds: float = 1
    """Seconds between two looks at the base paths; 0 looks at start and at a reload only."""
    max_num_load_retries: int = 5
    """How often a version that failed to load is tried again."""
    load_retry_interval_micros: int = 60_000_000
    """Microseconds between two tries."""
    grpc_max_threads: int = 4 * (os.cpu_count() or 1)
    """Requests answered at the same time."""
    enable_grpc_healthcheck_service: bool = False
    """Answer grpc.health.v1 for the server, `ModelService` and `PredictionService`."""
    enable_serialization_as_tensor_content: bool = False
    """Answer with raw bytes instead of typed fields: smaller masks, less time."""
    enable_batching: bool = False
    """Not supported: requests of different sizes would fail or change each other's answers."""
    ssl_config_file: str = ""
    """Not supported: put a TLS proxy in front, or use TF Serving itself."""
    shutdown_grace_seconds: float = 120
    """How long `serve` lets calls in flight finish after SIGTERM or SIGINT."""

    def __post_init__(self) -> None:
        """Refuse what cannot be honoured, by the flag's name; raises UsageError."""
        self._refuse_unsupported()
        for flag in (
            "port",
            "file_system_poll_wait_seconds",
            "model_config_file_poll_wait_seconds",
            "max_num_load_retries",
        ):
            if getattr(self, flag) < 0:
                raise UsageError(f"--{flag} is {getattr(self, flag)}; expected 0 or more")
        if self.port > 65535:
            raise UsageError(f"--port is {self.port}; expected 0 to 65535")
        if self.grpc_max_threads < 1:
            raise UsageError(f"--grpc_max_threads is {self.grpc_max_threads}; expected 1 or more")
        if not self.model_base_path and not self.model_config_file:
            raise UsageError("nothing to serve: give --model_base_path or --model_config_file")
        if self.model_base_path and not self.model_name and not self.model_config_file:
            raise UsageError("--model_name is empty; expected the name that callers ask for")

    def _refuse_unsupported(self) -> None:
        if self.rest_api_port:
            raise UsageError(
                f"--rest_api_port is {self.rest_api_port}, but the embedded server speaks gRPC only: "
                "leave it at 0, or run TF Serving for REST"
            )
        if self.enable_batching:
            raise UsageError(
                "--enable_batching is not supported: images of different sizes cannot share a batch; "
                "leave it off, or run TF Serving for callers of one fixed size"
            )
        if self.ssl_config_file:
            raise UsageError(
                "--ssl_config_file is not supported by the embedded server: "
                "put a TLS proxy in front of it, or run TF Serving"
            )


def initial_configuration(options: ServerOptions) -> Any:
    """The ModelServerConfig that the flags name.

    Raises:
        UsageError: when the configuration file cannot be read; it names the file.
    """
    if options.model_config_file:
        return read_configuration(Path(options.model_config_file))
    configuration = model_server_config_pb2.ModelServerConfig()
    configuration.model_config_list.config.add(
        name=options.model_name, base_path=str(Path(options.model_base_path).absolute()), model_platform=PLATFORM
    )
    return configuration


def read_configuration(path: Path) -> Any:
    """The ModelServerConfig in a text file; raises UsageError naming the file."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: the model configuration cannot be read: {error}") from error
    try:
        return text_format.Parse(text, model_server_config_pb2.ModelServerConfig())
    except text_format.ParseError as error:
        raise UsageError(f"{path}: not a ModelServerConfig in protobuf text format: {error}") from error


def check_configuration(configuration: Any) -> None:
    """Refuse a configuration that TF Serving refuses: INVALID_ARGUMENT or FAILED_PRECONDITION, as a Refusal."""
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


Labels = dict[str, dict[str, int]]
"""Version of each label of each model."""


def assign_labels(
    configuration: Any, current: Labels, available: dict[str, set[int]], *, allow_unavailable: bool
) -> Labels:
    """The labels that a new configuration gives.

    Args:
        configuration: the new ModelServerConfig.
        current: the labels now in force.
        available: versions of each model that answer requests now.
        allow_unavailable: `--allow_version_labels_for_unavailable_models`; as in TF Serving it covers a label that is
            new or stays where it is, never one that moves.

    Raises:
        Refusal: FAILED_PRECONDITION for a label on a version that is not available.
    """
    labels: Labels = {}
    for model in configuration.model_config_list.config:
        labels[model.name] = {}
        for label, version in model.version_labels.items():
            moves = current.get(model.name, {}).get(label, version) != version
            if version not in available.get(model.name, set()) and (moves or not allow_unavailable):
                raise failed_precondition(
                    f"Request to assign label to version {version} of model {model.name}, "
                    "which is not currently available for inference"
                )
            labels[model.name][label] = version
    return labels
