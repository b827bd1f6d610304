"""The flags of `tensorflow_model_server`: supported and rejected ones.

Names, meanings and defaults are those of `model_servers/main.cc` and `model_servers/server.h`, except if a help text
states otherwise.
"""

from __future__ import annotations

import argparse
import math
import os
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from typing import TypeVar

from metseg.errors import UsageError
from metseg.serving_defaults import MODEL_NAME, SERVER_PORT

LARGEST_PORT = 65535

FlagValue = bool | int | float | str
_Value = TypeVar("_Value", bound=FlagValue)


def _flag(default: _Value, explanation: str, least: float = 0, most: float = math.inf) -> _Value:
    """Return a field of ServerOptions with its help text and a number's range."""
    value: _Value = field(default=default, metadata={"help": explanation, "range": (least, most)})
    return value


@dataclass(frozen=True)
class ServerOptions:
    """Options of a model server.

    `host` and `shutdown_grace_seconds` are metseg's own; the rest is TF Serving's.
    """

    port: int = _flag(
        SERVER_PORT, "TCP port of the gRPC API. Unlike TF Serving's, 0 picks a free one.", most=LARGEST_PORT
    )
    grpc_socket_path: str = _flag("", "Serve the gRPC API on this UNIX socket too.")
    rest_api_port: int = _flag(
        0, "Port of the HTTP/REST API; 0 leaves it off. The official image sets 8501.", most=LARGEST_PORT
    )
    rest_api_num_threads: int = _flag(4 * (os.cpu_count() or 1), "REST requests computed at the same time.", least=1)
    rest_api_timeout_in_ms: int = _flag(30_000, "Longest computation of a REST request; 0 sets no limit.")
    rest_api_enable_cors_support: bool = _flag(False, "Let pages of other origins call the REST API.")
    model_name: str = _flag(MODEL_NAME, "Name under which model_base_path is served (TF Serving: default).")
    model_base_path: str = _flag("", "Folder of the versions, one folder each, named by its number.")
    model_config_file: str = _flag(
        "", "ModelServerConfig as text: several models, policies, labels. Then the two flags above are ignored."
    )
    model_config_file_poll_wait_seconds: float = _flag(
        0.0, "Seconds between two polls of model_config_file; 0 reads it once."
    )
    allow_version_labels_for_unavailable_models: bool = _flag(
        False, "Accept a new label for a version that is not loaded yet; moving a label never may."
    )
    saved_model_tags: str = _flag("serve", "Tags of the graph to load from a SavedModel, separated by commas.")
    max_num_load_retries: int = _flag(5, "Number of further attempts for a version that failed to load.")
    load_retry_interval_micros: int = _flag(
        60_000_000, "Microseconds between two attempts; none if negative.", least=-math.inf
    )
    file_system_poll_wait_seconds: float = _flag(
        1.0, "Seconds between two polls of the base paths; 0 polls at the start and at a reload only."
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
    tensorflow_intra_op_parallelism: int = _flag(0, "Threads in an operation; 0: as many as cores.", least=-math.inf)
    tensorflow_inter_op_parallelism: int = _flag(0, "Threads between operations; 0: as many as cores.", least=-math.inf)
    tensorflow_session_config_file: str = _flag(
        "", "ConfigProto as text for TensorFlow; the three flags above take precedence."
    )
    per_process_gpu_memory_fraction: float = _flag(
        0.0, "Share of a GPU's memory to take, 0 to 1; 0 leaves it to TensorFlow.", most=1
    )
    grpc_max_threads: int = _flag(4 * (os.cpu_count() or 1), "gRPC requests processed at the same time.", least=1)
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
        120.0, "metseg's own. Seconds for calls in flight to finish after SIGTERM or SIGINT."
    )

    def __post_init__(self) -> None:
        """Validate the values; raises UsageError with the flag's name."""
        for one in fields(self):
            value, (least, most) = getattr(self, one.name), one.metadata["range"]
            if not isinstance(value, str) and not least <= value <= most:
                expected = f"{least:g} or more" if most == math.inf else f"{least:g} to {most:g}"
                raise UsageError(f"--{one.name} is {value}; expected {expected}")
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


BOOLEANS = {"true": True, "1": True, "t": True, "false": False, "0": False, "f": False}

_SIZES_DIFFER = "requests of different sizes would fail, or change each other's results"
_ONE_BY_ONE = "versions are loaded and unloaded one at a time, parallel to the requests"
_NO_LITE = "only TensorFlow models are served"
_NO_XLA = "XLA would change pixels of the preprocessing"
_CPU_OR_GPU = "TPUs are not supported"

UNSUPPORTED: dict[str, tuple[FlagValue, str]] = {
    # flag: (TF Serving's default, reason of the rejection)
    "enable_batching": (False, _SIZES_DIFFER),
    "batching_parameters_file": ("", _SIZES_DIFFER),
    "enable_per_model_batching_parameters": (False, _SIZES_DIFFER),
    "num_load_threads": (0, _ONE_BY_ONE),
    "num_unload_threads": (0, _ONE_BY_ONE),
    "use_alts_credentials": (False, "ALTS exists inside Google's cloud only: use --ssl_config_file"),
    "platform_config_file": ("", "there is one platform, tensorflow: use --tensorflow_session_config_file"),
    "remove_unused_fields_from_bundle_metagraph": (True, "it would be without effect here"),
    "prefer_tflite_model": (False, _NO_LITE),
    "num_tflite_pools": (0, _NO_LITE),
    "num_tflite_interpreters_per_pool": (1, _NO_LITE),
    "enable_signature_method_name_check": (False, "signatures are served whatever their method name"),
    "xla_cpu_compilation_enabled": (False, _NO_XLA),
    "xla_gpu_compilation_enabled": (False, _NO_XLA),
    "enable_profiler": (False, "there is no profiler service"),
    "thread_pool_factory_config_file": ("", "use --tensorflow_intra_op_parallelism and its like"),
    "mixed_precision": ("", "a model is served in the precision it was exported in"),
    "skip_initialize_tpu": (False, _CPU_OR_GPU),
}
"""Flags of `tensorflow_model_server` that are rejected unless they have its own default value."""

_DEFAULTS: dict[str, FlagValue] = {one.name: getattr(ServerOptions, one.name) for one in fields(ServerOptions)} | {
    name: default for name, (default, _) in UNSUPPORTED.items()
}


def parse_flags(arguments: Sequence[str]) -> ServerOptions:
    """Parse `--name=value`, `--name value`, and `--name` alone for a switch.

    Raises:
        UsageError: for an unknown or unsupported flag, or a value of the wrong type; it names the flag.
    """
    parser = argparse.ArgumentParser(
        add_help=False, allow_abbrev=False, exit_on_error=False, argument_default=argparse.SUPPRESS
    )
    for name, default in _DEFAULTS.items():
        switch = isinstance(default, bool)
        parser.add_argument(f"--{name}", nargs="?" if switch else None, const="true" if switch else None)
    try:
        given, unknown = parser.parse_known_args(arguments)
    except argparse.ArgumentError as error:
        raise UsageError(f"{error.argument_name} needs a value") from error
    if unknown:
        raise UsageError(f"metseg serve does not know {unknown[0]!r}; `metseg serve --help` lists its flags")
    values = {name: _convert(name, text) for name, text in vars(given).items()}
    return ServerOptions(**{name: values[name] for name in values.keys() - UNSUPPORTED})  # type: ignore[arg-type]


def _convert(name: str, text: str) -> FlagValue:
    default = _DEFAULTS[name]
    try:
        value = BOOLEANS[text.lower()] if isinstance(default, bool) else type(default)(text)
    except (KeyError, ValueError):
        raise UsageError(f"--{name}={text}: expected a value of type {type(default).__name__}") from None
    if name in UNSUPPORTED and value != default:
        raise UsageError(
            f"--{name}={text} is not supported by the embedded server: {UNSUPPORTED[name][1]}. "
            "Leave it out, or run TF Serving itself on the same base path"
        )
    return value


def flags_help() -> str:
    """Return the help text: every flag with its default and meaning, then the rejected flags."""
    lines = ["Flags of tensorflow_model_server, as --name=value, --name value, or --name for a switch:", ""]
    for one in fields(ServerOptions):
        default = str(one.default).lower().removesuffix(".0")
        lines += [f"  --{one.name} [{default}]" if default else f"  --{one.name}", _indented(one.metadata["help"])]
    lines += ["", "Flags of tensorflow_model_server that are rejected, with the reason:", ""]
    for name, (_, reason) in UNSUPPORTED.items():
        lines += [f"  --{name}", _indented(reason)]
    return "\n".join(lines)


def _indented(text: str) -> str:
    return textwrap.fill(text, 100, initial_indent=" " * 6, subsequent_indent=" " * 6)
