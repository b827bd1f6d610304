"""What models answer to a study: asked for in the background, and kept as long as there is room."""

from __future__ import annotations

import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from metseg.scoring.lesion_table import LesionRow, lesion_table
from metseg.scoring.operating_point import apply
from metseg.serving.client.segmentation_client import SegmentationClient
from metseg.serving.viewer.model_versions import Served
from metseg.serving.viewer.study import Study

logger = logging.getLogger(__name__)

KEPT = 8
"""Answers that are kept; one to a volume of 240×240×155 takes 45 MB."""
WORKERS = 2
"""Requests under way at once: both models of a comparison."""

Key = tuple[str, str, int, str]
"""Server, model, version and digest of the study."""


@dataclass(frozen=True, eq=False)
class Answer:
    """One version's answer to one study.

    Attributes:
        served: the version.
        description: its specification, from `describe`.
        probability: float32 `(slices, height, width)`.
        mask: bool of the same shape: the model's threshold and minimum lesion volume applied.
        lesions: of the mask, largest first.
        seconds: from the question to the mask.
    """

    served: Served
    description: Mapping[str, Any]
    probability: NDArray[np.float32] = field(repr=False)
    mask: NDArray[np.bool_] = field(repr=False)
    lesions: tuple[LesionRow, ...]
    seconds: float

    @property
    def threshold(self) -> float:
        """Probability from which a voxel is lesion."""
        return float(self.description["threshold"])


def ask(address: str, served: Served, study: Study) -> Answer:
    """Ask one version about a study.

    Raises:
        MetsegError: the server does not answer or refuses, or the study lacks a channel; in one sentence.
    """
    start = time.monotonic()
    with SegmentationClient(address, served.model, version=served.version) as client:
        description = client.describe()
        prediction = client.predict(study.for_model(description["channels"]))
    spacing = study.geometry.spacing
    mask = apply(prediction.probability, description["threshold"], description["minimum_volume_mm3"], spacing)
    lesions = tuple(lesion_table(mask, prediction.probability, study.geometry))
    seconds = time.monotonic() - start
    logger.info("%s version %d answered in %.1f s: %d lesions", served.model, served.version, seconds, len(lesions))
    return Answer(served, description, prediction.probability, mask, lesions, seconds)


class Desk:
    """Takes questions, works on a few at once, and keeps the last answers by study and version.

    The same question is asked once, however often and from however many pages it comes.
    """

    def __init__(self, kept: int = KEPT) -> None:
        """A desk that keeps that many answers."""
        self._kept = kept
        self._pool = ThreadPoolExecutor(WORKERS, thread_name_prefix="ask")
        self._futures: OrderedDict[Key, Future[Answer]] = OrderedDict()
        self._lock = threading.Lock()

    def answer(self, address: str, served: Served, study: Study) -> Future[Answer]:
        """The answer, which may be under way still or have failed."""
        key = (address, *served.key, study.digest)
        with self._lock:
            future = self._futures.get(key)
            if future is None:
                future = self._futures[key] = self._pool.submit(ask, address, served, study)
            self._futures.move_to_end(key)
            while len(self._futures) > self._kept:
                self._futures.popitem(last=False)[1].cancel()
        return future

    def forget_failed(self) -> None:
        """Let questions that failed be asked again."""
        with self._lock:
            failed = [key for key, future in self._futures.items() if future.done() and _failed(future)]
            for key in failed:
                del self._futures[key]


def _failed(future: Future[Answer]) -> bool:
    return future.cancelled() or future.exception() is not None
