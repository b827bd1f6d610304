"""Queue of segmentations, which survives a restart of the gateway.

Each job is a folder with a record.
"""

from __future__ import annotations

import itertools
import logging
import math
import queue
import re
import secrets
import shutil
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, get_args

from metseg.errors import DataError
from metseg.records import Record
from metseg.serving.gateway.problem_details import Problem, document_of, problem_of
from metseg.serving.gateway.schemas import LesionModel, ProblemDocument, State, Units
from metseg.serving.gateway.upload_validation import UploadedCase

LOGGER = logging.getLogger(__name__)

RECORD = "job.json"
RESULTS = "results"
MAX_ATTEMPTS = 2
"""A job interrupted by a crash is retried once only: it may have caused the crash."""

_ID = re.compile(r"[0-9a-f]{32}")


class Cancelled(Exception):
    """The job was deleted while it ran."""


@dataclass(frozen=True)
class JobResult:
    """The outcome of a finished segmentation.

    Attributes:
        version: of the model.
        units: of the lesions' lengths.
        lesions: largest first.
    """

    version: int
    units: Units
    lesions: tuple[LesionModel, ...]


@dataclass(frozen=True)
class Job(Record):
    """One segmentation.

    Attributes:
        id: 32 random hexadecimal digits.
        owner: digest of the API key it belongs to; empty without keys.
        files, patterns: those of the uploaded case.
        state: of the job.
        created, finished: seconds since 1970.
        progress: share of the segmented slices.
        problem: the reason for a failure.
        attempts: number of starts.
        result: None until done.
    """

    FORMAT: ClassVar[int] = 1

    id: str
    owner: str
    files: dict[str, str]
    patterns: tuple[str, ...] = ()
    state: State = "queued"
    created: float = 0.0
    finished: float = 0.0
    progress: float = 0.0
    problem: ProblemDocument | None = None
    attempts: int = 0
    result: JobResult | None = None

    @classmethod
    def upgraded(cls, values: dict[str, Any], format: int) -> dict[str, Any]:
        """Return the content of an earlier gateway's record.

        Its result was named `found`, and empty until done.
        """
        return {**values, "result": values.get("found") or None}

    @property
    def case(self) -> UploadedCase:
        """The uploaded case."""
        return UploadedCase(self.files, self.patterns)

    @property
    def ended(self) -> bool:
        """True if it is done or failed."""
        return self.state in ("done", "failed")


Segment = Callable[[Job, Path, Callable[[float], None]], JobResult]
"""Segments the job in a folder, reports its progress and writes its files to `RESULTS`."""


class Jobs:
    """A queue of bounded length and its finished jobs.

    Every owner has an equal share of the places, and the owners' jobs take turns: none can keep another out.

    Args:
        folder: of all jobs.
        segment: segments one job.
        workers: number of concurrent jobs.
        waiting: number of queued jobs.
        keep_seconds: time after which results are deleted.
        owners: number of owners among whom the places are shared; each has at least one.
    """

    def __init__(
        self, folder: Path, segment: Segment, workers: int, waiting: int, keep_seconds: float, owners: int = 1
    ) -> None:
        self._folder = folder
        self._segment = segment
        self._keep_seconds = keep_seconds
        self._share = max(1, (workers + waiting) // owners)
        self._held: Counter[str] = Counter()
        self._queue: queue.PriorityQueue[tuple[float, int, str, str]] = queue.PriorityQueue()
        self._numbers = itertools.count()
        self._turn = 0.0
        self._last_turns: dict[str, float] = {}
        self._jobs: dict[str, Job] = {}
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._threads = [
            threading.Thread(target=self._work, name=f"segment-{number}", daemon=True) for number in range(workers)
        ]

    def start(self) -> None:
        """Resume the jobs of an earlier gateway and start the workers."""
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        for folder in sorted(self._folder.iterdir()):
            if _ID.fullmatch(folder.name):
                self._resume(folder)
        for thread in self._threads:
            thread.start()

    def stop(self, grace: float) -> None:
        """Start no more jobs, and wait `grace` seconds for running ones.

        The next gateway resumes the queue.
        """
        self._stopping.set()
        for _ in self._threads:
            self._queue.put((math.inf, next(self._numbers), "", ""))
        ends = time.monotonic() + grace
        for thread in self._threads:
            thread.join(max(ends - time.monotonic(), 0))

    def reserve(self, owner: str = "") -> bool:
        """Reserve one of the owner's places before the upload; return False if none is left."""
        with self._lock:
            if self._held[owner] >= self._share:
                return False
            self._held[owner] += 1
        return True

    def release(self, owner: str = "") -> None:
        """Release a reserved place."""
        with self._lock:
            self._held[owner] -= 1

    def new_folder(self) -> Path:
        """Create an empty folder for an upload, named by the future job's id."""
        folder = self._folder / secrets.token_hex(16)
        folder.mkdir(mode=0o700)
        return folder

    def submit(self, folder: Path, owner: str, case: UploadedCase) -> Job:
        """Queue the case in `folder`; the job's end releases its reserved place."""
        job = Job(folder.name, owner, case.files, case.patterns, created=time.time())
        job.write(folder / RECORD)
        self._enqueue(job)
        return job

    def find(self, identifier: str) -> Job | None:
        """Return the current state of a job; None if it is unknown."""
        with self._lock:
            return self._jobs.get(identifier)

    def delete(self, identifier: str) -> bool:
        """Delete a job and its files; a running one stops at its next progress report."""
        with self._lock:
            job = self._jobs.pop(identifier, None)
        if job is None:
            return False
        shutil.rmtree(self._folder / identifier, ignore_errors=True)
        return True

    def expire(self, now: float | None = None) -> int:
        """Delete expired jobs, and uploads that never became one; return their number."""
        before = (time.time() if now is None else now) - self._keep_seconds
        with self._lock:
            expired = [job.id for job in self._jobs.values() if job.ended and job.finished < before]
            known = set(self._jobs)
        stray = [
            folder
            for folder in self._folder.iterdir()
            if _ID.fullmatch(folder.name) and folder.name not in known and folder.stat().st_mtime < before
        ]
        for folder in stray:
            shutil.rmtree(folder, ignore_errors=True)
        return sum(self.delete(identifier) for identifier in expired) + len(stray)

    def expires(self, job: Job) -> float:
        """Return the time at which a job's results are deleted, in seconds since 1970."""
        return (job.finished or time.time()) + self._keep_seconds

    def results(self, job: Job) -> dict[str, Path]:
        """Return the result files by name."""
        folder = self._folder / job.id / RESULTS
        return {path.name: path for path in sorted(folder.glob("*"))} if job.state == "done" else {}

    def counts(self) -> dict[State, int]:
        """Return the number of jobs by state."""
        with self._lock:
            states = [job.state for job in self._jobs.values()]
        return {state: states.count(state) for state in get_args(State)}

    def _enqueue(self, job: Job) -> None:
        """Queue a job; owners take turns (start-time fair queuing)."""
        with self._lock:
            self._jobs[job.id] = job
            turn = max(self._turn, self._last_turns.get(job.owner, 0.0) + 1)
            self._last_turns[job.owner] = turn
        self._queue.put((turn, next(self._numbers), job.id, job.owner))

    def _resume(self, folder: Path) -> None:
        """Queue the unfinished job in `folder` again; delete a folder without a readable record."""
        try:
            job = Job.read(folder / RECORD)
        except (OSError, ValueError, TypeError, DataError):
            shutil.rmtree(folder, ignore_errors=True)
            return
        self._jobs[job.id] = job
        if job.ended:
            return
        if job.attempts >= MAX_ATTEMPTS:
            self._fail(job, Problem(500, "the gateway was stopped during the segmentation; send it again"))
            return
        self._held[job.owner] += 1  # even beyond a share that new keys have made smaller
        self._enqueue(replace(job, state="queued", progress=0.0))

    def _work(self) -> None:
        while True:
            turn, _, identifier, owner = self._queue.get()
            if self._stopping.is_set():
                return
            self._turn = turn
            try:
                if (job := self.find(identifier)) is not None:
                    self._run(job)
            except Exception:
                LOGGER.exception("job %s could not be recorded", identifier)
            finally:
                self.release(owner)

    def _run(self, job: Job) -> None:
        folder = self._folder / job.id
        job = replace(job, state="running", attempts=job.attempts + 1)
        self._record(job)

        def report(share: float) -> None:
            nonlocal job
            job = replace(job, progress=share)
            if not self._update(job):
                raise Cancelled

        began = time.monotonic()
        try:
            result = self._segment(job, folder, report)
            job = self._end(replace(job, state="done", progress=1.0, result=result))
        except Exception as error:
            if isinstance(error, Cancelled) or self.find(job.id) is None:
                LOGGER.info("job %s was deleted during its run", job.id)
                shutil.rmtree(folder, ignore_errors=True)
                return
            problem = problem_of(error, folder)
            if problem.status_code == 500:
                LOGGER.exception("job %s raised an unexpected error", job.id)
            job = self._fail(job, problem)
        LOGGER.info("job %s %s after %.1f s", job.id, job.state, time.monotonic() - began)

    def _fail(self, job: Job, problem: Problem) -> Job:
        return self._end(replace(job, state="failed", problem=document_of(problem)))

    def _end(self, job: Job) -> Job:
        """Delete the upload, record the end and return it."""
        for path in (self._folder / job.id).iterdir():
            if path.name not in (RECORD, RESULTS):
                shutil.rmtree(path) if path.is_dir() else path.unlink()
        job = replace(job, finished=time.time())
        self._record(job)
        return job

    def _update(self, job: Job) -> bool:
        """Replace the job in memory; return False if it was deleted."""
        with self._lock:
            if job.id not in self._jobs:
                return False
            self._jobs[job.id] = job
            return True

    def _record(self, job: Job) -> None:
        """Write the job to disk, then replace it in memory."""
        folder = self._folder / job.id
        if folder.is_dir():
            job.write(folder / RECORD)
        self._update(job)
