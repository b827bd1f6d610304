"""The door to serving: gate, digest, publication, loading and examination of one version."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from metseg.errors import PublishError
from metseg.serving.model_config import ServedModel
from metseg.serving.publishing import saved_model_digest
from metseg.serving.reconciliation.connection import ServerConnection, ServerRefusal
from metseg.serving.reconciliation.examination import examine
from metseg.serving.reconciliation.outcome import Refused, Unreachable
from metseg.serving.reconciliation.registry_state import DIGEST_TAG, GATE_TAG, AliasRegistry
from metseg.serving.reconciliation.server_sync import Steering
from metseg.serving.reconciliation.serving_volume import ServingVolume

if TYPE_CHECKING:
    from metseg.tracking.model_registry import Version

LOGGER = logging.getLogger(__name__)

PASSED = "passed"
_FATAL_LOSSES = 2
"""A server that goes away so often while a version is loaded or asked is brought down by that version."""


class Admission:
    """Admits versions of the registry to a server.

    Args:
        registry: where versions, digests and golden requests come from.
        volume: where versions are published.
        server: the server that examines.
        steering: loads versions there.
        tolerance: largest difference of a probability that passes.
        beat: called now and then, to show that this process is alive.
    """

    def __init__(
        self,
        registry: AliasRegistry,
        volume: ServingVolume,
        server: ServerConnection,
        steering: Steering,
        tolerance: float,
        beat: Callable[[], None],
    ) -> None:
        self._registry = registry
        self._volume = volume
        self._server = server
        self._steering = steering
        self._tolerance = tolerance
        self._beat = beat
        self._losses: dict[tuple[str, int], int] = {}

    def admit(self, served: ServedModel, number: int) -> float:
        """Publish, load and examine a version; afterwards the server holds it without a label.

        Args:
            served: what is served of the model so far.
            number: the version.

        Returns:
            The largest difference of a golden answer.

        Raises:
            Refused: the version is not to be served.
            Unreachable: registry or server do not answer.
            PublishError: the disk refuses.
        """
        self._beat()
        version = self._passed(served.name, number)
        if self._losses.get((served.name, number), 0) >= _FATAL_LOSSES:
            del self._losses[served.name, number]
            raise Refused(f"the model server went away {_FATAL_LOSSES} times while this version was loaded or asked")
        self.publish(served, version)
        self._beat()
        with self._volume.download_folder() as folder:
            golden = self._registry.golden(version, folder)
            try:
                if number not in served.versions:
                    self._steering.load(served, number)
                worst = examine(lambda image: self._ask(served.name, number, image), golden, self._tolerance)
            except Unreachable:
                self._losses[served.name, number] = self._losses.get((served.name, number), 0) + 1
                raise
        self._losses.pop((served.name, number), None)
        LOGGER.info("%s version %d examined: golden answers differ by at most %.1e", served.name, number, worst)
        return worst

    def publish(self, served: ServedModel, version: Version) -> None:
        """Have the registered artifact lie in its place, whole, after its digest was found to be the registered one.

        Raises:
            Refused: the digest is another one, or what is served under this number already is something else.
            PublishError: the disk refuses.
        """
        expected = version.tags.get(DIGEST_TAG)
        if expected is None:
            raise Refused(f"it has no tag {DIGEST_TAG}, so that nobody can tell what was registered")
        if version.number in self._volume.published(version.name):
            if self._published_digest(version) == expected:
                return
            if version.number in served.versions:
                raise Refused(
                    f"{self._volume.base(version.name) / str(version.number)} is served with other contents than were "
                    "registered under this number (was the registry made anew?): a version never changes, register "
                    "the model as a new version"
                )
            LOGGER.warning("%s version %d lies there with other contents; removing it", version.name, version.number)
            self._volume.unpublish(version.name, version.number)
        with self._volume.download_folder() as folder:
            saved_model = self._registry.saved_model(version, folder)
            try:
                digest = saved_model_digest(saved_model)
            except PublishError as error:
                raise Refused(f"its artifact is no SavedModel: {error}") from error
            if digest != expected:
                raise Refused(
                    f"its artifact has digest {digest}, but was registered with {expected}: "
                    "the artifact store was changed"
                )
            self._beat()
            self._volume.publish(saved_model, version.name, version.number)

    def _published_digest(self, version: Version) -> str:
        try:
            return self._volume.digest(version.name, version.number)
        except PublishError as error:
            return str(error)

    def _passed(self, name: str, number: int) -> Version:
        version = self._registry.version(name, number)
        if version is None:
            raise Refused("it is not in the registry any more")
        gate = version.tags.get(GATE_TAG)
        if gate != PASSED:
            said = f"its tag {GATE_TAG} is {gate!r}" if gate else f"it has no tag {GATE_TAG}"
            raise Refused(f"{said}; expected {PASSED!r}: only what passed the gate is served")
        return version

    def _ask(self, name: str, number: int, image: Any) -> Any:
        self._beat()
        try:
            return self._server.predict(name, number, image)
        except ServerRefusal as refusal:
            raise Refused(f"the server refuses a golden request ({refusal.code.name}): {refusal}") from refusal
