"""Rules of the repository: imports go down the floors, heavy imports stay out of the command line's help."""

from __future__ import annotations

import ast
import graphlib
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
OURS = ("pipelines", "components", "models", "metseg")


def imports_of(path: Path) -> set[str]:
    """Every module that a file imports, anywhere in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {name.name for name in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
    return found


def offenders(folder: str, forbidden: tuple[str, ...], excused: tuple[str, ...] = ()) -> list[str]:
    return [
        f"{path.relative_to(ROOT)} imports {name}"
        for path in sorted((ROOT / folder).rglob("*.py"))
        if str(path.relative_to(ROOT)) not in excused
        for name in sorted(imports_of(path))
        if name.split(".")[0] in forbidden
    ]


def test_metseg_knows_no_orchestrator():
    assert offenders("metseg", ("kfp",)) == []
    commands = tuple(str(path.relative_to(ROOT)) for path in (ROOT / "metseg/commands").glob("*.py"))
    assert offenders("metseg", ("pipelines", "components"), excused=commands) == []


def test_components_do_not_reach_up():
    assert offenders("components", ("pipelines",)) == []


def test_models_import_keras_alone():
    allowed = {"keras", "models", "numpy"} | set(sys.stdlib_module_names)
    foreign = [
        f"{path.name}: {name}"
        for path in (ROOT / "models").rglob("*.py")
        for name in imports_of(path)
        if name.split(".")[0] not in allowed
    ]
    assert foreign == []


def test_only_training_imports_models():
    training = tuple(str(path.relative_to(ROOT)) for path in (ROOT / "metseg" / "training").rglob("*.py"))
    assert offenders("metseg", ("models", "keras"), excused=training) == []


def test_no_file_imports_private_modules_of_keras():
    files = [ROOT / folder for folder in (*OURS, "benchmarks", "tests", "infra")]
    assert [str(path) for folder in files for path in folder.rglob("*.py") if private_keras(path)] == []


def private_keras(path: Path) -> bool:
    return any(name.startswith("keras.src") for name in imports_of(path))


FLOORS = (
    "ground",
    "phantom imaging",
    "dataset",
    "validation inspection scoring",
    "training",
    "tracking",
    "tuning",
    "report",
    "serving",
    "doctor",
    "commands cli",
)
"""Rooms of `metseg` from the bottom up; modules directly in `metseg` are the ground floor, but for the command line."""
FLOOR_OF = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms.split()}
MODULES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
    for path in (ROOT / "metseg").rglob("*.py")
}


def room_of(module: str) -> str:
    parts = module.split(".")
    named = parts[1] if len(parts) > 1 else "ground"
    return named if named in FLOOR_OF else "ground"


def modules_imported_by(module: str) -> set[str]:
    """Modules of `metseg` that a module imports: at its top, inside functions or for types alone."""
    imported = set()
    for node in ast.walk(ast.parse(MODULES[module].read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            imported |= {name.name for name in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            inside = {f"{node.module}.{name.name}" for name in node.names}
            imported |= (inside & set(MODULES)) or {node.module}
    return (imported & set(MODULES)) - {module}


IMPORTS = {module: modules_imported_by(module) for module in MODULES}


def test_every_room_has_a_floor():
    folders = {path.name for path in (ROOT / "metseg").iterdir() if (path / "__init__.py").is_file()}
    assert folders == set(FLOOR_OF) - {"ground", "cli"}


def test_imports_go_down_the_floors():
    upward = [
        f"{module} -> {imported}"
        for module, found in IMPORTS.items()
        for imported in sorted(found)
        if FLOOR_OF[room_of(imported)] > FLOOR_OF[room_of(module)]
    ]
    assert upward == []


def circle(graph: dict[str, set[str]]) -> list[str]:
    """A circle of a graph; an empty list if there is none."""
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        return list(error.args[1])
    return []


def test_modules_form_no_circle():
    assert circle(IMPORTS) == []


def test_rooms_form_no_circle():
    rooms: dict[str, set[str]] = {}
    for module, found in IMPORTS.items():
        rooms.setdefault(room_of(module), set()).update(room_of(imported) for imported in found)
    assert circle({room: others - {room} for room, others in rooms.items()}) == []


def test_circles_are_found():
    assert circle({"a": {"b"}, "b": {"c"}, "c": set()}) == []
    assert set(circle({"a": {"b"}, "b": {"c"}, "c": {"b"}})) == {"b", "c"}


def test_help_answers_in_half_a_second():
    command = [str(Path(sys.executable).parent / "metseg"), "--help"]
    fastest = min(timed(command) for _ in range(3))
    assert fastest < 0.5


def timed(command: list[str]) -> float:
    started = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True)
    return time.perf_counter() - started


def test_no_file_names_this_machine():
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False).stdout
    # A document may name the temporary folder, a clone there notwithstanding.
    here = str(ROOT if ROOT.parent == Path(tempfile.gettempdir()) else ROOT.parent)
    for name in filter(None, listed.split("\0")):
        path = ROOT / name
        if path.is_file() and path.suffix in {".py", ".md", ".yaml", ".toml", ".txt", ".lock", ""}:
            assert here + os.sep not in path.read_text(encoding="utf-8", errors="ignore"), name


@pytest.mark.parametrize("package", OURS)
def test_every_module_has_a_docstring(package):
    bare = [
        str(path.relative_to(ROOT))
        for path in (ROOT / package).rglob("*.py")
        if path.read_text(encoding="utf-8").strip()
        and not ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))
    ]
    assert bare == []


@pytest.mark.parametrize(
    "path", ["Makefile", "infra/compose/compose.yaml", "infra/kubernetes/base/services/mlflow.yaml"]
)
def test_no_mlflow_of_ours_starts_a_job_runner(path):
    """It is seven more processes, of 170 MB each, for nothing that is used here."""
    switch = r"MLFLOW_SERVER_ENABLE_JOB_EXECUTION(=|:\s*|\s+value:\s*)\"?false"
    text = (ROOT / path).read_text()
    started = re.findall(r"mlflow,? (?:ui|server)\b", text)
    assert len(started) == 1 and re.search(switch, text), path
