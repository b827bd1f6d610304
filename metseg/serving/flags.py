"""The flags of `tensorflow_model_server`, as `metseg serve` takes them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from typing import Any

from metseg.errors import UsageError
from metseg.serving.configuration import ServerOptions

BOOLEANS = {"true": True, "1": True, "t": True, "false": False, "0": False, "f": False}


def _convert(name: str, text: str, kind: str) -> Any:
    try:
        if kind == "bool":
            return BOOLEANS[text.lower()]
        return {"int": int, "float": float, "str": str}[kind](text)
    except (KeyError, ValueError):
        raise UsageError(f"--{name}={text}: expected a value of type {kind}") from None


def parse_flags(arguments: Sequence[str]) -> ServerOptions:
    """Parse `--name=value`, `--name value`, and `--name` alone for a switch.

    Raises:
        UsageError: a flag that the embedded server does not support, or a value of the wrong type; it is named.
    """
    kinds = {field.name: str(field.type) for field in fields(ServerOptions)}
    given: dict[str, Any] = {}
    remaining = list(arguments)
    while remaining:
        argument = remaining.pop(0)
        name, separator, value = argument.removeprefix("--").partition("=")
        if not argument.startswith("--") or name not in kinds:
            raise UsageError(
                f"metseg serve does not support {argument!r}; it takes {', '.join(f'--{known}' for known in kinds)}"
            )
        if not separator:
            if kinds[name] == "bool":
                value = remaining.pop(0) if remaining and remaining[0].lower() in BOOLEANS else "true"
            elif remaining:
                value = remaining.pop(0)
            else:
                raise UsageError(f"--{name} needs a value of type {kinds[name]}")
        given[name] = _convert(name, value, kinds[name])
    return ServerOptions(**given)
