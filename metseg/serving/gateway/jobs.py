"""Segmentations under way and done: each a folder with a record, so that a gateway that starts again knows them."""

from __future__ import annotations

import json
import logging
import queue
import re
import secrets
import shutil
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from metseg.files import write_json
from metseg.serving.gateway.problem_details import problem_of
from metseg.serving.gateway.upload_validation import Intake

LOGGER = logging.getLogger(__name__)

State = Literal["queued", "running", "done", "failed"]
RECORD = "job.json"
RESULTS = "results"
MOST_ATTEMPTS = 2
"""A job under way when the gateway was killed is tried once more: it may have been the reason."""

_ID = re.compile(r"[0-9a-f]{32}")


class Cancelled(Exception):
    """The job was deleted while it ran."""


@dataclass
class Job:
    """One segmentation.

    Attributes:
        id: 32 hexadecimal digits that nobody can guess.
        owner: which API key it belongs to, by a digest; empty without keys.
        files, patterns: the intake.
        created, finished: seconds since 1970.
        progress: share of the slices that are done.
        problem: why it failed, as a problem document.
        attempts: how often it was begun.
        found: what the model found, when done.
    """

    id: str
    owner: str
    files: dict[str, str]
    patterns: tuple[str, ...] = ()
    state: State = "queued"
    created: float = 0.0
    finished: float = 0.0
    progress: float = 0.0
    problem: dict[str, Any] | None = None
    attempts: int = 0
    found: dict[str, Any] = field(default_factory=dict)

    @property
    def intake(self) -> Intake:
        """The case on disk."""
        return Intake(self.files, self.patterns)

    @property
    def over(self) -> bool:
        """Whether nothing more will happen to it."""
        return self.state in ("done", "failed")


Segment = Callable[[Job, Path, Callable[[float], None]], dict[str, Any]]
"""Segments the job in a folder, tells its progress, writes its results to `RESULTS`, and gives what was found."""


class Jobs:
    """A queue of bounded length, and what came of it.

    Args:
        folder: of all jobs.
        segment: does the work.
        workers: jobs under way at once.
        waiting: jobs that may wait.
        keep_seconds: results are deleted so long after they were made.
    """

    def __init__(self, folder: Path, segment: Segment, workers: int, waiting: int, keep_seconds: float) -> None:
        self._folder = folder
        self._segment = segment
        self._keep_seconds = keep_seconds
        self._places = threading.BoundedSemaphore(workers + waiting)
        self._queue: queue.Queue[Job | None] = queue.Queue()
        self._jobs: dict[str, Job] = {}
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._threads = [
            threading.Thread(target=self._work, name=f"segment-{number}", daemon=True) for number in range(workers)
        ]

    def start(self) -> None:
        """Take up what an earlier gateway left, and begin to work."""
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        for folder in sorted(self._folder.iterdir()):
            self._take_up(folder)
        for thread in self._threads:
            thread.start()

    def stop(self, grace: float) -> None:
        """Begin no more; what is under way gets `grace` seconds. What waits is taken up by the next gateway."""
        self._stopping.set()
        for _ in self._threads:
            self._queue.put(None)
        ends = time.monotonic() + grace
        for thread in self._threads:
            thread.join(max(ends - time.monotonic(), 0))

    def reserve(self) -> bool:
        """Take one of the places, before anything is uploaded; False where there is none."""
        return self._places.acquire(blocking=False)

    def release(self) -> None:
        """Give a reserved place back."""
        self._places.release()

    def new_folder(self) -> Path:
        """An empty folder for an upload; its name is the id of the job to be."""
        folder = self._folder / secrets.token_hex(16)
        folder.mkdir(mode=0o700)
        return folder

    def submit(self, folder: Path, owner: str, intake: Intake) -> Job:
        """Queue what lies in `folder`; the reserved place is given back when the job is over."""
        job = Job(folder.name, owner, intake.files, intake.patterns, created=time.time())
        self._keep(job)
        with self._lock:
            self._jobs[job.id] = job
        self._queue.put(job)
        return job

    def find(self, identifier: str) -> Job | None:
        """The job, where it is known."""
        with self._lock:
            return self._jobs.get(identifier)

    def delete(self, identifier: str) -> bool:
        """Forget a job and remove its files; one under way stops at the next report of its progress."""
        with self._lock:
            job = self._jobs.pop(identifier, None)
        if job is None:
            return False
        shutil.rmtree(self._folder / identifier, ignore_errors=True)
        return True

    def expire(self, now: float | None = None) -> int:
        """Delete what was over so long ago, and uploads that never became a job; gives their number."""
        before = (time.time() if now is None else now) - self._keep_seconds
        with self._lock:
            old = [job.id for job in self._jobs.values() if job.over and job.finished < before]
            known = set(self._jobs)
        stray = [
            folder
            for folder in self._folder.iterdir()
            if _ID.fullmatch(folder.name) and folder.name not in known and folder.stat().st_mtime < before
        ]
        for folder in stray:
            shutil.rmtree(folder, ignore_errors=True)
        return sum(self.delete(identifier) for identifier in old) + len(stray)

    def expires(self, job: Job) -> float:
        """When its results are deleted, in seconds since 1970."""
        return (job.finished or time.time()) + self._keep_seconds

    def results(self, job: Job) -> dict[str, Path]:
        """Files that may be fetched, by name."""
        folder = self._folder / job.id / RESULTS
        return {path.name: path for path in sorted(folder.glob("*"))} if job.state == "done" else {}

    def counts(self) -> dict[str, int]:
        """Number of jobs in each state."""
        with self._lock:
            states = [job.state for job in self._jobs.values()]
        return {state: states.count(state) for state in ("queued", "running", "done", "failed")}

    def _take_up(self, folder: Path) -> None:
        if not _ID.fullmatch(folder.name):
            return
        try:
            fields = json.loads((folder / RECORD).read_text(encoding="utf-8"))
            job = Job(**{**fields, "patterns": tuple(fields["patterns"])})
        except (OSError, ValueError, TypeError, KeyError):
            shutil.rmtree(folder, ignore_errors=True)
            return
        self._jobs[job.id] = job
        if job.over:
            return
        if job.attempts >= MOST_ATTEMPTS or not self.reserve():
            document = problem_of(RuntimeError("stopped"), folder).document()
            self._finish(job, "failed", {**document, "detail": "the gateway was stopped under way; send it again"})
            return
        job.state, job.progress = "queued", 0.0
        self._queue.put(job)

    def _work(self) -> None:
        while (job := self._queue.get()) is not None and not self._stopping.is_set():
            try:
                if self.find(job.id) is not None:
                    self._run(job)
            except Exception:
                LOGGER.exception("job %s could not be recorded", job.id)
            finally:
                self.release()

    def _run(self, job: Job) -> None:
        folder = self._folder / job.id
        job.state, job.attempts = "running", job.attempts + 1
        self._keep(job)

        def report(share: float) -> None:
            if self.find(job.id) is None:
                raise Cancelled
            job.progress = share

        began = time.monotonic()
        try:
            job.found = self._segment(job, folder, report)
            self._finish(job, "done")
        except Exception as error:
            if isinstance(error, Cancelled) or self.find(job.id) is None:
                LOGGER.info("job %s was deleted under way", job.id)
                shutil.rmtree(folder, ignore_errors=True)
                return
            problem = problem_of(error, folder)
            if problem.status == 500:
                LOGGER.exception("job %s met an unexpected error", job.id)
            self._finish(job, "failed", problem.document())
        LOGGER.info("job %s %s after %.1f s", job.id, job.state, time.monotonic() - began)

    def _finish(self, job: Job, state: State, problem: dict[str, Any] | None = None) -> None:
        """Record the end; what was uploaded is not kept any longer."""
        folder = self._folder / job.id
        for path in folder.iterdir():
            if path.name not in (RECORD, RESULTS):
                shutil.rmtree(path) if path.is_dir() else path.unlink()
        job.finished, job.problem, job.progress = time.time(), problem, 1.0 if state == "done" else job.progress
        job.state = state
        self._keep(job)

    def _keep(self, job: Job) -> None:
        folder = self._folder / job.id
        if folder.is_dir():
            write_json(folder / RECORD, asdict(job))
