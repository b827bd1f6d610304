"""What a run left in a workspace, in a form in which that of two attempts can be compared.

Ids are replaced by what they stand for, and what differs between two undisturbed runs as well is left out: times,
durations, memory, figures of the machine, and the bytes of pages and of exported graphs.
"""

from __future__ import annotations

import hashlib
import io
import json
import math
import re
import sqlite3
import zipfile
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from metseg.saved_model_digest import saved_model_digest
from metseg.serving.publishing import published_versions

MEASURED = {"seconds", "training_seconds", "peak_memory_mb", "scoring_seconds", "utc_time_created"}
"""Keys of JSON and names of metrics that hold what a clock or the machine said."""
OF_THE_MACHINE = "system/"
EXPORTED = {"saved_model.pb", "fingerprint.pb", "variables.index", "variables.data-00000-of-00001"}
"""Files of an exported graph, whose nodes TensorFlow names and orders anew each time; the weights are compared."""
PAGES = {".html", ".css", ".svg", ".gif", ".otf", ".ico", ""}
STAMP = re.compile(r"\d{8}T\d{6}\.\d+Z")
HALF_COPIED = ".artifact.uploading."
"""Name of a file that MLflow is copying into its store; it lists none of them, and so nobody is given one."""
CLOSE = 1e-6


def database(workspace: Path) -> sqlite3.Connection:
    """MLflow's database, to read."""
    return sqlite3.connect(f"file:{workspace}/var/mlflow.db?mode=ro", uri=True, timeout=30)


def killed_runs(workspace: Path) -> list[str]:
    """Which runs are closed as killed, by what they are."""
    connection = database(workspace)
    kind = "(SELECT value FROM tags WHERE tags.run_uuid = runs.run_uuid AND key = '{}')"
    named = f"SELECT COALESCE({kind.format('architecture')}, {kind.format('metseg.kind')}, 'other') FROM runs"
    try:
        return [str(name) for (name,) in connection.execute(f"{named} WHERE status = 'KILLED' ORDER BY 1")]
    finally:
        connection.close()


def end_state(workspace: Path, outputs: Path) -> dict[str, Any]:
    """What there is after a step.

    Args:
        workspace: where the run keeps everything.
        outputs: folder of the step's outputs.
    """
    if not (workspace / "var/mlflow.db").exists():
        return {"outputs": _files(outputs)}
    connection = database(workspace)
    try:
        runs, names = _runs(connection)
        mlflow = {"runs": runs, "registry": _registry(connection)}
    finally:
        connection.close()
    for entry in mlflow["runs"].values():
        entry["artifacts"] = _files(Path(entry["artifacts"].removeprefix("file://")))
    serving = workspace / "var/serving"
    state = {
        "outputs": _files(outputs),
        "mlflow": mlflow,
        "published": {
            f"{base.name}/{number}": saved_model_digest(base / str(number))
            for base in sorted(serving.glob("[!.]*/"))
            for number in published_versions(base)
        },
        "beside what is published": sorted(
            path.name for path in serving.glob("*/*") if not path.name.isdigit() and not path.name.endswith(".lock")
        ),
        "models.config": (serving / "models.config").read_text() if (serving / "models.config").exists() else None,
        "state of trainings": sorted(str(path.name) for path in (workspace / "var/state").glob("*/*")),
    }
    renamed: dict[str, Any] = _renamed(state, names)
    return renamed


def differences(expected: Any, found: Any, where: str = "") -> Iterator[str]:
    """Where two states differ, a line each."""
    if isinstance(expected, Mapping) and isinstance(found, Mapping):
        for key in sorted({*expected, *found}, key=str):
            if key not in expected or key not in found:
                yield f"{where}/{key}: {'only in the repeated' if key in found else 'not in the repeated'} run"
            else:
                yield from differences(expected[key], found[key], f"{where}/{key}")
    elif isinstance(expected, list) and isinstance(found, list) and len(expected) == len(found):
        for place, pair in enumerate(zip(expected, found, strict=True)):
            yield from differences(*pair, f"{where}[{place}]")
    elif isinstance(expected, float) and isinstance(found, float):
        if not (
            math.isclose(expected, found, rel_tol=CLOSE, abs_tol=CLOSE) or (math.isnan(expected) and math.isnan(found))
        ):
            yield f"{where}: {found} instead of {expected}"
    elif expected != found:
        yield f"{where}: {found!r:.300} instead of {expected!r:.300}"


def _runs(connection: sqlite3.Connection) -> tuple[dict[str, Any], dict[str, str]]:
    """The runs that were not killed by what each is, and the names of all ids."""
    tags, parameters, metrics = (defaultdict(dict) for _ in range(3))
    for run, key, value in connection.execute("SELECT run_uuid, key, value FROM tags"):
        tags[run][key] = value
    for run, key, value in connection.execute("SELECT run_uuid, key, value FROM params"):
        parameters[run][key] = value
    points = (
        "SELECT run_uuid, key, step, CASE is_nan WHEN 1 THEN NULL ELSE value END FROM metrics ORDER BY step, timestamp"
    )
    for run, key, step, value in connection.execute(points):
        if not key.startswith(OF_THE_MACHINE):
            metrics[run].setdefault(key, []).append([step, None if key in MEASURED else value])
    asked = (
        "SELECT destination_id, name, digest, dataset_source FROM inputs "
        "JOIN datasets ON inputs.source_id = datasets.dataset_uuid ORDER BY 2, 3"
    )
    inputs = defaultdict(list)
    for run, *dataset in connection.execute(asked):
        inputs[run].append(dataset)
    found: dict[str, Any] = {}
    names: dict[str, str] = {}
    known = "SELECT run_uuid, name, status, lifecycle_stage, artifact_uri FROM runs ORDER BY start_time"
    for run, name, status, stage, folder in connection.execute(known):
        own = tags[run]
        label = f"training of {own['architecture']}" if "mlflow.parentRunId" in own else own.get("metseg.kind", "other")
        # What points at the run of a killed attempt points at the wrong one.
        names[run] = f"<killed {label}>" if status == "KILLED" else f"<{label}>"
        if status == "KILLED":
            continue
        while label in found:
            label += ", another"
        found[label] = {
            "name": name,
            "status": f"{status}, {stage}",
            "tags": own,
            "parameters": parameters[run],
            "metrics": metrics[run],
            "inputs": inputs[run],
            "artifacts": folder,
        }
    return found, names


def _registry(connection: sqlite3.Connection) -> dict[str, Any]:
    """Models, versions, tags and aliases."""
    asked = {
        "models": "SELECT name, description FROM registered_models",
        "tags of models": "SELECT name, key, value FROM registered_model_tags",
        "aliases": "SELECT name, alias, version FROM registered_model_aliases",
        "versions": ("SELECT name, version, source, run_id, status, current_stage, description FROM model_versions"),
        "tags of versions": "SELECT name, version, key, value FROM model_version_tags",
    }
    return {what: [list(row) for row in sorted(connection.execute(query))] for what, query in asked.items()}


def _files(folder: Path) -> dict[str, Any]:
    """Content of each file below a folder, as far as two undisturbed runs have it alike."""
    return {
        STAMP.sub("<time>", path.relative_to(folder).as_posix()): _content(path)
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not path.name.startswith(HALF_COPIED)
    }


def _content(path: Path) -> Any:
    if path.suffix == ".json" or path.name in ("metrics", "curve"):
        return _measured_left_out(json.loads(path.read_text()))
    if path.suffix == ".npz":
        with np.load(path) as arrays:
            return {name: _array(arrays[name]) for name in arrays.files}
    if path.suffix == ".keras":
        return _weights(path)
    if path.name == "MLmodel":
        return re.sub(r"(?m)^(utc_time_created|model_uuid|model_size_bytes).*\n", "", path.read_text())
    if path.suffix == ".md":
        return path.read_text()
    if path.name in EXPORTED or path.suffix in PAGES:
        return "there" if path.stat().st_size else "empty"
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _array(values: np.ndarray) -> Any:
    if values.dtype.kind == "f":
        # Sums of two attempts may differ in the last bits.
        return [list(values.shape), float(values.mean()), float(values.std()), float(np.abs(values).max())]
    return [list(values.shape), hashlib.sha256(np.ascontiguousarray(values).tobytes()).hexdigest()]


def _weights(path: Path) -> dict[str, Any]:
    """Weights of a Keras file, which itself holds the time."""
    found: dict[str, Any] = {}
    with zipfile.ZipFile(path) as archive, h5py.File(io.BytesIO(archive.read("model.weights.h5"))) as stored:

        def keep(name: str, item: Any) -> None:
            if isinstance(item, h5py.Dataset):
                found[name] = _array(item[()])

        stored.visititems(keep)
    return found


def _measured_left_out(content: Any) -> Any:
    if isinstance(content, dict):
        return {key: _measured_left_out(value) for key, value in content.items() if key not in MEASURED}
    if isinstance(content, list):
        return [_measured_left_out(value) for value in content]
    return content


def _renamed(content: Any, names: Mapping[str, str]) -> Any:
    if isinstance(content, dict):
        return {_renamed(key, names): _renamed(value, names) for key, value in content.items()}
    if isinstance(content, list):
        return [_renamed(value, names) for value in content]
    if isinstance(content, str):
        for known, name in names.items():
            content = content.replace(known, name)
    return content
