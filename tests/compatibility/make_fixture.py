"""Make `made-at-92ef0e7.tar.xz` and `schedule-92ef0e7.json` with the code of commit 92ef0e7; README.md says how.

It runs that commit's own command line: two runs of the pipeline on nine small heads, a prediction by its server, and a
schedule submitted to its stand-in for Kubeflow. Then it packs what later code reads of the workspace.
"""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import sqlite3
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import nibabel
import numpy as np

HERE = Path(__file__).parent
ARCHIVE, SCHEDULE = HERE / "made-at-92ef0e7.tar.xz", HERE / "schedule-92ef0e7.json"
COMMIT = "92ef0e7d3254d2beb5e070fc5de83de2cc30f549"
WORKSPACE = Path("/tmp/metseg-92ef0e7")
PLACEHOLDER = "@WORKSPACE@"
MODEL = "brain-mets-segmentation-heads"

PATIENTS, GRID, SPACING = 9, (48, 48, 12), (4.0, 4.0, 6.0)
"""Heads, their voxels, and the size of a voxel in mm."""
TINY = ("depth=2", "image_size=32", "batch_size=4", "floor_dice=0", "floor_lesion_f1=0")
RUNS = (
    ("filters=2", "epochs=1", "steps_per_epoch=30"),
    ("filters=4", "epochs=2", "steps_per_epoch=100", "learning_rate=0.005", "architectures=nested_unet"),
)
"""The first run compares two networks; the second is better than its winner, and takes its place."""
SCHEDULED = (
    "reference=s3://scans/current",
    "clahe=false",
    "epochs=40",
    "floor_dice=0.6",
    "promotion=automatic",
    "accelerator_count=2",
    'accelerator_node_selector={"pool": "gpu"}',
)
SUBMIT = """
import json, sys
from metseg import cli
from tests.pipelines.submission.kubeflow_server import Kubeflow, serving

kubeflow = Kubeflow()
with serving(kubeflow) as host:
    sys.argv = ["metseg", "submit", "--host", host, *sys.argv[1:]]
    try:
        cli.main()
    except SystemExit as ended:
        assert not ended.code, ended.code
for version in kubeflow.versions.values():
    del version["documents"]
made = ("pipelines", "versions", "experiments", "schedules")
print("MADE", json.dumps({name: getattr(kubeflow, name) for name in made}))
"""
DROPPED = re.compile(
    r"""
    \.(png|gif|html|tfrecord|lock)$ | /data_docs/ | /overlays/ | /page$ | /promote/report$ | /reference\.npz$
    | ^runs/.*/(executor_output\.json|golden\.npz|log\.txt)$ | ^runs/.*/(mlflow_model|evaluation/model)/ | ^runs/latest/
    | ^var/state/ | ^var/mlflow\.db
    """,
    re.VERBOSE,
)
"""Pictures, pages, logs, what is made anew from the data, and copies of what MLflow holds: nothing reads them later."""


def write_heads(folder: Path) -> None:
    """Write heads with bright lesions, a folder each, of one channel."""
    places = [(np.arange(count) - (count - 1) / 2) * size for count, size in zip(GRID, SPACING, strict=True)]
    at = np.stack(np.meshgrid(*places, indexing="ij"), axis=-1)
    inside = ((at / (80.0, 80.0, 34.0)) ** 2).sum(axis=-1) < 1
    for patient in range(1, PATIENTS + 1):
        draws = np.random.default_rng(patient)
        image = np.where(inside, 100 + 8 * draws.integers(0, 4, GRID), 0)
        mask = np.zeros(GRID, np.uint8)
        for _ in range(3):
            centre = draws.uniform(-1, 1, 3) * (40.0, 40.0, 14.0)
            mask[((at - centre) ** 2).sum(axis=-1) < draws.uniform(11, 16) ** 2] = 1
        image = np.where(mask, 200 + 8 * draws.integers(0, 4, GRID), image)
        name = f"head-{patient:02d}"
        (folder / name).mkdir(parents=True)
        for what, voxels in (("t1c", image.astype(np.int16)), ("mask", mask)):
            nibabel.save(nibabel.Nifti1Image(voxels, np.diag([*SPACING, 1.0])), folder / name / f"{name}-{what}.nii")


def environment(code: Path) -> dict[str, str]:
    """This process's, with the old code before all else and nothing that names an MLflow or another place."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("MLFLOW_", "METSEG_"))}
    path = os.pathsep.join(filter(None, [str(code), os.environ.get("PYTHONPATH")]))
    # kfp starts the steps as `python3`.
    programs = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    return {**kept, "PYTHONPATH": path, "PATH": programs, "METSEG_WORKSPACE": str(WORKSPACE)}


def command(*arguments: str) -> list[str]:
    """A call of the old command line."""
    return [sys.executable, "-c", "from metseg.cli import main; main()", *arguments]


def metseg(code: Path, *arguments: str) -> None:
    """Call the old command line, and end where it fails."""
    subprocess.run(command(*arguments), env=environment(code), cwd=WORKSPACE, check=True)


def parameters(*given: str) -> list[str]:
    """Each as an option of the command line."""
    return [part for one in given for part in ("--param", one)]


@contextmanager
def served(code: Path) -> Iterator[str]:
    """Serve what the runs published; gives the address."""
    flags = ("--port=0", "--model_config_file=var/serving/models.config")
    call = command("serve", *flags, "--allow_version_labels_for_unavailable_models")
    with subprocess.Popen(call, env=environment(code), cwd=WORKSPACE, stderr=subprocess.PIPE, text=True) as server:
        try:
            assert server.stderr is not None
            yield next(found[1] for line in server.stderr if (found := re.search(r"serving gRPC at (\S+)", line)))
        finally:
            server.terminate()


def submit(code: Path) -> None:
    """Make a schedule as that commit does, and keep all that its Kubeflow holds then but the pipeline's text."""
    call = [sys.executable, "-c", SUBMIT, "--cron", "0 3 * * 1", "--name", "weekly", *parameters(*SCHEDULED)]
    printed = subprocess.run(call, env=environment(code), cwd=code, check=True, capture_output=True, text=True).stdout
    made = json.loads(printed.rpartition("MADE ")[2])
    SCHEDULE.write_text(json.dumps(made, indent=1) + "\n", encoding="utf-8")


def database() -> str:
    """The text of MLflow's database."""
    with closing(sqlite3.connect(WORKSPACE / "var/mlflow.db")) as connection:
        return "\n".join(connection.iterdump()) + "\n"


def uncompressed(content: bytes) -> bytes:
    """Arrays as they are, for xz to compress: two versions were asked the same."""
    stored = io.BytesIO()
    with np.load(io.BytesIO(content)) as arrays:
        np.savez(stored, **arrays)
    return stored.getvalue()


def unregistered() -> list[str]:
    """Folders of models and golden answers of trainings that no version came from."""
    with closing(sqlite3.connect(WORKSPACE / "var/mlflow.db")) as connection:
        registered = {run for (run,) in connection.execute("select run_id from model_versions")}
    runs = (path.name for path in (WORKSPACE / "var/mlartifacts").iterdir() if path.name not in registered)
    return [f"var/mlartifacts/{run}/artifacts/{part}" for run in runs for part in ("model/", "evaluation/golden.npz")]


def content(path: Path) -> bytes:
    """The content of a file as it is packed."""
    raw = path.read_bytes()
    if path.suffix == ".npz":
        raw = uncompressed(raw)
    return raw.replace(str(WORKSPACE).encode(), PLACEHOLDER.encode())


def pack() -> None:
    """Pack the workspace: the same modes, owners and times for all, and a placeholder for its own path."""
    left_out = tuple(unregistered())
    files = {str(path.relative_to(WORKSPACE)): path for path in WORKSPACE.rglob("*") if path.is_file()}
    kept = {name: path for name, path in files.items() if not DROPPED.search(name) and not name.startswith(left_out)}
    texts = {name: content(path) for name, path in kept.items()}
    texts["var/mlflow.sql"] = database().replace(str(WORKSPACE), PLACEHOLDER).encode()
    # By the file's own name, so that what is alike lies side by side.
    with tarfile.open(ARCHIVE, "w:xz", preset=9) as archive:
        for name in sorted(texts, key=lambda name: (Path(name).name, name)):
            entry = tarfile.TarInfo(name)
            entry.size = len(texts[name])
            archive.addfile(entry, io.BytesIO(texts[name]))


def main() -> None:
    """Make both files with the code in the folder that is named."""
    code = Path(sys.argv[1]).resolve()
    said = subprocess.run(["git", "rev-parse", "HEAD"], cwd=code, check=True, capture_output=True, text=True).stdout
    if said.strip() != COMMIT:
        sys.exit(f"{code} has {said.strip()} checked out; expected {COMMIT}")
    shutil.rmtree(WORKSPACE, ignore_errors=True)
    write_heads(WORKSPACE / "heads")
    for given in RUNS:
        metseg(code, "run", "--data", "heads", *parameters(*TINY, *given))
    with served(code) as address:
        metseg(code, "predict", "heads/head-01", "--out", "answer", "--server", address, "--model-name", MODEL)
    submit(code)
    pack()
    print(f"{ARCHIVE.name} {ARCHIVE.stat().st_size} bytes, {SCHEDULE.name} {SCHEDULE.stat().st_size} bytes")


if __name__ == "__main__":
    main()
