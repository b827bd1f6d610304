"""The gateway's work: one upload through the model server, its results beside it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from metseg.serving.client import SegmentationClient, Tls
from metseg.serving.client.outputs import CaseResult, suffix_of, write_lesions, write_outputs
from metseg.serving.gateway.jobs import RESULTS, Job
from metseg.serving.gateway.settings import GatewaySettings
from metseg.serving.gateway.upload_validation import Intake, read_intake

CHUNK_BYTES = 16 << 20
"""Smaller than the client's own: progress is told after every chunk."""

DESCRIPTION_SECONDS = 5.0
PROBE_SECONDS = 3.0


class Segmenter:
    """Asks the model server on behalf of the gateway's callers; used by all of its threads."""

    def __init__(self, settings: GatewaySettings) -> None:
        self._settings = settings
        self._client = self._connect(settings.timeout)
        self._probe = self._connect(PROBE_SECONDS)
        self._reading = threading.Semaphore(settings.workers)
        self._described: tuple[float, list[str]] | None = None

    def close(self) -> None:
        """Close the connections."""
        self._client.close()
        self._probe.close()

    def channels(self) -> list[str]:
        """Channels that the model takes, asked for anew every few seconds; raises ServingError."""
        kept = self._described
        if kept is None or time.monotonic() - kept[0] > DESCRIPTION_SECONDS:
            kept = (time.monotonic(), list(self._probe.describe().channels))
            self._described = kept
        return kept[1]

    def ready(self) -> int:
        """The version that answers under the label; raises ServingError where none does."""
        return self._probe.answering_version()

    def check(self, intake: Intake, folder: Path) -> None:
        """Read an upload as it will be read for the model, a few at once; raises DataError where that fails."""
        with self._reading:
            read_intake(intake, folder, self.channels(), self._settings.voxels)

    def segment(self, job: Job, folder: Path, report: Callable[[float], None]) -> dict[str, Any]:
        """Segment an upload and write its results."""
        read, patient = read_intake(job.intake, folder, self.channels(), self._settings.voxels)
        name = self._settings.model_name
        found = self._client.segment(read.image, read.geometry, lambda done, total: report(done / total))
        results = folder / RESULTS
        results.mkdir(exist_ok=True)
        write_outputs(read, found, name, results / f"mask{suffix_of(read)}", results / "overlay.png", patient=patient)
        result = CaseResult.of(job.id, read, found)
        write_lesions(results, name, found.description, [result])
        return result.to_dict()

    def _connect(self, timeout: float) -> SegmentationClient:
        given = self._settings
        tls = None if given.tls_ca is None else Tls(root_certificates=given.tls_ca)
        return SegmentationClient(
            given.server, given.model_name, given.label or None, None, timeout, tls, chunk_bytes=CHUNK_BYTES
        )
