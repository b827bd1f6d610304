"""Parse settings: `NAME=VALUE`, and the options fields of Kubeflow's form."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from components.configuration.setting_names import OPTIONS, SETTINGS, Setting, find
from metseg.errors import UsageError
from metseg.files import parse_json

LONGEST = 300
"""Characters of a wrong value in a message."""
BOOLEANS = {"true": True, "1": True, "on": True, "false": False, "0": False, "off": False}


class GivenTwice(ValueError):
    """A JSON object has a name twice, so that its value is ambiguous."""


def _once(pairs: list[tuple[str, Any]]) -> dict[str, object]:
    """Return a JSON object; raise GivenTwice for a repeated name."""
    content: dict[str, object] = {}
    for name, value in pairs:
        if name in content:
            raise GivenTwice(f"{name} is given twice")
        content[name] = value
    return content


def _json(text: str) -> object:
    """Parse JSON; raise ValueError for malformed JSON, and GivenTwice for a repeated name."""
    return parse_json(text, any_number=True, object_pairs_hook=_once)


KINDS: dict[type, tuple[str, Callable[[str], Any]]] = {
    int: ("a whole number", int),
    float: ("a number", float),
    bool: ("true or false", lambda text: BOOLEANS[text.lower()]),
    str: ("text", str),
    list: ("a JSON list", _json),
    dict: ("a JSON object", _json),
}
"""Name and parser of each kind of value."""


def _value(setting: Setting, value: Any, where: str) -> Any:
    """Return a value of the setting's kind, from text or from JSON.

    Raises:
        UsageError: it is none.
    """
    expected, read = KINDS[setting.kind]
    parsed = value
    try:
        if isinstance(value, str):
            parsed = read(value)
        elif setting.kind is float and type(value) is int:
            parsed = float(value)
        elif setting.kind is int and isinstance(value, float) and value.is_integer():  # all numbers of JSON are floats
            parsed = int(value)
    except GivenTwice as twice:
        raise UsageError(f"{where}{setting.name}={value}: {twice}") from None
    except (ValueError, KeyError, OverflowError):
        parsed = None
    if type(parsed) is not setting.kind:
        shown = value if isinstance(value, str) else repr(value)
        shown = shown if len(shown) <= LONGEST else f"{shown[:LONGEST]}…"
        problem = f"={shown}: {shown!r} is not" if isinstance(value, str) else f"={shown}: expected"
        raise UsageError(f"{where}{setting.name}{problem} {expected}")
    return parsed


def parse(given: Iterable[str], where: str = "--param ") -> dict[str, object]:
    """Read `NAME=VALUE`, each by its full name.

    Args:
        given: what was typed; of a setting that is given twice, the last counts.
        where: what to begin a message with.

    Returns:
        Values by full name.

    Raises:
        UsageError: there is no such setting, or the value is not of its kind.
    """
    values: dict[str, object] = {}
    for text in given:
        name, separator, value = text.partition("=")
        if not separator:
            raise UsageError(f"{where}{text}: expected NAME=VALUE, such as train_epochs=40")
        if name in OPTIONS:
            values |= parse_options(name, value)
        else:
            setting = find(name, where=where)
            values[setting.name] = _value(setting, value, where)
    return values


def parse_options(field: str, text: str) -> dict[str, object]:
    """Read an options field: `NAME=VALUE …`, quoted as in a shell, or a JSON object.

    Args:
        field: a name in `OPTIONS`.
        text: its content; a name in it may lack its group.

    Returns:
        Values by full name.

    Raises:
        UsageError: the text is neither, names an unknown setting, or one twice.
    """
    where, groups = f"{field}: ", OPTIONS[field]
    pairs: list[tuple[str, Any]]
    if text.lstrip().startswith("{"):
        try:
            pairs = list(parse_json(text, any_number=True, object_pairs_hook=_once).items())
        except GivenTwice as twice:
            raise UsageError(f"{where}{twice}") from None
        except ValueError as error:
            raise UsageError(f"{where}the JSON object cannot be read ({error})") from None
    else:
        try:
            words = shlex.split(text)
        except ValueError as error:
            raise UsageError(f"{where}{text!r} cannot be read ({error}): close every quotation mark") from None
        pairs = []
        for word in words:
            name, separator, value = word.partition("=")
            if not separator:
                raise UsageError(f"{where}{word!r}: expected NAME=VALUE …, or a JSON object")
            pairs.append((name, value))
    values: dict[str, object] = {}
    for name, value in pairs:
        setting = find(name, groups, where)
        if setting.name in values:
            raise UsageError(f"{where}{setting.name} is given twice")
        values[setting.name] = _value(setting, value, where)
    return values


def unpack(form: Mapping[str, object]) -> dict[str, object]:
    """Read Kubeflow's form: fields and options fields together.

    Args:
        form: values by the name of the field.

    Returns:
        Values by the settings' full names.

    Raises:
        UsageError: an options field is wrong, or contradicts a field that was changed from its default.
    """
    values: dict[str, object] = {}
    for name, value in form.items():
        if name in OPTIONS:
            continue
        setting = find(name)
        values[name] = _value(setting, value, "")
    for field in OPTIONS:
        for name, value in parse_options(field, str(form.get(field) or "")).items():
            if name in values and value != values[name] != SETTINGS[name].default:
                raise UsageError(f"{field}: the field {name} has another value of it: give it once")
            values[name] = value
    return values


def pack(values: Mapping[str, object]) -> dict[str, object]:
    """Put settings into the fields of Kubeflow's form.

    Those without a field of their own go into an options field, as JSON.
    >>> pack({"train_epochs": 40, "train_dropout": 0.1, "run_patient_pictures_in_mlflow": False})
    {'train_epochs': 40, 'train_options': '{"dropout": 0.1, "run_patient_pictures_in_mlflow": false}'}
    """
    form: dict[str, object] = {}
    packed: dict[str, dict[str, object]] = {}
    for name, value in values.items():
        setting = SETTINGS[name]
        if setting.has_field:
            form[name] = value
        else:
            own = setting.group == OPTIONS[setting.options][0]
            packed.setdefault(setting.options, {})[setting.short if own else name] = value
    return form | {field: json.dumps(options) for field, options in packed.items()}
