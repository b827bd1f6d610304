"""Jobs of the gateway: when they end, expire, and what an earlier gateway left."""

from __future__ import annotations

import json
import threading
import time
from pathlib import Path

from metseg.errors import DataError
from metseg.serving.gateway.jobs import Job, JobResult, Jobs
from metseg.serving.gateway.problem_details import problem_of
from metseg.serving.gateway.upload_validation import UploadedCase


def test_results_expire(tmp_path: Path) -> None:
    def segment(job: Job, folder: Path, report: object) -> JobResult:
        (folder / "results").mkdir()
        return JobResult(1, "mm", ())

    jobs = Jobs(tmp_path, segment, workers=1, waiting=1, keep_seconds=100)
    jobs.start()
    folder = jobs.new_folder()
    stray = jobs.new_folder()
    assert jobs.reserve()
    job = jobs.submit(folder, "", UploadedCase({"": "image.nii"}))
    while not job.ended:
        time.sleep(0.01)
        job = jobs.find(job.id)
    assert jobs.expire(job.finished + 99) == 0 and folder.exists()
    assert jobs.expire(time.time() + 101) == 2 and jobs.find(job.id) is None
    assert not folder.exists() and not stray.exists()
    jobs.stop(5)


def test_owners_share_the_places(tmp_path: Path) -> None:
    shared = Jobs(tmp_path, _never, workers=1, waiting=8, keep_seconds=100, owners=2)
    assert [shared.reserve("a") for _ in range(6)] == [True] * 4 + [False] * 2
    assert shared.reserve("b")
    shared.release("a")
    assert shared.reserve("a") and not shared.reserve("a")
    crowded = Jobs(tmp_path, _never, workers=1, waiting=1, keep_seconds=100, owners=5)
    assert [crowded.reserve(owner) for owner in "abcde"] == [True] * 5, "everyone has one place"


def test_owners_take_turns(tmp_path: Path) -> None:
    order: list[str] = []
    submitted = threading.Event()

    def segment(job: Job, folder: Path, report: object) -> JobResult:
        submitted.wait(10)
        order.append(job.owner)
        return JobResult(1, "mm", ())

    jobs = Jobs(tmp_path, segment, workers=1, waiting=20, keep_seconds=100, owners=2)
    jobs.start()
    for owner in "aaaaabb":
        assert jobs.reserve(owner)
        jobs.submit(jobs.new_folder(), owner, UploadedCase({"": "image.nii"}))
    submitted.set()
    while jobs.counts()["done"] < 7:
        time.sleep(0.01)
    jobs.stop(5)
    assert "".join(order) == "ababaaa"


def test_unfinished_jobs_are_resumed_beyond_a_smaller_share(tmp_path: Path) -> None:
    before = Jobs(tmp_path, _never, workers=1, waiting=3, keep_seconds=100)
    for _ in range(4):
        assert before.reserve("a")
        before.submit(before.new_folder(), "a", UploadedCase({"": "image.nii"}))
    after = Jobs(tmp_path, lambda *_: JobResult(1, "mm", ()), workers=1, waiting=3, keep_seconds=100, owners=4)
    after.start()
    while after.counts()["done"] < 4:
        time.sleep(0.01)
    after.stop(5)
    assert after.reserve("a") and not after.reserve("a")


def _never(job: Job, folder: Path, report: object) -> JobResult:
    raise AssertionError


def test_the_record_of_an_earlier_gateway_is_read(tmp_path: Path) -> None:
    fields = {
        "id": "0" * 32, "owner": "", "files": {"": "image.png"}, "patterns": [], "state": "done", "created": 1.0,
        "finished": 2.0, "progress": 1.0, "problem": None, "attempts": 1,
        "found": {"case": "0", "version": 3, "units": "voxels", "voxels_kept": 0, "lesions": []},
    }  # fmt: skip
    (tmp_path / "job.json").write_text(json.dumps(fields))
    assert Job.read(tmp_path / "job.json").result == JobResult(3, "voxels", ())
    (tmp_path / "job.json").write_text(json.dumps({**fields, "state": "queued", "found": {}}))
    assert Job.read(tmp_path / "job.json").result is None


def test_messages_lose_paths(tmp_path: Path) -> None:
    problem = problem_of(DataError(f"{tmp_path}/t1c.nii.gz: wrong, not {tmp_path}"), tmp_path)
    assert problem.detail == "t1c.nii.gz: wrong, not the upload" and problem.status_code == 422
    assert problem_of(ValueError("secret"), tmp_path).detail.count("secret") == 0
