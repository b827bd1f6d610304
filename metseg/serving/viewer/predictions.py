"""Predictions of model versions for studies, computed in the background and cached."""

from __future__ import annotations

import logging
import threading
import time
from collections import OrderedDict
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from metseg.scoring.lesion_table import LesionRow
from metseg.serving.client import Segmentation, SegmentationClient
from metseg.serving.viewer.model_versions import ServedVersion
from metseg.serving.viewer.study import Study

LOGGER = logging.getLogger(__name__)

CACHED = 8
"""Predictions in the cache; one for a volume of 240×240×155 takes 45 MB."""
WORKERS = 2
"""Requests at the same time: both models of a comparison."""


@dataclass(frozen=True, eq=False)
class StudyPrediction:
    """Prediction of one version for one study.

    Attributes:
        served: the version.
        segmentation: lesions, mask and probability, with the version's description.
        seconds: from request to mask.
    """

    served: ServedVersion
    segmentation: Segmentation = field(repr=False)
    seconds: float

    @property
    def lesions(self) -> tuple[LesionRow, ...]:
        """Lesions of the mask, largest first."""
        return self.segmentation.lesions

    @property
    def mask(self) -> NDArray[np.bool_]:
        """Mask `(slices, height, width)` at the model's threshold and minimum lesion volume."""
        return self.segmentation.mask.view(np.bool_)


def predict(address: str, served: ServedVersion, study: Study) -> StudyPrediction:
    """Return the prediction of one version for a study.

    Raises:
        MetsegError: the server does not respond or refuses, or the study lacks a channel; in one sentence.
    """
    start = time.monotonic()
    with SegmentationClient(address, served.model, version=served.version) as client:
        image = study.for_model(client.describe().channels)
        segmentation = client.segment(image, study.geometry)
    seconds = time.monotonic() - start
    count = len(segmentation.lesions)
    LOGGER.info("%s version %d segmented in %.1f s: %d lesions", served.model, served.version, seconds, count)
    return StudyPrediction(served, segmentation, seconds)


class PredictionCache:
    """Computes a few predictions at once, and keeps the latest by study and version.

    A prediction is computed once, for any number of requests from any number of pages.
    """

    def __init__(self, size: int = CACHED) -> None:
        """Make a cache of that many predictions."""
        self._size = size
        self._pool = ThreadPoolExecutor(WORKERS, thread_name_prefix="predict")
        self._futures: OrderedDict[tuple[str, str, int, str], Future[StudyPrediction]] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, address: str, served: ServedVersion, study: Study) -> Future[StudyPrediction]:
        """Return the prediction, which may still be computed, or have failed."""
        key = (address, *served.key, study.digest)
        with self._lock:
            future = self._futures.get(key)
            if future is None:
                future = self._futures[key] = self._pool.submit(predict, address, served, study)
            self._futures.move_to_end(key)
            while len(self._futures) > self._size:
                self._futures.popitem(last=False)[1].cancel()
        return future

    def forget_failed(self) -> None:
        """Drop failed predictions, so that they are computed again."""
        with self._lock:
            for key, future in list(self._futures.items()):
                if future.done() and (future.cancelled() or future.exception() is not None):
                    del self._futures[key]
