"""The pipeline's parameters as a person types them: NAME=VALUE, by the types that the pipeline declares."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from metseg.errors import UsageError

BOOLEANS = {"true": True, "1": True, "on": True, "false": False, "0": False, "off": False}


def _json(kind: type) -> Callable[[str], Any]:
    def parse(text: str) -> Any:
        value = json.loads(text)
        if not isinstance(value, kind):
            raise ValueError(text)
        return value

    return parse


KINDS: dict[str, tuple[str, Callable[[str], Any]]] = {
    "NUMBER_INTEGER": ("a whole number", int),
    "NUMBER_DOUBLE": ("a number", float),
    "BOOLEAN": ("true or false", lambda text: BOOLEANS[text.lower()]),
    "STRING": ("text", str),
    "LIST": ("a JSON list", _json(list)),
    "STRUCT": ("a JSON object", _json(dict)),
}
"""Type of a parameter in a compiled pipeline: what a person is told to give, and how it is read."""


def kinds(specification: Mapping[str, Any]) -> dict[str, str]:
    """Type of every parameter by name, from a compiled pipeline."""
    declared = specification["root"]["inputDefinitions"]["parameters"]
    return {name: str(fields["parameterType"]) for name, fields in declared.items()}


def defaults(specification: Mapping[str, Any]) -> dict[str, Any]:
    """Default of every parameter by name; YAML has whole numbers as `4.0`."""
    declared = specification["root"]["inputDefinitions"]["parameters"]
    return {
        name: int(fields["defaultValue"]) if fields["parameterType"] == "NUMBER_INTEGER" else fields["defaultValue"]
        for name, fields in declared.items()
    }


def parse(given: Sequence[str], known: Mapping[str, str]) -> dict[str, Any]:
    """Read NAME=VALUE against the types of the pipeline's parameters.

    Args:
        given: what was typed.
        known: type of every parameter by name, see `kinds`.

    Raises:
        UsageError: there is no such parameter, or the value is not of its type.
    """
    parsed: dict[str, Any] = {}
    for text in given:
        name, separator, value = text.partition("=")
        if not separator or name not in known:
            raise UsageError(f"--param {text}: expected NAME=VALUE with a NAME of {', '.join(sorted(known))}")
        expected, read = KINDS[known[name]]
        try:
            parsed[name] = read(value)
        except (ValueError, KeyError):
            raise UsageError(f"--param {text}: {value!r} is not {expected}") from None
    return parsed
