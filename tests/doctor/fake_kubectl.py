"""Stands in for kubectl: answers `get`, `create`, `logs` and `delete` from a JSON file, in kubectl's own forms."""

from __future__ import annotations

import json
import os
import re
import sys
from pathlib import Path

STATE = Path(os.environ["FAKE_KUBECTL_STATE"])


def option(name: str) -> str:
    return sys.argv[sys.argv.index(name) + 1] if name in sys.argv else ""


def fail(message: str) -> None:
    print(message, file=sys.stderr)
    sys.exit(1)


def get(state: dict, kind: str, names: list[str]) -> str:
    if kind in state.get("forbidden", []):
        fail(f'Error from server (Forbidden): {kind} is forbidden: User "anna" cannot list resource "{kind}"')
    plural = kind if kind.endswith("s") and kind != "storageclass" else f"{kind}s"
    namespace = option("--namespace")
    there = [
        entry
        for entry in state["objects"].get(plural, [])
        if not namespace or entry["metadata"].get("namespace") == namespace
    ]
    if plural == "secrets":
        rows = [f"{entry['metadata']['name']} {' '.join(entry['keys'])}".strip() for entry in there]
        return "\n".join(rows) + "\n"
    if names:
        return "".join(json.dumps(entry) for entry in there if entry["metadata"]["name"] in names)
    return json.dumps({"kind": "List", "items": there})


def create(state: dict) -> str:
    pods = json.loads(sys.stdin.read())["items"]
    for pod in pods:
        kind = "stranger" if "stranger" in pod["metadata"]["name"] else "inside"
        pod["metadata"]["namespace"] = option("--namespace")
        pod["status"] = state["probe"][kind]["status"]
    state["objects"].setdefault("pods", []).extend(pods)
    state["created"] = pods
    STATE.write_text(json.dumps(state))
    return "created"


def main() -> None:
    state = json.loads(STATE.read_text())
    arguments = [argument for argument in sys.argv[1:] if not argument.startswith("--request-timeout")]
    while arguments[0].startswith("--"):
        arguments = arguments[2:]
    state.setdefault("calls", []).append(arguments)
    STATE.write_text(json.dumps(state))
    verb, *rest = arguments
    if state.get("gone_after") in [call[0] for call in state["calls"][:-1]]:
        fail("The connection to the server 127.0.0.1:6443 was refused - did you specify the right host or port?")
    if verb == "version":
        if "unreachable" in state:
            fail(state["unreachable"])
        print(json.dumps(state["version"]))
    elif verb == "get" and rest[0] == "--raw":
        if rest[1] not in state["raw"]:
            fail("Error from server (ServiceUnavailable): the server is currently unable to handle the request")
        print(json.dumps(state["raw"][rest[1]]))
    elif verb == "get":
        names = [argument for argument in rest[1:2] if not argument.startswith("-")]
        print(get(state, rest[0], names), end="")
    elif verb == "create":
        print(create(state))
    elif verb == "logs":
        kind = "stranger" if "stranger" in rest[0] else "inside"
        print(state["probe"][kind]["log"])
    elif verb == "delete":
        gone = [name for name in rest[1:] if re.match(r"[a-z]", name)]
        state["objects"]["pods"] = [pod for pod in state["objects"]["pods"] if pod["metadata"]["name"] not in gone]
        STATE.write_text(json.dumps(state))
    else:
        fail(f"error: unknown command {arguments}")


if __name__ == "__main__":
    main()
