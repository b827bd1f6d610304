"""The flags of `tensorflow_model_server`: supported and rejected ones.

Names, meanings and defaults are those of `model_servers/main.cc` and `model_servers/server.h`, except if a help text
states otherwise.
"""

from __future__ import annotations

import os
import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields
from typing import TypeVar

from metseg.defaults import MODEL_NAME
from metseg.errors import UsageError
from metseg.serving import DEFAULT_PORT

LARGEST_PORT = 65535

FlagValue = bool | int | float | str

_Value = TypeVar("_Value")


def _flag(default: _Value, explanation: str) -> _Value:
    """Return a field of ServerOptions with its text in `metseg serve --help`."""
    value: _Value = field(default=default, metadata={"help": explanation})
    return value


@dataclass(frozen=True)
class ServerOptions:
    """Options of a model server.

    `host` and `shutdown_grace_seconds` are metseg's own; the rest is TF Serving's.
    """

    port: int = _flag(DEFAULT_PORT, "TCP port of the gRPC API. Unlike TF Serving's, 0 picks a free one.")
    grpc_socket_path: str = _flag("", "Serve the gRPC API on this UNIX socket too.")
    rest_api_port: int = _flag(0, "Port of the HTTP/REST API; 0 leaves it off. The official image sets 8501.")
    rest_api_num_threads: int = _flag(4 * (os.cpu_count() or 1), "REST requests computed at the same time.")
    rest_api_timeout_in_ms: int = _flag(30_000, "Longest computation of a REST request; 0 sets no limit.")
    rest_api_enable_cors_support: bool = _flag(False, "Let pages of other origins call the REST API.")
    model_name: str = _flag(MODEL_NAME, "Name under which model_base_path is served (TF Serving: default).")
    model_base_path: str = _flag("", "Folder of the versions, one folder each, named by its number.")
    model_config_file: str = _flag(
        "", "ModelServerConfig as text: several models, policies, labels. Then the two flags above are ignored."
    )
    model_config_file_poll_wait_seconds: float = _flag(
        0, "Seconds between two polls of model_config_file; 0 reads it once."
    )
    allow_version_labels_for_unavailable_models: bool = _flag(
        False, "Accept a new label for a version that is not loaded yet; moving a label never may."
    )
    saved_model_tags: str = _flag("serve", "Tags of the graph to load from a SavedModel, separated by commas.")
    max_num_load_retries: int = _flag(5, "Number of further attempts for a version that failed to load.")
    load_retry_interval_micros: int = _flag(60_000_000, "Microseconds between two attempts; none if negative.")
    file_system_poll_wait_seconds: float = _flag(
        1, "Seconds between two polls of the base paths; 0 polls at the start and at a reload only."
    )
    flush_filesystem_caches: bool = _flag(
        True, "No effect: it is for remote file systems, and metseg reads local ones."
    )
    enable_model_warmup: bool = _flag(
        True, "Run assets.extra/tf_serving_warmup_requests before a version is available."
    )
    num_request_iterations_for_warmup: int = _flag(0, "Runs of each warm-up request; one if 0.")
    tensorflow_session_parallelism: int = _flag(
        0, "Threads in an operation and between operations; 0: as many as cores."
    )
    tensorflow_intra_op_parallelism: int = _flag(0, "Threads in an operation; 0: as many as cores.")
    tensorflow_inter_op_parallelism: int = _flag(0, "Threads between operations; 0: as many as cores.")
    tensorflow_session_config_file: str = _flag(
        "", "ConfigProto as text for TensorFlow; the three flags above take precedence."
    )
    per_process_gpu_memory_fraction: float = _flag(
        0.0, "Share of a GPU's memory to take, 0 to 1; 0 leaves it to TensorFlow."
    )
    grpc_max_threads: int = _flag(4 * (os.cpu_count() or 1), "gRPC requests processed at the same time.")
    grpc_channel_arguments: str = _flag(
        "", "Arguments of the gRPC server, such as grpc.max_receive_message_length=268435456, separated by commas."
    )
    enable_grpc_healthcheck_service: bool = _flag(
        False, "Serve grpc.health.v1 for the server, ModelService and PredictionService."
    )
    enable_serialization_as_tensor_content: bool = _flag(
        False, "Return tensors over gRPC as raw bytes instead of typed fields, which is faster."
    )
    ssl_config_file: str = _flag(
        "", "SSLConfig as text: serve gRPC over TLS, with client certificates if client_verify is set."
    )
    monitoring_config_file: str = _flag("", "MonitoringConfig as text: serve metrics for Prometheus on the REST port.")
    host: str = _flag(
        "127.0.0.1",
        "metseg's own. Address to listen on; TF Serving's 0.0.0.0 opens the server to the network.",
    )
    shutdown_grace_seconds: float = _flag(
        120, "metseg's own. Seconds for calls in flight to finish after SIGTERM or SIGINT."
    )

    def __post_init__(self) -> None:
        """Validate the values; raises UsageError with the flag's name."""
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
                "--tensorflow_inter_op_parallelism set; expected the first or the other two"
            )
        if not self.model_base_path and not self.model_config_file:
            raise UsageError("nothing to serve: give --model_base_path or --model_config_file")
        if not self.model_name and not self.model_config_file:
            raise UsageError("--model_name is empty; expected the name of the model in requests")

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


BOOLEANS = {"true": True, "1": True, "t": True, "false": False, "0": False, "f": False}

_SIZES_DIFFER = "requests of different sizes would fail, or change each other's results"
_ONE_BY_ONE = "versions are loaded and unloaded one at a time, parallel to the requests"
_NO_LITE = "only TensorFlow models are served"
_NO_XLA = "XLA would change pixels of the preprocessing"
_CPU_OR_GPU = "TPUs are not supported"

UNSUPPORTED: dict[str, tuple[str, str]] = {
    # flag: (TF Serving's default, reason of the rejection)
    "enable_batching": ("false", _SIZES_DIFFER),
    "batching_parameters_file": ("", _SIZES_DIFFER),
    "enable_per_model_batching_parameters": ("false", _SIZES_DIFFER),
    "num_load_threads": ("0", _ONE_BY_ONE),
    "num_unload_threads": ("0", _ONE_BY_ONE),
    "use_alts_credentials": ("false", "ALTS exists inside Google's cloud only: use --ssl_config_file"),
    "platform_config_file": ("", "there is one platform, tensorflow: use --tensorflow_session_config_file"),
    "remove_unused_fields_from_bundle_metagraph": ("true", "it would be without effect here"),
    "prefer_tflite_model": ("false", _NO_LITE),
    "num_tflite_pools": ("0", _NO_LITE),
    "num_tflite_interpreters_per_pool": ("1", _NO_LITE),
    "enable_signature_method_name_check": ("false", "signatures are served whatever their method name"),
    "xla_cpu_compilation_enabled": ("false", _NO_XLA),
    "xla_gpu_compilation_enabled": ("false", _NO_XLA),
    "enable_profiler": ("false", "there is no profiler service"),
    "thread_pool_factory_config_file": ("", "use --tensorflow_intra_op_parallelism and its like"),
    "mixed_precision": ("", "a model is served in the precision it was exported in"),
    "skip_initialize_tpu": ("false", _CPU_OR_GPU),
}
"""Flags of `tensorflow_model_server` that are rejected unless they have its own default value."""

_KINDS = {one.name: str(one.type) for one in fields(ServerOptions)}
_SWITCHES = {name for name, kind in _KINDS.items() if kind == "bool"} | {
    name for name, (default, _) in UNSUPPORTED.items() if default in BOOLEANS and not default.isdigit()
}

_CONVERTERS: dict[str, Callable[[str], FlagValue]] = {
    "bool": lambda text: BOOLEANS[text.lower()],
    "int": int,
    "float": float,
    "str": str,
}


def parse_flags(arguments: Sequence[str]) -> ServerOptions:
    """Parse `--name=value`, `--name value`, and `--name` alone for a switch.

    Raises:
        UsageError: for an unknown or unsupported flag, or a value of the wrong type; it names the flag.
    """
    given: dict[str, FlagValue] = {}
    remaining = list(arguments)
    while remaining:
        argument = remaining.pop(0)
        name, separator, value = argument.removeprefix("--").partition("=")
        if not argument.startswith("--") or name not in _KINDS | UNSUPPORTED:
            raise UsageError(f"metseg serve does not know {argument!r}; `metseg serve --help` lists its flags")
        if not separator:
            value = _next_value(name, remaining)
        if name in UNSUPPORTED:
            _require_default(name, value)
        else:
            given[name] = _convert(name, value)
    return ServerOptions(**given)  # type: ignore[arg-type]


def flags_help(width: int = 100) -> str:
    """Return the help text: every flag with its default and meaning, then the rejected flags."""
    lines = ["Flags of tensorflow_model_server, as --name=value, --name value, or --name for a switch:", ""]
    for one in fields(ServerOptions):
        default = str(one.default).lower() if isinstance(one.default, bool) else one.default
        shown = f" [{default}]" if default != "" else ""
        lines += _entry(f"--{one.name}{shown}", one.metadata["help"], width)
    lines += ["", "Flags of tensorflow_model_server that are rejected, with the reason:", ""]
    for name, (_, reason) in UNSUPPORTED.items():
        lines += _entry(f"--{name}", reason, width)
    return "\n".join(lines)


def _entry(title: str, text: str, width: int) -> list[str]:
    return [f"  {title}", *textwrap.wrap(text, width, initial_indent=" " * 6, subsequent_indent=" " * 6)]


def _next_value(name: str, remaining: list[str]) -> str:
    """Return the value of a flag that is an argument of its own."""
    if name in _SWITCHES:
        return remaining.pop(0) if remaining and remaining[0].lower() in BOOLEANS else "true"
    if not remaining:
        raise UsageError(f"--{name} needs a value")
    return remaining.pop(0)


def _convert(name: str, text: str) -> FlagValue:
    kind = _KINDS[name]
    try:
        return _CONVERTERS[kind](text)
    except (KeyError, ValueError):
        raise UsageError(f"--{name}={text}: expected a value of type {kind}") from None


def _require_default(name: str, value: str) -> None:
    default, reason = UNSUPPORTED[name]
    same = BOOLEANS.get(value.lower()) == BOOLEANS[default] if name in _SWITCHES else value == default
    if not same:
        raise UsageError(
            f"--{name}={value} is not supported by the embedded server: {reason}. "
            "Leave it out, or run TF Serving itself on the same base path"
        )
