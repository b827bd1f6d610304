"""Validate tolerations and node selectors by the rules of Kubernetes.

Kubernetes rejects a pod with invalid ones.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

NAME = re.compile(r"[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?")
DOMAIN = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
LONGEST_DOMAIN = 253

FIELDS: Mapping[str, type] = {"key": str, "operator": str, "value": str, "effect": str, "tolerationSeconds": int}
OPERATORS, EFFECTS = ("Equal", "Exists"), ("NoSchedule", "PreferNoSchedule", "NoExecute")


def is_domain(text: str) -> bool:
    """Return whether `text` can stand before the slash of a label's or a resource's name."""
    return len(text) <= LONGEST_DOMAIN and DOMAIN.fullmatch(text) is not None


def is_key(text: str) -> bool:
    """Return whether `text` is a label's key: a name, or `DOMAIN/NAME`."""
    domain, slash, name = text.rpartition("/")
    return NAME.fullmatch(name) is not None and (not slash or is_domain(domain))


def is_value(text: str) -> bool:
    """Return whether `text` is a label's value: a name, or nothing."""
    return not text or NAME.fullmatch(text) is not None


def is_resource(text: str) -> bool:
    """Return whether `text` is the name of an accelerator's resource, which has a domain."""
    return "/" in text and is_key(text)


def selector_problem(selector: Mapping[str, object]) -> str:
    """Return the first error in a node selector; empty if it is valid."""
    for key, value in selector.items():
        if not is_key(key):
            return f'{key!r} is no key of a label; expected one such as "pool" or "cloud.google.com/gke-accelerator"'
        if not isinstance(value, str) or not is_value(value):
            return f'{value!r} is no value of a label; expected a JSON object of texts such as {{"pool": "gpu"}}'
    return ""


def tolerations_problem(tolerations: list[Any]) -> str:
    """Return the first error in a list of tolerations; empty if it is valid."""
    for entry in tolerations:
        if not isinstance(entry, dict):
            return f"expected a list of JSON objects, got {entry!r}"
        if problem := _toleration_problem(entry):
            return f"{problem} in {entry!r}"
    return ""


def _toleration_problem(entry: Mapping[str, Any]) -> str:
    unknown = entry.keys() - FIELDS.keys()
    if unknown:
        return f"unknown field {sorted(unknown)[0]!r}; expected {', '.join(FIELDS)}"
    for name, value in entry.items():
        if type(value) is not FIELDS[name]:
            return f"{name} is {value!r}; expected {'a whole number' if FIELDS[name] is int else 'a text'}"
    key, value, effect = (entry.get(name, "") for name in ("key", "value", "effect"))
    operator = entry.get("operator") or "Equal"
    rules = (
        (operator in OPERATORS, f"operator {operator!r}; expected {' or '.join(OPERATORS)}"),
        (not effect or effect in EFFECTS, f"effect {effect!r}; expected {', '.join(EFFECTS)}, or none for all"),
        (not key or is_key(key), f"{key!r} is no key of a taint"),
        (key or operator == "Exists", "no key; expected one, or operator Exists, which tolerates every taint"),
        (operator == "Equal" or not value, "a value next to operator Exists; expected none"),
        (is_value(value), f"{value!r} is no value of a taint"),
        (
            "tolerationSeconds" not in entry or effect == "NoExecute",
            "tolerationSeconds; expected it next to effect NoExecute alone",
        ),
    )
    return next((problem for holds, problem in rules if not holds), "")
