"""The flags of `tensorflow_model_server` that the embedded server honours, under the same names, checked at the door.

Names, meanings and defaults are those of `model_servers/main.cc` and `model_servers/server.h`, except where a help text
says otherwise.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import TypeVar

from metseg.errors import UsageError

DEFAULT_MODEL_NAME = "brain-mets-segmentation"
DEFAULT_PORT = 8500
LARGEST_PORT = 65535

_Value = TypeVar("_Value")


def _flag(default: _Value, explanation: str) -> _Value:
    """A field of ServerOptions with the text that `metseg serve --help` shows."""
    value: _Value = field(default=default, metadata={"help": explanation})
    return value


@dataclass(frozen=True)
class ServerOptions:
    """How a model server runs. `host` and `shutdown_grace_seconds` are our own; the rest is TF Serving's."""

    port: int = _flag(DEFAULT_PORT, "TCP port of the gRPC API. Unlike TF Serving's, 0 picks a free one.")
    grpc_socket_path: str = _flag("", "Listen on this UNIX socket for the gRPC API, too.")
    rest_api_port: int = _flag(0, "Port of the HTTP/REST API; 0 leaves it off. The official image sets 8501.")
    rest_api_num_threads: int = _flag(4 * (os.cpu_count() or 1), "REST requests computed at the same time.")
    rest_api_timeout_in_ms: int = _flag(30_000, "Longest computation of a REST request; 0 sets no limit.")
    rest_api_enable_cors_support: bool = _flag(False, "Let pages of other origins call the REST API.")
    model_name: str = _flag(DEFAULT_MODEL_NAME, "Name under which model_base_path is served (TF Serving: default).")
    model_base_path: str = _flag("", "Folder of the versions, one folder each, named by its number.")
    model_config_file: str = _flag(
        "", "ModelServerConfig as text: several models, policies, labels. Then the two flags above are ignored."
    )
    model_config_file_poll_wait_seconds: float = _flag(
        0, "Seconds between two looks at model_config_file; 0 reads it once."
    )
    allow_version_labels_for_unavailable_models: bool = _flag(
        False, "Accept a new label for a version that is not loaded yet; moving a label never may."
    )
    saved_model_tags: str = _flag("serve", "Tags of the graph to load from a SavedModel, separated by commas.")
    max_num_load_retries: int = _flag(5, "How often a version that failed to load is tried again.")
    load_retry_interval_micros: int = _flag(60_000_000, "Microseconds between two tries; none if negative.")
    file_system_poll_wait_seconds: float = _flag(
        1, "Seconds between two looks at the base paths; 0 looks at start and at a reload only."
    )
    flush_filesystem_caches: bool = _flag(
        True, "For remote file systems; local ones, which we read, have nothing to flush."
    )
    enable_model_warmup: bool = _flag(True, "Run assets.extra/tf_serving_warmup_requests before a version answers.")
    num_request_iterations_for_warmup: int = _flag(0, "How often each warm-up request is run; once if 0.")
    tensorflow_session_parallelism: int = _flag(
        0, "Threads inside an operation and among operations; 0: as many as cores."
    )
    tensorflow_intra_op_parallelism: int = _flag(0, "Threads inside an operation; 0: as many as cores.")
    tensorflow_inter_op_parallelism: int = _flag(0, "Threads among operations; 0: as many as cores.")
    tensorflow_session_config_file: str = _flag(
        "", "ConfigProto as text for TensorFlow; the three flags above go first."
    )
    per_process_gpu_memory_fraction: float = _flag(
        0.0, "Share of a GPU's memory to take, 0 to 1; 0 leaves it to TensorFlow."
    )
    grpc_max_threads: int = _flag(4 * (os.cpu_count() or 1), "gRPC requests answered at the same time.")
    grpc_channel_arguments: str = _flag(
        "", "Arguments of the gRPC server, such as grpc.max_receive_message_length=268435456, separated by commas."
    )
    enable_grpc_healthcheck_service: bool = _flag(
        False, "Answer grpc.health.v1 for the server, ModelService and PredictionService."
    )
    enable_serialization_as_tensor_content: bool = _flag(
        False, "Answer gRPC with raw bytes instead of typed fields: less time."
    )
    ssl_config_file: str = _flag("", "SSLConfig as text: serve gRPC over TLS, with client certificates if it says so.")
    monitoring_config_file: str = _flag("", "MonitoringConfig as text: serve metrics for Prometheus on the REST port.")
    host: str = _flag(
        "127.0.0.1", "Ours. Address to listen on; 0.0.0.0, TF Serving's, opens the server to the network."
    )
    shutdown_grace_seconds: float = _flag(
        120, "Ours. How long calls in flight may take to finish after SIGTERM or SIGINT."
    )

    def __post_init__(self) -> None:
        """Refuse what cannot be honoured, by the flag's name; raises UsageError."""
        for flag in _AT_LEAST_ZERO:
            self._require(flag, getattr(self, flag) >= 0, "0 or more")
        for flag in ("port", "rest_api_port"):
            self._require(flag, getattr(self, flag) <= LARGEST_PORT, f"0 to {LARGEST_PORT}")
        for flag in ("grpc_max_threads", "rest_api_num_threads"):
            self._require(flag, getattr(self, flag) >= 1, "1 or more")
        self._require("per_process_gpu_memory_fraction", self.per_process_gpu_memory_fraction <= 1, "0 to 1")
        if self.rest_api_port and self.rest_api_port == self.port:
            raise UsageError(f"--rest_api_port and --port are both {self.port}; expected two different ports")
        either = self.tensorflow_intra_op_parallelism or self.tensorflow_inter_op_parallelism
        if self.tensorflow_session_parallelism and either:
            raise UsageError(
                "--tensorflow_session_parallelism sets what --tensorflow_intra_op_parallelism and "
                "--tensorflow_inter_op_parallelism set; expected the one or the others"
            )
        if not self.model_base_path and not self.model_config_file:
            raise UsageError("nothing to serve: give --model_base_path or --model_config_file")
        if not self.model_name and not self.model_config_file:
            raise UsageError("--model_name is empty; expected the name that callers ask for")

    def _require(self, flag: str, holds: bool, expected: str) -> None:
        if not holds:
            raise UsageError(f"--{flag} is {getattr(self, flag)}; expected {expected}")


_AT_LEAST_ZERO = (
    "port",
    "rest_api_port",
    "rest_api_timeout_in_ms",
    "model_config_file_poll_wait_seconds",
    "max_num_load_retries",
    "file_system_poll_wait_seconds",
    "num_request_iterations_for_warmup",
    "tensorflow_session_parallelism",
    "tensorflow_intra_op_parallelism",
    "tensorflow_inter_op_parallelism",
    "per_process_gpu_memory_fraction",
    "shutdown_grace_seconds",
)
