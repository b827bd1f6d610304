"""Stands in for `kubectl` where no API server is to be had: keeps objects as files and prints what kubectl prints.

Objects lie in $FAKE_CLUSTER/NAMESPACE/KIND/NAME.json; every call is written to $FAKE_CLUSTER/calls.jsonl, without its
standard input. `exec` runs the command on this machine, $FAKE_PROGRAMS in place of /etc/metseg; $FAKE_RESTART is run
with the name of a workload that is restarted, or started.
"""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

CLUSTER = Path(os.environ["FAKE_CLUSTER"])
PLURALS = {"secrets": "Secret", "secret": "Secret", "namespaces": "Namespace", "namespace": "Namespace", "pods": "Pod"}
WHOLE_CLUSTER = "-"
LONG = {"-f": "--filename", "-n": "--namespace", "-o": "--output"}
VALUED = ("--filename", "--namespace", "--output")


def normalised(arguments: list[str]) -> list[str]:
    """Options in one form: `--namespace metseg` and `-n metseg` as `--namespace=metseg`."""
    found: list[str] = []
    for argument in arguments:
        if found and found[-1] in VALUED:
            found[-1] = f"{found[-1]}={argument}"
        else:
            found.append(LONG.get(argument, argument))
    return found


def fail(text: str) -> None:
    sys.exit(f"Error from server {text}")


def path_of(kind: str, namespace: str, name: str) -> Path:
    return CLUSTER / namespace / kind / f"{name}.json"


def objects(kind: str, namespace: str) -> list[dict[str, Any]]:
    return [json.loads(path.read_text()) for path in sorted((CLUSTER / namespace / kind).glob("*.json"))]


def store(entry: dict[str, Any], namespace: str) -> str:
    """Create or replace one object as an API server does, and tell which it was."""
    kind, name = entry["kind"], entry["metadata"]["name"]
    if kind == "Secret":
        if not path_of("Namespace", WHOLE_CLUSTER, namespace).exists():
            fail(f'(NotFound): error when creating "STDIN": namespaces "{namespace}" not found')
        written = {k: base64.b64encode(v.encode()).decode() for k, v in entry.pop("stringData", {}).items()}
        entry["data"] = {**entry.get("data", {}), **written}
    path = path_of(kind, namespace, name)
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(entry))
        return "created"
    before = json.loads(path.read_text())
    if before.get("immutable") and before["data"] != entry["data"]:
        sys.exit(f'The Secret "{name}" is invalid: data: Forbidden: field is immutable when `immutable` is set')
    path.write_text(json.dumps(entry))
    return "unchanged" if before == entry else "configured"


def apply(options: dict[str, str]) -> None:
    source = options["filename"]
    text = sys.stdin.read() if source == "-" else Path(source).read_text()
    entries = [entry for entry in yaml.safe_load_all(text) if entry]
    if not entries:
        sys.exit("error: no objects passed to apply")
    for entry in entries:
        cluster_wide = entry["kind"] == "Namespace"
        namespace = WHOLE_CLUSTER if cluster_wide else entry["metadata"].get("namespace", "default")
        print(f"{entry['kind'].lower()}/{entry['metadata']['name']} {store(entry, namespace)}")


def get(words: list[str], options: dict[str, str]) -> None:
    kind, _, one = words[0].partition("/")
    names = [one] if one else words[1:]
    kind = PLURALS.get(kind, kind)
    namespace = WHOLE_CLUSTER if kind == "Namespace" else options["namespace"]
    found = [entry for entry in objects(kind, namespace) if not names or entry["metadata"]["name"] in names]
    if options["output"].startswith("jsonpath="):
        if not found:
            fail(f'(NotFound): {words[0]} "{names[0]}" not found')
        key = options["output"].removeprefix("jsonpath={.data.").removesuffix("}").replace("\\.", ".")
        print(found[0]["data"].get(key, ""), end="")
    elif options["output"] == "name":
        print("".join(f"{entry['kind'].lower()}/{entry['metadata']['name']}\n" for entry in found), end="")
    elif found or not names:
        if len(names) == 1:
            print(json.dumps(found[0], indent=4))
        else:
            print(json.dumps({"apiVersion": "v1", "items": found, "kind": "List", "metadata": {"resourceVersion": ""}}))
    elif "ignore-not-found" not in options:
        fail(f'(NotFound): {words[0]} "{names[0]}" not found')


def create_namespace(name: str) -> None:
    entry = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": {}}}
    print(f"namespace/{name} {store(entry, WHOLE_CLUSTER)}")


def label_namespace(name: str, label: str) -> None:
    path = path_of("Namespace", WHOLE_CLUSTER, name)
    entry = json.loads(path.read_text())
    key, _, value = label.partition("=")
    entry["metadata"].setdefault("labels", {})[key] = value
    path.write_text(json.dumps(entry))
    print(f"namespace/{name} labeled")


def remove_label(name: str, label: str) -> None:
    path = path_of("Namespace", WHOLE_CLUSTER, name)
    entry = json.loads(path.read_text())
    entry["metadata"].get("labels", {}).pop(label, None)
    path.write_text(json.dumps(entry))
    print(f"namespace/{name} unlabeled")


def delete(kind: str, names: list[str], options: dict[str, str]) -> None:
    missing = []
    for name in names:
        path = path_of(PLURALS.get(kind, kind), options["namespace"], name)
        if path.exists():
            path.unlink()
            print(f'{kind} "{name}" deleted')
        elif "ignore-not-found" not in options:
            missing.append(name)
    if missing:
        fail(f'(NotFound): {kind} "{missing[0]}" not found')


def main(arguments: list[str]) -> None:
    own, _, command = "\0".join(normalised(arguments)).partition("\0--\0")
    words = [part for part in own.split("\0") if not part.startswith("--")]
    options = {
        part.removeprefix("--").partition("=")[0]: part.partition("=")[2]
        for part in own.split("\0")
        if part.startswith("--")
    }
    with (CLUSTER / "calls.jsonl").open("a") as calls:
        calls.write(json.dumps(arguments) + "\n")
    match words:
        case ["apply"]:
            apply(options)
        case ["get", *rest]:
            get(rest, options)
        case ["create", "namespace", name]:
            create_namespace(name)
        case ["label", "namespace", name, label] if label.endswith("-"):
            remove_label(name, label.removesuffix("-"))
        case ["delete", kind, *names]:
            delete(kind, names, options)
        case ["label", "namespace", name, label]:
            label_namespace(name, label)
        case ["exec", _]:
            here = command.replace("/etc/metseg", os.environ.get("FAKE_PROGRAMS", "/etc/metseg"))
            sys.exit(subprocess.run(here.split("\0"), check=False).returncode)
        case ["scale", workload]:
            if options["replicas"] != "0" and (hook := os.environ.get("FAKE_RESTART")):
                subprocess.run([hook, workload], check=True)
        case ["wait", "pod"]:
            print("pod/one condition met")
        case ["rollout", "restart", workload]:
            if hook := os.environ.get("FAKE_RESTART"):
                subprocess.run([hook, workload], check=True)
        case ["rollout", "status", workload]:
            print(f"{workload} successfully rolled out")
        case _:
            sys.exit(f'error: unknown command "{" ".join(arguments)}"')


if __name__ == "__main__":
    main(sys.argv[1:])
