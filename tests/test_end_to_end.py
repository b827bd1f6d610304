"""From a folder of images to an answer over gRPC, through the command line, with everything real."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import nibabel
import numpy as np
import pytest

from components.configuration.settings import DataSettings
from components.ingest.step import ingest
from metseg.errors import MetsegError
from metseg.saved_model_digest import saved_model_digest
from metseg.tracking import model_registry
from metseg.tracking.serving_labels import CHAMPION
from tests.image_packages import as_in_steps
from tests.privacy_search import found
from tests.read_only_root import writes_only_to

METSEG = str(Path(sys.executable).parent / "metseg")
TINY = {
    "train_epochs": 2,
    "train_steps_per_epoch": 6,
    "train_batch_size": 4,
    "train_filters": 4,
    "train_depth": 2,
    "data_image_size": 64,
    "gate_test_time_flips": "true",
    "gate_dice": 0.0,
    "gate_lesion_f1": 0.0,
}
MODEL = "brain-mets-segmentation-heads"


def environment_of(workspace: Path) -> dict[str, str]:
    """That of this process, less the MLflow that another test may have named in it.

    A step finds the packages of its image alone.
    """
    kept = {name: value for name, value in os.environ.items() if not name.startswith("MLFLOW_")}
    return {**kept, **as_in_steps(), "METSEG_WORKSPACE": str(workspace)}


def metseg(*arguments: str, workspace: Path, timeout: int = 600) -> subprocess.CompletedProcess:
    """Call the command line where it can write to the workspace and to temporary files alone."""
    return subprocess.run(
        writes_only_to([workspace], [METSEG, *arguments]),
        env=environment_of(workspace),
        cwd=workspace,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )


def run(workspace: Path, **settings: object) -> tuple[dict, str]:
    parameters = [part for name, value in {**TINY, **settings}.items() for part in ("--param", f"{name}={value}")]
    answer = metseg("run", "--data", "heads", *parameters, workspace=workspace)
    assert answer.returncode == 0, answer.stdout[-3000:] + answer.stderr[-3000:]
    return json.loads((workspace / "runs/latest/summary.json").read_text()), answer.stdout


# Fields of a NIfTI-1 header that hold free text: where each begins, and a name as long as it may be.
HEADER_TEXTS = {14: "Xanthopoulos", 148: "Wojciechowska born 19660408", 228: "Vandevelde_t1.dcm", 328: "Zwingelstein"}


def plant(cohort: Path) -> None:
    """Write what identifies a patient into the header of every image and mask."""
    for path in cohort.rglob("*.nii"):
        with path.open("r+b") as file:
            for place, text in HEADER_TEXTS.items():
                file.seek(place)
                file.write(text.encode())


@pytest.fixture(scope="module")
def workspace(tmp_path_factory, phantom_cohort) -> Path:
    folder = tmp_path_factory.mktemp("workspace")
    phantom_cohort(folder / "heads", 5)
    plant(folder / "heads")
    return folder


@pytest.fixture(scope="module")
def first(workspace) -> tuple[dict, str]:
    return run(workspace)


@pytest.fixture(scope="module")
def second(workspace, first) -> tuple[dict, str]:
    """The network that won is trained again, and it alone."""
    return run(workspace, train_architectures=first[0]["winner"], gate_test_time_flips="false")


@pytest.fixture(scope="module")
def server(workspace, first):
    """`metseg serve` on a free port, with what the first run published."""
    config = workspace / "var/serving/models.config"
    process = subprocess.Popen(
        [METSEG, "serve", "--port=0", f"--model_config_file={config}", "--allow_version_labels_for_unavailable_models"],
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    address = None
    for line in process.stderr:
        match = re.search(r"serving gRPC at (\S+)", line)
        if match:
            address = match[1]
            break
    assert address is not None
    yield address
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)


@pytest.fixture
def mlflow_client(workspace):
    import mlflow

    uri = f"sqlite:///{workspace}/var/mlflow.db"
    return mlflow.MlflowClient(tracking_uri=uri, registry_uri=uri)


def test_summary_keeps_its_contract(first):
    summary, _ = first
    assert set(summary) == {
        "format", "run_id", "data", "steps", "models", "winner", "verdict", "registered", "served"
    }  # fmt: skip
    assert summary["data"]["patients"] == 5 and summary["data"]["slices"] == 6 * 30
    assert set(summary["models"]) == {"nested_unet", "attention_unet"}
    for scores in summary["models"].values():
        assert {"dice", "iou", "sensitivity", "precision", "lesion_f1", "parameters"} <= set(scores)
    assert summary["registered"] == {"name": MODEL, "version": 1, "aliases": ["champion"]}
    assert summary["served"]["version"] == 1
    assert summary["served"]["max_abs_difference"] <= 1e-5
    steps = {"check", "ingest", "validate", "preprocess", "register", "promote", "evaluate champion"}
    steps |= {f"{step} {name}" for step in ("train", "evaluate") for name in summary["models"]}
    assert set(summary["steps"]) == steps


def test_run_says_what_it_did_and_what_to_type_next(first):
    _, printed = first
    for expected in ("▸ ingest", "training nested_unet", "PASSED", "summary.json", "report.html", "make serve"):
        assert expected in printed
    assert "Traceback" not in printed and "::" not in printed


def test_what_headers_say_of_patients_comes_out_nowhere(first, workspace):
    _, printed = first
    assert set(found(HEADER_TEXTS.values(), [workspace / "heads"])) == set(HEADER_TEXTS.values())
    assert list((workspace / "runs").rglob("log.txt")) and list((workspace / "var").rglob("saved_model.pb"))
    assert found(HEADER_TEXTS.values(), [workspace / "runs", workspace / "var"], [printed]) == {}


def test_report_and_picture_are_there(first, workspace):
    run = folder_of(first[0], workspace)
    report = (run / "report.html").read_text()
    assert "nested_unet" in report and "attention_unet" in report
    assert "Test-time flips" in report and "expected calibration error" in report
    assert (run / "overlay.png").read_bytes().startswith(b"\x89PNG")


def test_nothing_of_a_good_run_looks_like_a_failure(first, workspace):
    """Kubeflow's UI paints red each line with `error` or `fail`; its launcher logs each file that it uploads."""
    alarming = re.compile("error|fail", re.IGNORECASE)
    run = folder_of(first[0], workspace)
    named = [path.relative_to(run).as_posix() for path in run.rglob("*")]
    assert len(named) > 100 and [name for name in named if alarming.search(name)] == []
    lines = (run / "log.txt").read_text().splitlines()
    assert len(lines) > 100 and [line for line in lines if alarming.search(line)] == []
    # The launcher prints what a task hands on, a line for each figure.
    figures = [name for entries in artifacts(run).values() for entry in entries for name in entry.get("metadata", {})]
    assert len(figures) > 20 and [name for name in figures if alarming.search(name)] == []


def folder_of(summary: dict, workspace: Path) -> Path:
    """The folder of the run that a summary is of."""
    summaries = (workspace / "runs").glob("2*/summary.json")
    return next(path.parent for path in summaries if json.loads(path.read_text())["run_id"] == summary["run_id"])


def artifacts(run: Path) -> dict[str, list[dict]]:
    """What each task of a run handed to the Kubeflow UI, by the name of the output."""
    shown: dict[str, list[dict]] = {}
    for path in run.rglob("executor_output.json"):
        for name, entry in json.loads(path.read_text()).get("artifacts", {}).items():
            shown.setdefault(name, []).extend(entry["artifacts"])
    return shown


def test_every_step_hands_its_figures_to_the_kubeflow_ui(first, workspace):
    run = folder_of(first[0], workspace)
    shown = artifacts(run)
    (read,) = (path for path in run.rglob("page") if path.parent.name == "ingest")
    rows = re.findall(r"^\| (train|validation|test) \| (\d+) \| (\d+) \| (\d+) \| (\d+) \|$", read.read_text(), re.M)
    patients, cases, slices, lesion = (sum(int(row[column]) for row in rows) for column in range(1, 5))
    assert len(rows) == 3 and (patients, cases, slices) == (5, 6, 6 * 30) and 0 < lesion < 180
    voxels = [entry["metadata"] for entry in shown["curve"] if entry["metadata"]]
    assert len(voxels) == 2, "two networks, and no champion yet"
    for metadata in voxels:
        rates = [(point["falsePositiveRate"], point["recall"]) for point in metadata["confidenceMetrics"]]
        assert rates == sorted(rates) and rates[-1] == (1.0, 1.0)
        rows = [row["row"] for row in metadata["confusionMatrix"]["rows"]]
        names = [entry["displayName"] for entry in metadata["confusionMatrix"]["annotationSpecs"]]
        assert names == ["healthy", "lesion"] and sum(map(sum, rows)) > 100_000
    scored = [entry["metadata"] for entry in shown["metrics"] if "calibration_deviation" in entry["metadata"]]
    assert len(scored) == 2 and all({"dice", "lesion_f1", "flips_dice"} <= set(metadata) for metadata in scored)
    # Kubeflow's UI shows an error for an artifact without a file.
    files = [path for kind in ("metrics", "curve") for path in run.rglob(kind) if path.parent.name.startswith("eval")]
    assert len(files) == 4 and all(json.loads(path.read_text()) for path in files)
    html = {path.parent.name: path for path in run.rglob("page") if path.is_file()}
    assert {"validate", "register"} <= set(html)
    assert (
        "Passed: may be promoted" in html["register"].read_text() and "Champion v" not in html["register"].read_text()
    )


def test_what_is_published_is_the_registered_artifact(first, workspace, mlflow_client):
    version = model_registry.version_of_alias(mlflow_client, MODEL, CHAMPION)
    assert version is not None and version.number == 1
    published = workspace / "var/serving" / MODEL / "1"
    assert saved_model_digest(published) == version.tags["savedmodel.sha256"]
    assert version.tags["gate"] == "passed"
    assert version.tags["data.version"].endswith(".dir")


def test_mlflow_holds_curves_and_parameters(first, mlflow_client):
    summary, _ = first
    children = mlflow_client.search_runs(
        [mlflow_client.get_experiment_by_name("metseg").experiment_id],
        f"tags.mlflow.parentRunId = '{summary['run_id']}'",
    )
    assert {child.data.tags["architecture"] for child in children} == {"nested_unet", "attention_unet"}
    for child in children:
        assert len(mlflow_client.get_metric_history(child.info.run_id, "val_dice")) == TINY["train_epochs"]
        assert child.data.params["filters"] == "4"
        assert {"test_dice", "test_calibration_error", "test_flips_dice"} <= set(child.data.metrics)
        kept = {item.path for item in mlflow_client.list_artifacts(child.info.run_id, "evaluation")}
        assert {"evaluation/calibration.png", "evaluation/worst_cases"} <= kept
        assert "container.image" not in child.data.tags  # it ran in none
    charts = {item.path for item in mlflow_client.list_artifacts(summary["run_id"], "report/figures")}
    assert {f"report/figures/{name}.png" for name in ("scores", "sizes", "calibration", "validation_dice")} <= charts


def test_predict_writes_masks_in_the_images_own_geometry(first, workspace, server):
    case = workspace / "heads" / "PHANTOM-MET-00002-000"
    files = [str(case / f"{case.name}-{channel}.nii") for channel in ("t1c", "t1n", "t2f")]
    answer = metseg("predict", *files, "--out", "masks", "--server", server, "--model-name", MODEL, workspace=workspace)
    assert answer.returncode == 0, answer.stderr
    mask = nibabel.load(workspace / "masks" / f"{case.name}-mask.nii")
    image = nibabel.load(files[0])
    assert mask.shape == image.shape
    np.testing.assert_array_equal(mask.affine, image.affine)
    table = json.loads((workspace / "masks/lesions.json").read_text())
    voxels = np.asarray(mask.dataobj)
    assert table["cases"][0]["voxels_kept"] == int(voxels.sum())
    volume = abs(np.linalg.det(image.affine[:3, :3]))
    lesions = table["cases"][0]["lesions"]
    rounding = 0.01 * max(1, len(lesions))
    assert sum(lesion["volume_mm3"] for lesion in lesions) == pytest.approx(voxels.sum() * volume, abs=rounding)


def test_predict_names_the_missing_channel(first, workspace, server):
    case = workspace / "heads" / "PHANTOM-MET-00002-000"
    files = [str(case / f"{case.name}-{channel}.nii") for channel in ("t1c", "t1n")]
    answer = metseg(
        "predict", *files, "--out", "missing", "--server", server, "--model-name", MODEL, workspace=workspace
    )
    assert answer.returncode == 1
    assert "t2f" in answer.stderr and case.name in answer.stderr and "Traceback" not in answer.stderr
    assert not list((workspace / "missing").glob("*")) if (workspace / "missing").exists() else True


def test_a_real_head_of_the_same_channels_is_answered(first, workspace, server, shared_data):
    folder = shared_data / "bratsmet-nifti-unlabelled"
    answer = metseg(
        "predict", str(folder), "--out", "real", "--server", server, "--model-name", MODEL, workspace=workspace
    )
    assert answer.returncode == 0, answer.stderr
    mask = nibabel.load(workspace / "real" / "BraTS-MET-00110-000-mask.nii.gz")
    image = nibabel.load(folder / "BraTS-MET-00110-000-t1c.nii.gz")
    assert mask.shape == image.shape == (240, 240, 155)
    np.testing.assert_array_equal(mask.affine, image.affine)


def test_a_port_in_use_is_said(server):
    port = server.rsplit(":", 1)[1]
    answer = subprocess.run(
        [METSEG, "serve", f"--port={port}", "--model_base_path=/nowhere"], capture_output=True, text=True, timeout=120
    )
    assert answer.returncode == 1
    assert port in answer.stderr and "Traceback" not in answer.stderr


def test_a_second_run_ends_in_a_tie_and_the_champion_stays(second, workspace, mlflow_client):
    summary, printed = second
    assert summary["verdict"]["outcome"] == "tie"
    assert summary["registered"] is None
    assert summary["served"]["version"] == 1
    assert "TIE" in printed and "champion stays" in printed
    report = (folder_of(summary, workspace) / "report.html").read_text()
    assert "Tie: the champion stays" in report and "Champion v1" in report
    assert [version.number for version in model_registry.versions(mlflow_client, MODEL)] == [1]


def test_models_lists_the_champion(second, workspace):
    answer = metseg("models", MODEL, workspace=workspace)
    assert answer.returncode == 0 and "champion" in answer.stdout


BAD_CALLS = [
    (["run", "--data", "nowhere"], 2, "nowhere"),
    (["run", "--param", "train_epochs=many"], 2, "train_epochs"),
    (["run", "--param", "epoch=3"], 2, "did you mean train_epochs?"),
    (["run", "--param", "epochs=3"], 2, "epochs is named train_epochs now"),
    (["run", "--param", "train_lesion_share=2"], 2, "train_lesion_share"),
    (["serve", "--no_such_flag=1"], 2, "no_such_flag"),
    (["predict", "absent.nii.gz", "--out", "o"], 2, "absent.nii.gz"),
    (["models", "no-such-model"], 1, "no-such-model"),
]


@pytest.mark.parametrize(
    ("arguments", "code", "named"), BAD_CALLS, ids=lambda value: " ".join(value) if isinstance(value, list) else ""
)
def test_a_bad_call_ends_with_one_clear_message(arguments, code, named, tmp_path):
    answer = metseg(*arguments, workspace=tmp_path)
    assert answer.returncode == code
    assert named in answer.stderr and "Traceback" not in answer.stderr
    assert not (tmp_path / "runs" / "latest").exists()


def test_no_server_is_said_with_its_address(tmp_path):
    image = tmp_path / "head-t1c.nii.gz"
    nibabel.save(nibabel.Nifti1Image(np.zeros((4, 4, 4), np.int16), np.eye(4)), image)
    started = time.monotonic()
    answer = metseg("predict", str(image), "--out", "o", "--server", "127.0.0.1:9", workspace=tmp_path)
    assert answer.returncode == 1 and time.monotonic() - started < 60
    assert "127.0.0.1:9" in answer.stderr and "metseg serve" in answer.stderr and "Traceback" not in answer.stderr


def damage(kind: str, folder: Path) -> str:
    """Make a cohort one that cannot be used; gives what its refusal must name."""
    case = folder / "PHANTOM-MET-00002-000"
    image, mask = case / f"{case.name}-t1c.nii", case / f"{case.name}-seg.nii"
    if kind == "truncated":
        image.write_bytes(image.read_bytes()[:5000])
        return image.name
    if kind == "empty file":
        image.write_bytes(b"")
        return image.name
    if kind == "no mask":
        mask.unlink()
        return case.name
    if kind == "sizes differ":
        nibabel.save(nibabel.Nifti1Image(np.zeros((5, 6, 7), np.uint8), np.eye(4)), mask)
        return mask.name
    if kind == "two patients":
        for path in [*case.iterdir(), case]:
            path.unlink() if path.is_file() else path.rmdir()
        return "3"
    for path in list(folder.rglob("*.nii")):
        path.rename(path.with_suffix(".dat"))
    return "layout"


@pytest.mark.parametrize("kind", ["truncated", "two patients"])
def test_a_bad_cohort_ends_a_run_with_one_clear_message(kind, tmp_path, phantom_cohort):
    phantom_cohort(tmp_path / "scans", 3)
    named = damage(kind, tmp_path / "scans")
    answer = metseg("run", "--data", "scans", workspace=tmp_path)
    assert answer.returncode == 1, answer.stdout + answer.stderr
    assert named in answer.stderr and "Traceback" not in answer.stderr
    assert not (tmp_path / "runs" / "latest").exists()
    assert not (tmp_path / "var" / "serving").exists()


@pytest.mark.parametrize("kind", ["empty file", "no mask", "sizes differ", "unknown layout"])
def test_a_bad_cohort_is_refused_by_name(kind, tmp_path, monkeypatch, phantom_cohort):
    phantom_cohort(tmp_path / "scans", 3)
    named = damage(kind, tmp_path / "scans")
    monkeypatch.setenv("METSEG_WORKSPACE", str(tmp_path))
    with pytest.raises(MetsegError, match=re.escape(named)):
        ingest(DataSettings(str(tmp_path / "scans")), tmp_path / "cohort", model_name="m", run_name="r")
    assert not (tmp_path / "cohort" / "manifest.json").exists()
