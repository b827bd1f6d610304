"""Verification of a version before it gets a label: gate, digest, loading and golden requests.

Golden requests are volumes with the probabilities that the trained model computed for them. The served version passes
if it computes the same, within a tolerance.
"""

from __future__ import annotations

import logging
import zipfile
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from metseg.errors import DeadlineExceeded, NotServed, PublishError, ServerUnavailable, ServingError, VersionRefused
from metseg.saved_model_digest import saved_model_digest
from metseg.serving.client import ModelClient, Prediction, SegmentationClient
from metseg.serving.model_config import ServedModel
from metseg.serving.publishing import publish, unpublish
from metseg.serving.reconciliation.registry_state import DIGEST_TAG, GATE_TAG, AliasRegistry
from metseg.serving.reconciliation.server_sync import ServerSync
from metseg.serving.reconciliation.serving_volume import ServingVolume

if TYPE_CHECKING:
    from metseg.tracking.model_registry import Version

LOGGER = logging.getLogger(__name__)

PASSED = "passed"
_FATAL_LOSSES = 2
"""Losses of the server, while a version is loaded or verified, for which that version is to blame."""


@dataclass
class Verifier:
    """Verifies versions of the registry on a server.

    Attributes:
        registry: source of versions, digests and golden requests.
        volume: folder of published versions.
        server: the server that loads them.
        sync: loads versions there.
        tolerance: largest difference of a probability that passes.
        beat: called now and then, to show that this process is alive.
    """

    registry: AliasRegistry
    volume: ServingVolume
    server: ModelClient
    sync: ServerSync
    tolerance: float
    beat: Callable[[], None]
    _losses: dict[tuple[str, int], int] = field(default_factory=dict)

    def verify(self, served: ServedModel, number: int) -> float:
        """Publish, load and verify a version; afterwards the server holds it without a label.

        Args:
            served: what is served of the model so far.
            number: the version.

        Returns:
            The largest difference of a golden request's probability.

        Raises:
            VersionRefused: the version must not be served.
            Unreachable: the registry does not respond.
            ServingError: the server does not respond.
            PublishError: the disk refuses.
        """
        self.beat()
        version = self._passed(served.name, number)
        key = (served.name, number)
        if self._losses.get(key, 0) >= _FATAL_LOSSES:
            del self._losses[key]
            raise VersionRefused(
                f"the model server went away {_FATAL_LOSSES} times while this version was loaded or verified"
            )
        self.publish(served, version)
        self.beat()
        with self.volume.download_folder() as folder:
            golden = self.registry.golden(version, folder)
            try:
                if number not in served.versions:
                    self.sync.load(served, number)
                worst = self._compare(served.name, number, golden)
            except (ServerUnavailable, DeadlineExceeded, NotServed):
                self._losses[key] = self._losses.get(key, 0) + 1
                raise
        self._losses.pop(key, None)
        LOGGER.info("%s version %d verified: golden requests differ by at most %.1e", served.name, number, worst)
        return worst

    def publish(self, served: ServedModel, version: Version) -> None:
        """Publish the artifact of a version, unless that was done, if its digest fits.

        Raises:
            VersionRefused: the digest differs, or other contents are served under this number.
            PublishError: the disk refuses.
        """
        expected = version.tags.get(DIGEST_TAG)
        if expected is None:
            raise VersionRefused(f"it has no tag {DIGEST_TAG}, so its registered contents are unknown")
        base_path = self.volume.base(version.name)
        folder = base_path / str(version.number)
        if folder.exists():
            with suppress(PublishError):
                if saved_model_digest(folder) == expected:
                    return
            if version.number in served.versions:
                raise VersionRefused(
                    f"{folder} is served with other contents than were registered under this number (was the registry "
                    "created again?): a version never changes, register the model as a new version"
                )
            LOGGER.warning("%s version %d is published with other contents; removing it", version.name, version.number)
            unpublish(base_path, version.number)
        with self.volume.download_folder() as download:
            saved_model = self.registry.saved_model(version, download)
            try:
                digest = saved_model_digest(saved_model)
            except PublishError as error:
                raise VersionRefused(f"its artifact is no SavedModel: {error}") from error
            if digest != expected:
                raise VersionRefused(
                    f"its artifact has digest {digest}, but was registered with {expected}: "
                    "the artifact store was changed"
                )
            self.beat()
            publish(saved_model, base_path, version.number)

    def _passed(self, name: str, number: int) -> Version:
        """Return the version if it passed the gate."""
        version = self.registry.registered(name, number)
        gate = version.tags.get(GATE_TAG)
        if gate != PASSED:
            reason = f"its tag {GATE_TAG} is {gate!r}" if gate else f"it has no tag {GATE_TAG}"
            raise VersionRefused(f"{reason}; expected {PASSED!r}: only versions that passed the gate are served")
        return version

    def _compare(self, name: str, number: int, golden: Path) -> float:
        """Send the golden requests to the version, and compare the predictions with the stored ones.

        The mask must be the served probability at the threshold, voxel for voxel. So it can only differ from the
        stored model's mask where the probability lies within the tolerance of the threshold.

        Args:
            name: the model.
            number: the version.
            golden: `.npz` with `threshold`, and with `image_N` and `probability_N` for each request.

        Returns:
            The largest difference of a probability.

        Raises:
            VersionRefused: a prediction differs, has another shape, or holds NaN; or the file holds no requests.
            ServerUnavailable, NotServed: the server went away.
        """
        stored = _read(golden)
        requests = sorted(key for key in stored if key.startswith("image_"))
        if not requests or "threshold" not in stored:
            listed = ", ".join(sorted(stored)) or "nothing"
            raise VersionRefused(f"{golden.name} holds no golden requests, only {listed}")
        worst, timeout = 0.0, self.server.timeout
        with SegmentationClient(self.server.address, name, version=number, timeout=timeout, retry_delays=()) as client:
            for request in requests:
                expected = stored.get(request.replace("image", "probability"))
                if expected is None:
                    raise VersionRefused(f"{golden.name} holds no probability for {request}")
                self.beat()
                try:
                    prediction = client.predict(stored[request])
                except (ServerUnavailable, NotServed):
                    raise
                except ServingError as error:
                    raise VersionRefused(f"a golden request failed: {error}") from error
                # NaN must neither get lost here nor pass below.
                worst = float(np.maximum(worst, _difference(request, prediction, expected, stored["threshold"])))
        if not worst <= self.tolerance:
            raise VersionRefused(
                f"the served probabilities differ from the trained model's by up to {worst:.1e} > {self.tolerance:g}"
            )
        return worst


def _read(golden: Path) -> dict[str, NDArray[Any]]:
    try:
        with np.load(golden) as stored:
            return {name: stored[name] for name in stored.files}
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise VersionRefused(f"{golden.name} cannot be read: {error}") from error


def _difference(
    name: str, prediction: Prediction, expected: NDArray[np.float32], threshold: NDArray[np.float32]
) -> float:
    """Return the largest difference of the probabilities; NaN if the prediction holds NaN."""
    probability, mask = prediction.probability, prediction.mask
    if probability.shape != expected.shape or mask.shape != expected.shape:
        raise VersionRefused(
            f"{name}: the server returned probability {probability.shape} and mask {mask.shape}; "
            f"expected {expected.shape}"
        )
    if not np.array_equal(mask, (probability >= threshold).astype(mask.dtype)):
        raise VersionRefused(f"{name}: the served mask is not the served probability at threshold {float(threshold):g}")
    return float(np.abs(probability - expected).max(initial=0.0))
