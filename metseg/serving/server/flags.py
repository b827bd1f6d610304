"""The command line of `metseg serve`: that of `tensorflow_model_server`."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import fields
from typing import Any

from metseg.errors import UsageError
from metseg.serving.server.options import ServerOptions

BOOLEANS = {"true": True, "1": True, "t": True, "false": False, "0": False, "f": False}

_SIZES_DIFFER = "requests of different sizes would fail, or change each other's answers"
_ONE_BY_ONE = "versions are loaded and unloaded one at a time, beside the requests"
_NO_LITE = "only TensorFlow models are served"
_NO_XLA = "XLA would change pixels of the preprocessing"
_CPU_OR_GPU = "there is no TPU here"

UNSUPPORTED: dict[str, tuple[str, str]] = {
    # flag: (TF Serving's default, why it is refused)
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
"""Flags of `tensorflow_model_server` that are refused unless they are given its own default, which asks for nothing."""

_KINDS = {one.name: str(one.type) for one in fields(ServerOptions)}
_SWITCHES = {name for name, kind in _KINDS.items() if kind == "bool"} | {
    name for name, (default, _) in UNSUPPORTED.items() if default in BOOLEANS and not default.isdigit()
}


def parse_flags(arguments: Sequence[str]) -> ServerOptions:
    """Parse `--name=value`, `--name value`, and `--name` alone for a switch.

    Raises:
        UsageError: a flag that is unknown or not supported, or a value of the wrong type; it is named.
    """
    given: dict[str, Any] = {}
    remaining = list(arguments)
    while remaining:
        argument = remaining.pop(0)
        name, separator, value = argument.removeprefix("--").partition("=")
        if not argument.startswith("--") or name not in _KINDS | UNSUPPORTED:
            raise UsageError(f"metseg serve does not know {argument!r}; `metseg serve --help` lists its flags")
        if not separator:
            value = _following(name, remaining)
        if name in UNSUPPORTED:
            _refuse_unless_default(name, value)
        else:
            given[name] = _convert(name, value)
    return ServerOptions(**given)


def flags_help(width: int = 100) -> str:
    """Every flag with its default and meaning, then the ones that are refused."""
    lines = ["Flags of tensorflow_model_server, as --name=value, --name value, or --name for a switch:", ""]
    for one in fields(ServerOptions):
        default = str(one.default).lower() if isinstance(one.default, bool) else one.default
        shown = f" [{default}]" if default != "" else ""
        lines += _entry(f"--{one.name}{shown}", one.metadata["help"], width)
    lines += ["", "Flags of tensorflow_model_server that are refused, and why:", ""]
    for name, (_, reason) in UNSUPPORTED.items():
        lines += _entry(f"--{name}", reason, width)
    return "\n".join(lines)


def _entry(title: str, text: str, width: int) -> list[str]:
    return [f"  {title}", *textwrap.wrap(text, width, initial_indent=" " * 6, subsequent_indent=" " * 6)]


def _following(name: str, remaining: list[str]) -> str:
    """The value that comes as an argument of its own."""
    if name in _SWITCHES:
        return remaining.pop(0) if remaining and remaining[0].lower() in BOOLEANS else "true"
    if not remaining:
        raise UsageError(f"--{name} needs a value")
    return remaining.pop(0)


def _convert(name: str, text: str) -> Any:
    kind = _KINDS[name]
    try:
        if kind == "bool":
            return BOOLEANS[text.lower()]
        return {"int": int, "float": float, "str": str}[kind](text)
    except (KeyError, ValueError):
        raise UsageError(f"--{name}={text}: expected a value of type {kind}") from None


def _refuse_unless_default(name: str, value: str) -> None:
    default, reason = UNSUPPORTED[name]
    same = BOOLEANS.get(value.lower()) == BOOLEANS[default] if name in _SWITCHES else value == default
    if not same:
        raise UsageError(
            f"--{name}={value} is not supported by the embedded server: {reason}. "
            "Leave it out, or run TF Serving itself on the same base path"
        )
