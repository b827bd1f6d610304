"""The gateway as a process in front of a real model server: uploads, jobs, results, keys, and what it refuses."""

from __future__ import annotations

import io
import json
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path

import highdicom
import httpx
import nibabel
import numpy as np
import psutil
import pytest
import schemathesis
from hypothesis import HealthCheck, settings
from PIL import Image
from schemathesis.checks import CHECKS

from metseg.errors import UsageError
from metseg.serving.client import SegmentationClient
from metseg.serving.gateway.api_docs import sample_upload
from metseg.serving.gateway.settings import GatewaySettings
from tests.conftest import ROOT
from tests.imaging.planted import NEEDLES
from tests.privacy_search import found
from tests.serving.callers.conftest import head, write_head
from tests.serving.callers.gateways import LIMITS, Gateway, files_of, free_port, gateway
from tests.serving.callers.hostile import KINDS, hostile_requests
from tests.serving.callers.models import CHANNELS, MODEL, THRESHOLD
from tests.serving.callers.sample import sample_slice
from tests.serving.callers.test_outputs import PATIENT, write_planted_study, write_study

ROUTE = "/v1/segmentations"


@pytest.fixture(scope="module")
def running(address: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    with gateway(address, tmp_path_factory.mktemp("gateway"), queue=50) as started:
        yield started


@pytest.fixture
def http(running: Gateway) -> Iterator[httpx.Client]:
    with running.http() as client:
        yield client


def finished(http: httpx.Client, job: dict, seconds: float = 60) -> dict:
    ends = time.monotonic() + seconds
    while job["state"] in ("queued", "running"):
        assert time.monotonic() < ends
        time.sleep(0.05)
        job = http.get(f"{ROUTE}/{job['id']}").json()
    return job


def test_nifti_goes_in_and_its_mask_comes_out(http: httpx.Client, address: str, tmp_path: Path) -> None:
    paths = write_head(tmp_path)
    answer = http.post(ROUTE, files=files_of(paths))
    assert answer.status_code == 202
    job = finished(http, answer.json())
    assert answer.headers["location"] == f"{ROUTE}/{job['id']}"
    assert (job["state"], job["progress"], job["units"], job["version"]) == ("done", 1.0, "mm", 1)
    assert set(job["results"]) == {"mask.nii.gz", "overlay.png", "lesions.json", "lesions.csv"}
    fetched = {name: http.get(result["href"]) for name, result in job["results"].items()}
    for name, result in job["results"].items():
        assert len(fetched[name].content) == result["bytes"]
        assert fetched[name].headers["content-type"].startswith(result["media_type"].partition(";")[0])
        assert name in fetched[name].headers["content-disposition"]
    (tmp_path / "mask.nii.gz").write_bytes(fetched["mask.nii.gz"].content)
    mask = nibabel.load(tmp_path / "mask.nii.gz")
    np.testing.assert_array_equal(mask.affine, nibabel.load(paths[0]).affine)
    with SegmentationClient(address, MODEL, label="stable") as client:
        image = np.stack([head(seed=seed) for seed in range(3)], axis=-1)
        expected = client.predict(image).probability >= np.float32(THRESHOLD)
    np.testing.assert_array_equal(np.transpose(np.asarray(mask.dataobj), (2, 1, 0)), expected)
    told = json.loads(fetched["lesions.json"].content)
    assert told["cases"][0]["lesions"] == job["lesions"] and len(job["lesions"]) == 1
    assert fetched["lesions.csv"].text.count("\n") == 2
    Image.open(io.BytesIO(fetched["overlay.png"].content)).verify()


def test_channels_may_be_named_in_order(http: httpx.Client, tmp_path: Path) -> None:
    paths = write_head(tmp_path)
    by_name = http.post(f"{ROUTE}?wait=30", files=files_of(paths)).json()
    swapped = [("files", ("x", path.read_bytes())) for path in reversed(paths)]
    answer = http.post(f"{ROUTE}?wait=30", files=swapped, data={"channels": ", ".join(reversed(CHANNELS))})
    assert answer.status_code == 200 and answer.json()["lesions"] == by_name["lesions"]


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_pictures_go_in(http: httpx.Client, kind: str) -> None:
    picture = np.kron(np.stack([head()[2] // 4] * 3, axis=-1), np.ones((2, 2, 1))).astype(np.uint8)
    packed = io.BytesIO()
    Image.fromarray(picture).save(packed, kind)
    job = http.post(f"{ROUTE}?wait=30", files={"files": ("slice", packed.getvalue())}).json()
    assert (job["state"], job["units"]) == ("done", "voxels"), job
    name = {"PNG": "mask.png", "TIFF": "mask.tif"}[kind]
    mask = np.asarray(Image.open(io.BytesIO(http.get(job["results"][name]["href"]).content)))
    assert mask.shape == (96, 96) and set(np.unique(mask)) == {0, 255}


def zipped(folder: Path) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(folder.rglob("*")):
            archive.write(path, f"{PATIENT.partition('^')[0]}/{path.relative_to(folder)}")
    return packed.getvalue()


def test_zipped_dicom_goes_in_and_a_seg_comes_out_without_a_name(
    running: Gateway, http: httpx.Client, tmp_path: Path
) -> None:
    written = write_study(tmp_path / "in", PatientBirthDate="19370212")
    answer = http.post(f"{ROUTE}?wait=30", files={"files": ("Zwingelstein.zip", zipped(tmp_path / "in"))})
    job = answer.json()
    assert job["state"] == "done", job
    (tmp_path / "out").mkdir()
    for name, result in job["results"].items():
        (tmp_path / "out" / name).write_bytes(http.get(result["href"]).content)
    segmentation = highdicom.seg.segread(tmp_path / "out" / "mask.dcm")
    assert segmentation.ReferencedSeriesSequence[0].SeriesInstanceUID == written["t1n"][0].SeriesInstanceUID
    assert segmentation.FrameOfReferenceUID == written["t1n"][0].FrameOfReferenceUID
    needles = ["Zwingelstein", "Ottilie", "QX-9912", "19370212"]
    texts = [answer.text, running.log.read_text(encoding="utf-8")]
    assert found(needles, [tmp_path / "out", running.folder], texts) == {}
    assert set(found(needles, [tmp_path / "in"])) == set(needles), "the search finds what went in"


def test_nothing_planted_in_any_attribute_comes_out(address: str, tmp_path: Path) -> None:
    written = write_planted_study(tmp_path / "in")
    with gateway(address, tmp_path / "gateway", upload_mb=64) as started, started.http() as http:
        answer = http.post(f"{ROUTE}?wait=30", files={"files": ("NeedleZ.zip", zipped(tmp_path / "in"))})
        job = finished(http, answer.json())
        assert job["state"] == "done" and len(job["lesions"]) == 1, job
        (tmp_path / "out").mkdir()
        for name, result in job["results"].items():
            (tmp_path / "out" / name).write_bytes(http.get(result["href"]).content)
        texts = [answer.text, json.dumps(job), started.log.read_text(encoding="utf-8")]
        assert found([*NEEDLES, "QX-9912"], [tmp_path / "out", started.folder], texts) == {}
    segmentation = highdicom.seg.segread(tmp_path / "out" / "mask.dcm")
    assert segmentation.ReferencedSeriesSequence[0].SeriesInstanceUID == written["t1n"][0].SeriesInstanceUID


def test_uploads_are_gone_when_the_job_is_over(running: Gateway, http: httpx.Client, tmp_path: Path) -> None:
    job = http.post(f"{ROUTE}?wait=30", files=files_of(write_head(tmp_path))).json()
    assert {path.name for path in (running.folder / job["id"]).iterdir()} == {"job.json", "results"}
    assert http.delete(f"{ROUTE}/{job['id']}").status_code == 204
    assert not (running.folder / job["id"]).exists()
    assert http.get(f"{ROUTE}/{job['id']}").status_code == 404
    assert http.get(job["results"]["mask.nii.gz"]["href"]).status_code == 404


def test_operators_see_health_readiness_and_figures(http: httpx.Client) -> None:
    assert http.get("/healthz").json() == {"status": "ok"}
    assert http.get("/readyz").json() == {"status": "ready", "model": MODEL, "version": 1}
    http.get("/Zwingelstein/x")
    text = http.get("/metrics").text
    assert 'metseg_gateway_requests_total{method="GET",route="/healthz",status="200"}' in text
    assert 'metseg_gateway_jobs{state="running"}' in text and "Zwingelstein" not in text


def test_the_document_describes_the_key_the_upload_and_its_parameters(http: httpx.Client) -> None:
    document = http.get("/openapi.json").json()
    operations = {one["operationId"]: one for path in document["paths"].values() for one in path.values()}
    assert set(operations) == {"create", "show", "fetch", "delete", "healthz", "readyz", "metrics", "sample"}
    assert document["components"]["securitySchemes"]["APIKeyHeader"]["name"] == "X-API-Key"
    guarded = {name for name, operation in operations.items() if "security" in operation}
    assert guarded == {"create", "show", "fetch", "delete"}
    (wait,) = operations["create"]["parameters"]
    assert [example["value"] for example in wait["examples"].values()] == [30, 0]


def test_the_sample_fits_the_model(http: httpx.Client) -> None:
    sample = http.get("/docs/sample.png")
    assert sample.status_code == 200
    job = http.post(f"{ROUTE}?wait=60", files={"files": ("sample.png", sample.content)}).json()
    assert (job["state"], job["units"]) == ("done", "voxels")


def test_the_sample_is_the_slice_of_a_phantom_in_any_channels():
    planes = sample_slice()
    with Image.open(io.BytesIO(sample_upload(("t1c", "t1n", "t2f")))) as image:
        assert np.array_equal(np.asarray(image), planes[..., [2, 0, 1]])
    with Image.open(io.BytesIO(sample_upload(("t2f",)))) as image:
        assert np.array_equal(np.asarray(image), planes[..., 1])


def test_what_a_model_server_is_down_for_is_said(tmp_path: Path) -> None:
    with gateway(f"127.0.0.1:{free_port()}", tmp_path) as alone, alone.http() as http:
        answer = http.get("/readyz")
        assert answer.status_code == 503 and answer.headers["content-type"] == "application/problem+json"
        assert answer.headers["retry-after"] and "no model server responds" in answer.json()["detail"]
        sent = http.post(ROUTE, files=files_of(write_head(tmp_path / "in")))
        assert sent.status_code == 503 and http.get("/healthz").status_code == 200
        assert list(alone.folder.iterdir()) == []


def test_keys_open_the_gateway_and_each_sees_its_own(address: str, tmp_path: Path) -> None:
    first, second = "first-key-0123456789", "second-key-0123456789"
    with gateway(address, tmp_path, api_keys=f"{first},{second}") as shut, shut.http() as http:
        assert http.get("/healthz").status_code == 200
        for headers in ({}, {"X-API-Key": first[:-1]}, {"X-API-Key": ""}):
            answer = http.post(ROUTE, files={"files": b"x"}, headers=headers)
            assert answer.status_code == 401 and "www-authenticate" in answer.headers
        files = files_of(write_head(tmp_path / "in"))
        job = http.post(f"{ROUTE}?wait=30", files=files, headers={"X-API-Key": first}).json()
        seen = {
            key: http.get(f"{ROUTE}/{job['id']}", headers={"X-API-Key": key}).status_code for key in (first, second)
        }
        assert seen == {first: 200, second: 404}
        assert http.delete(f"{ROUTE}/{job['id']}", headers={"X-API-Key": second}).status_code == 404
        log = shut.log.read_text(encoding="utf-8")
        assert first not in log and second not in log


def test_a_gateway_without_keys_is_not_opened_to_others(tmp_path: Path) -> None:
    command = [sys.executable, "-c", "from metseg.cli import main; main()", "api", "--host", "0.0.0.0"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, timeout=60, check=False)
    assert done.returncode == 2 and "METSEG_API_KEYS" in done.stderr and "Traceback" not in done.stderr
    with pytest.raises(UsageError, match=r"METSEG_API_KEYS: a key .* can be guessed"):
        GatewaySettings(folder=tmp_path, api_keys=("short",))


@pytest.mark.parametrize(
    "variable, value, expected",
    [
        ("METSEG_GATEWAY_WORKERS", "0", "a whole number above 0"),
        ("METSEG_GATEWAY_QUEUE", "-1", "a whole number, 0 or more"),
        ("METSEG_GATEWAY_UPLOAD_MB", "much", "a number of megabytes above 0"),
        ("METSEG_GATEWAY_OPEN", "perhaps", "on or off"),
    ],
)
def test_a_wrong_setting_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, variable: str, value: str, expected: str
) -> None:
    monkeypatch.setenv("METSEG_WORKSPACE", str(tmp_path))
    monkeypatch.setenv(variable, value)
    with pytest.raises(UsageError, match=f"{variable}={value}: expected {expected}"):
        GatewaySettings.from_environment()


def test_settings_come_from_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("METSEG_WORKSPACE", str(tmp_path))
    monkeypatch.setenv("METSEG_API_KEYS", f"{'a' * 16}, {'b' * 16}")
    monkeypatch.setenv("METSEG_GATEWAY_LABEL", "")
    monkeypatch.setenv("METSEG_GATEWAY_UPLOAD_MB", "0.5")
    monkeypatch.setenv("METSEG_GATEWAY_TLS_CA", "")
    settings = GatewaySettings.from_environment()
    assert settings.folder == tmp_path / "var/state/gateway" and settings.tls_ca is None
    assert settings.api_keys == ("a" * 16, "b" * 16) and "aaaa" not in repr(settings)
    assert settings.label == "" and settings.upload_bytes == 1 << 19


def test_the_seeds_uvicorn_command_serves(address: str, tmp_path: Path) -> None:
    """And, bound to all addresses without keys, it answers on its own machine alone."""
    import os

    port = free_port()
    environment = {**os.environ, "METSEG_GATEWAY_SERVER": address, "METSEG_GATEWAY_MODEL": MODEL}
    environment["METSEG_GATEWAY_FOLDER"] = str(tmp_path / "jobs")
    command = [sys.executable, "-m", "uvicorn", "app:app", "--app-dir", str(ROOT / "metseg/serving/gateway")]
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen([*command, "--host", "0.0.0.0", "--port", str(port)], env=environment, stderr=log)
    try:
        base = f"http://127.0.0.1:{port}"
        with httpx.Client(base_url=base, trust_env=False, transport=httpx.HTTPTransport(retries=8)) as http:
            assert http.get("/readyz").json()["version"] == 1
        outside = [
            one.address
            for addresses in psutil.net_if_addrs().values()
            for one in addresses
            if one.family.name == "AF_INET" and not one.address.startswith("127.")
        ]
        for host in outside[:1]:
            answer = httpx.get(f"http://{host}:{port}/healthz", trust_env=False)
            assert answer.status_code == 403 and "METSEG_API_KEYS" in answer.json()["detail"]
    finally:
        process.terminate()
        assert process.wait(30) in (0, -15)


def test_a_full_queue_says_when_to_come_back(address: str, tmp_path: Path) -> None:
    with gateway(address, tmp_path, queue=0, voxels=10**7) as small, small.http() as http:
        files = files_of(write_head(tmp_path / "in", slices=300))
        first = http.post(ROUTE, files=files)
        assert first.status_code == 202
        second = http.post(ROUTE, files=files)
        assert second.status_code == 429 and int(second.headers["retry-after"]) > 0
        assert finished(http, first.json())["state"] == "done"
        assert http.post(ROUTE, files=files).status_code == 202, "the place is free again"


def test_a_stopping_gateway_finishes_and_a_killed_one_takes_up_again(address: str, tmp_path: Path) -> None:
    files = files_of(write_head(tmp_path / "in", slices=200))
    with gateway(address, tmp_path) as first, first.http() as http:
        jobs = [http.post(ROUTE, files=files).json() for _ in range(3)]
        first.process.kill()
        first.process.wait()
    with gateway(address, tmp_path, grace_seconds=60) as second, second.http() as http:
        assert all(finished(http, job)["state"] == "done" for job in jobs)
        last = http.post(ROUTE, files=files).json()
        while http.get(f"{ROUTE}/{last['id']}").json()["state"] == "queued":
            time.sleep(0.02)
        assert second.stop() == 0
    record = json.loads((tmp_path / "jobs" / last["id"] / "job.json").read_text(encoding="utf-8"))
    assert record["state"] == "done"


def test_hostile_requests_get_their_codes(running: Gateway, http: httpx.Client) -> None:
    """One of each kind; `python -m benchmarks.gateway` sends 500."""
    before = running.memory()
    wrong = []
    for one in hostile_requests(2 * len(KINDS), LIMITS, seed=11):
        code = one.send(running.base)
        if code not in one.right:
            wrong.append(f"{one.name}: {code}, expected {sorted(one.right)}")
    assert wrong == []
    assert running.process.poll() is None and http.get("/healthz").status_code == 200
    assert running.memory() - before < 200 << 20
    assert "Traceback" not in running.log.read_text(encoding="utf-8")


def test_the_api_keeps_to_its_document(running: Gateway) -> None:
    schema = schemathesis.openapi.from_url(f"{running.base}/openapi.json")
    excluded = [CHECKS.get_one("positive_data_acceptance")]  # random bytes are no image, whatever the schema says
    for operation in schema.get_all_operations():
        _examine(operation.ok(), excluded)


def _examine(operation: schemathesis.schemas.APIOperation, excluded: list) -> None:
    from hypothesis import given

    @settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True, database=None)
    @given(case=operation.as_strategy())
    def examine(case: schemathesis.Case) -> None:
        case.call_and_validate(excluded_checks=excluded)

    examine()
