"""The command line of tensorflow_model_server: supported flags, rejected flags, `--help`."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from metseg.errors import UsageError
from metseg.serving.server.flags import UNSUPPORTED, ServerOptions, flags_help, parse_flags

# As model_servers/main.cc declares them.
FLAGS_OF_TF_SERVING = [
    "port",
    "grpc_socket_path",
    "rest_api_port",
    "rest_api_num_threads",
    "rest_api_timeout_in_ms",
    "rest_api_enable_cors_support",
    "enable_batching",
    "allow_version_labels_for_unavailable_models",
    "batching_parameters_file",
    "enable_per_model_batching_parameters",
    "model_config_file",
    "model_config_file_poll_wait_seconds",
    "model_name",
    "model_base_path",
    "num_load_threads",
    "num_unload_threads",
    "max_num_load_retries",
    "load_retry_interval_micros",
    "file_system_poll_wait_seconds",
    "flush_filesystem_caches",
    "tensorflow_session_parallelism",
    "tensorflow_session_config_file",
    "tensorflow_intra_op_parallelism",
    "tensorflow_inter_op_parallelism",
    "use_alts_credentials",
    "ssl_config_file",
    "platform_config_file",
    "per_process_gpu_memory_fraction",
    "saved_model_tags",
    "grpc_channel_arguments",
    "grpc_max_threads",
    "enable_model_warmup",
    "num_request_iterations_for_warmup",
    "version",
    "monitoring_config_file",
    "remove_unused_fields_from_bundle_metagraph",
    "prefer_tflite_model",
    "num_tflite_pools",
    "num_tflite_interpreters_per_pool",
    "enable_signature_method_name_check",
    "xla_cpu_compilation_enabled",
    "xla_gpu_compilation_enabled",
    "enable_profiler",
    "thread_pool_factory_config_file",
    "mixed_precision",
    "skip_initialize_tpu",
    "enable_grpc_healthcheck_service",
    "enable_serialization_as_tensor_content",
]
OURS = {"host", "shutdown_grace_seconds"}
BASE = "--model_base_path=/b"


def test_every_flag_of_tf_serving_is_taken_or_refused_by_name() -> None:
    taken = set(ServerOptions.__dataclass_fields__)
    assert (taken - OURS) | set(UNSUPPORTED) | {"version"} == set(FLAGS_OF_TF_SERVING)
    assert not taken & set(UNSUPPORTED)


def test_help_lists_every_flag_with_what_it_means() -> None:
    lines = flags_help().splitlines()
    for name in set(FLAGS_OF_TF_SERVING) - {"version"}:
        place = next(index for index, line in enumerate(lines) if line.split(" [")[0] == f"  --{name}")
        assert lines[place + 1].startswith("      ") and lines[place + 1].strip()


def test_help_of_the_command_needs_no_server() -> None:
    command = [str(Path(sys.executable).parent / "metseg"), "serve"]
    shown = subprocess.run([*command, "--help"], capture_output=True, text=True, timeout=60, check=True).stdout
    assert "--rest_api_timeout_in_ms [30000]" in shown and "--enable_batching" in shown
    version = subprocess.run([*command, "--version"], capture_output=True, text=True, timeout=60, check=True).stdout
    assert "TensorFlow 2." in version
    refused = subprocess.run([*command, "--enable_batching"], capture_output=True, text=True, timeout=60, check=False)
    assert refused.returncode == 2 and refused.stderr.startswith("metseg: --enable_batching=true is not supported")


def test_defaults_are_those_of_tf_serving() -> None:
    options = ServerOptions(model_base_path="models")
    assert (options.port, options.rest_api_port, options.rest_api_timeout_in_ms) == (8500, 0, 30_000)
    assert (options.file_system_poll_wait_seconds, options.model_config_file_poll_wait_seconds) == (1, 0)
    assert (options.max_num_load_retries, options.load_retry_interval_micros) == (5, 60_000_000)
    assert (options.enable_model_warmup, options.num_request_iterations_for_warmup) == (True, 0)
    assert not options.enable_grpc_healthcheck_service
    assert not options.enable_serialization_as_tensor_content
    assert not options.allow_version_labels_for_unavailable_models


@pytest.mark.parametrize(
    ("arguments", "field", "value"),
    [
        (["--port=8501"], "port", 8501),
        (["--port", "8501"], "port", 8501),
        (["--model_name", "m"], "model_name", "m"),
        (["--enable_grpc_healthcheck_service"], "enable_grpc_healthcheck_service", True),
        (["--enable_grpc_healthcheck_service", "--port=1"], "enable_grpc_healthcheck_service", True),
        (["--enable_grpc_healthcheck_service=false"], "enable_grpc_healthcheck_service", False),
        (["--enable_grpc_healthcheck_service", "true"], "enable_grpc_healthcheck_service", True),
        (["--file_system_poll_wait_seconds=0.5"], "file_system_poll_wait_seconds", 0.5),
        (["--load_retry_interval_micros=-1"], "load_retry_interval_micros", -1),
    ],
)
def test_flags_are_read_as_tf_serving_reads_them(arguments: list[str], field: str, value: Any) -> None:
    assert getattr(parse_flags([*arguments, BASE]), field) == value


@pytest.mark.parametrize(
    "argument", ["--enable_batching=false", "--num_load_threads=0", "--platform_config_file=", "--enable_batching=0"]
)
def test_an_unsupported_flag_may_ask_for_nothing(argument: str) -> None:
    assert parse_flags([argument, BASE]) == ServerOptions(model_base_path="/b")


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--batch"], "does not know '--batch'.*--help"),
        (["model"], "does not know 'model'"),
        (["--port=x"], "--port=x: expected a value of type int"),
        (["--port"], "--port needs a value"),
        (["--enable_model_warmup=maybe"], "--enable_model_warmup=maybe"),
        (["--enable_batching"], "--enable_batching=true is not supported.*different sizes"),
        (["--batching_parameters_file=b.txt"], "--batching_parameters_file=b.txt is not supported"),
        (["--num_load_threads=4"], "--num_load_threads=4 is not supported.*one at a time"),
        (["--platform_config_file=p"], "--platform_config_file=p is not supported"),
    ],
)
def test_a_flag_that_cannot_be_honoured_is_refused_by_name(arguments: list[str], complaint: str) -> None:
    with pytest.raises(UsageError, match=complaint):
        parse_flags([*arguments, BASE] if arguments != ["--port"] else arguments)


@pytest.mark.parametrize(
    ("flags", "complaint"),
    [
        ({"port": -1}, "--port is -1"),
        ({"port": 70000}, "--port is 70000"),
        ({"rest_api_port": 8500}, "--rest_api_port and --port are both 8500"),
        ({"rest_api_timeout_in_ms": -1}, "--rest_api_timeout_in_ms is -1"),
        ({"grpc_max_threads": 0}, "--grpc_max_threads is 0"),
        ({"file_system_poll_wait_seconds": -1}, "--file_system_poll_wait_seconds is -1"),
        ({"per_process_gpu_memory_fraction": 1.5}, "--per_process_gpu_memory_fraction is 1.5"),
        (
            {"tensorflow_session_parallelism": 2, "tensorflow_inter_op_parallelism": 2},
            "--tensorflow_session_parallelism sets what",
        ),
        ({"model_name": ""}, "--model_name is empty"),
        ({"model_base_path": ""}, "--model_base_path or --model_config_file"),
    ],
)
def test_a_value_that_cannot_be_is_refused_by_the_flags_name(flags: dict[str, Any], complaint: str) -> None:
    with pytest.raises(UsageError, match=complaint):
        ServerOptions(**{"model_base_path": "models", **flags})
