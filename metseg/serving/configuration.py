"""The model configuration of a server: read, checked, and what its labels point at.

The rules are those of TF Serving's `ServerCore` (model_servers/server_core.cc).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from metseg.serving.config_files import read_message
from metseg.serving.server.options import DEFAULT_MODEL_NAME, DEFAULT_PORT, ServerOptions
from metseg.serving.server.refusal import failed_precondition, invalid_argument
from metseg.tensorflow_protos import model_server_config_pb2

__all__ = [
    "DEFAULT_MODEL_NAME",
    "DEFAULT_PORT",
    "PLATFORM",
    "ServerOptions",
    "assign_labels",
    "check_configuration",
    "initial_configuration",
    "read_configuration",
]

PLATFORM = "tensorflow"


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
    return read_message(path, model_server_config_pb2.ModelServerConfig())


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
