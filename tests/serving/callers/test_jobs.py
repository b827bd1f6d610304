"""Jobs of the gateway: when they end, expire, and what an earlier gateway left."""

from __future__ import annotations

import json
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
