"""Stands in for kubectl: answers `get`, `create`, `logs` and `delete` from a JSON file, in kubectl's own forms."""

from __future__ import annotations

import json
import sys
from pathlib import Path


class Failed(Exception):
    """What kubectl writes to its standard error."""


def option(arguments: list[str], name: str) -> str:
    return arguments[arguments.index(name) + 1] if name in arguments else ""


def get(state: dict, arguments: list[str]) -> str:
    kind, *rest = arguments
    if kind == "--raw":
        if rest[0] not in state["raw"]:
            raise Failed("Error from server (ServiceUnavailable): the server is currently unable to handle the request")
        return json.dumps(state["raw"][rest[0]])
    if kind in state.get("forbidden", []):
        raise Failed(f'Error from server (Forbidden): {kind} is forbidden: User "anna" cannot list resource "{kind}"')
    plural = kind if kind.endswith("s") else f"{kind}s"
    namespace = option(arguments, "--namespace")
    there = [
        entry
        for entry in state["objects"].get(plural, [])
        if not namespace or entry["metadata"].get("namespace") == namespace
    ]
    if plural == "secrets":
        rows = [f"{entry['metadata']['name']} {' '.join(entry['keys'])}".strip() for entry in there]
        return "\n".join(rows) + "\n"
    if rest and not rest[0].startswith("-"):
        return "".join(json.dumps(entry) for entry in there if entry["metadata"]["name"] == rest[0])
    return json.dumps({"kind": "List", "items": there})


def create(state: dict, arguments: list[str], text: str) -> str:
    pods = json.loads(text)["items"]
    for pod in pods:
        kind = "stranger" if "stranger" in pod["metadata"]["name"] else "inside"
        pod["metadata"]["namespace"] = option(arguments, "--namespace")
        pod["status"] = state["probe"][kind]["status"]
    state["objects"].setdefault("pods", []).extend(pods)
    state["created"] = pods
    return "created"


def answer(state: dict, arguments: list[str], text: str = "") -> str:
    """What kubectl prints; raises Failed with what it complains of."""
    arguments = [argument for argument in arguments if not argument.startswith("--request-timeout")]
    while arguments[0].startswith("--"):
        arguments = arguments[2:]
    earlier = state.setdefault("calls", [])
    gone = state.get("gone_after") in [call[0] for call in earlier]
    earlier.append(arguments)
    verb, *rest = arguments
    if gone or "unreachable" in state:
        raise Failed(
            "The connection to the server 127.0.0.1:6443 was refused - did you specify the right host or port?"
        )
    if verb == "version":
        return json.dumps(state["version"])
    if verb == "get":
        return get(state, rest)
    if verb == "create":
        return create(state, rest, text)
    if verb == "logs":
        return str(state["probe"]["stranger" if "stranger" in rest[0] else "inside"]["log"])
    if verb == "delete":
        state["objects"]["pods"] = [pod for pod in state["objects"]["pods"] if pod["metadata"]["name"] not in rest]
        return "deleted"
    raise Failed(f"error: unknown command {arguments}")


def main(path: Path, arguments: list[str]) -> int:
    """Answer as a program whose state is in a file."""
    state = json.loads(path.read_text())
    try:
        print(answer(state, arguments, sys.stdin.read() if "-f" in arguments else ""))
        return 0
    except Failed as error:
        print(error, file=sys.stderr)
        return 1
    finally:
        path.write_text(json.dumps(state))


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2:]))
