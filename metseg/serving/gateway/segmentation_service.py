"""Segment uploads through the model server and write their results."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path

from metseg.scoring.lesion_table import lesion_record
from metseg.serving.client import SegmentationClient, Tls
from metseg.serving.client.outputs import CaseResult, suffix_of, write_lesions, write_outputs
from metseg.serving.gateway.jobs import RESULTS, Job, JobResult
from metseg.serving.gateway.schemas import LesionModel
from metseg.serving.gateway.settings import GatewaySettings
from metseg.serving.gateway.upload_validation import UploadedCase, read_uploaded_case

CHUNK_BYTES = 16 << 20
"""Smaller than the client's default: progress is reported after every chunk."""

DESCRIPTION_SECONDS = 5.0
PROBE_SECONDS = 3.0


class SegmentationService:
    """Calls the model server for the gateway; thread-safe."""

    def __init__(self, settings: GatewaySettings) -> None:
        self._settings = settings
        self._client = self._connect(settings.timeout)
        self._probe = self._connect(PROBE_SECONDS)
        self._reading = threading.Semaphore(settings.workers)
        self._cached_channels: tuple[float, list[str]] | None = None

    def close(self) -> None:
        """Close the connections."""
        self._client.close()
        self._probe.close()

    def channels(self) -> list[str]:
        """Return the model's channels, cached for a few seconds; raise ServingError without a model server."""
        cached = self._cached_channels
        if cached is None or time.monotonic() - cached[0] > DESCRIPTION_SECONDS:
            cached = (time.monotonic(), list(self._probe.describe().channels))
            self._cached_channels = cached
        return cached[1]

    def ready(self) -> int:
        """Return the served version under the label; raise ServingError if there is none."""
        return self._probe.answering_version()

    def check(self, case: UploadedCase, folder: Path) -> None:
        """Read an upload as `segment` will, few at a time; may raise DataError."""
        with self._reading:
            read_uploaded_case(case, folder, self.channels(), self._settings.voxels)

    def segment(self, job: Job, folder: Path, report: Callable[[float], None]) -> JobResult:
        """Segment an upload and write its results."""
        read, patient = read_uploaded_case(job.case, folder, self.channels(), self._settings.voxels)
        name = self._settings.model_name
        segmentation = self._client.segment(read.image, read.geometry, lambda done, total: report(done / total))
        results = folder / RESULTS
        results.mkdir(exist_ok=True)
        mask = results / f"mask{suffix_of(read)}"
        write_outputs(read, segmentation, name, mask, results / "overlay.png", patient=patient)
        result = CaseResult.of(job.id, read, segmentation)
        write_lesions(results, name, segmentation.description, [result])
        lesions = tuple(LesionModel.model_validate(lesion_record(row)) for row in result.lesions)
        return JobResult(result.version, result.units, lesions)

    def _connect(self, timeout: float) -> SegmentationClient:
        settings = self._settings
        tls = None if settings.tls_ca is None else Tls(root_certificates=settings.tls_ca)
        return SegmentationClient(
            settings.server, settings.model_name, settings.label or None, None, timeout, tls, chunk_bytes=CHUNK_BYTES
        )
