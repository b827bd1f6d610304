"""A client of a model server, be it TF Serving or the embedded one; it needs no TensorFlow."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from metseg.errors import NotServed, ServingError, UsageError
from metseg.imaging.geometry import Geometry
from metseg.imaging.preprocessing.specification import PreprocessingSpecification
from metseg.imaging.preprocessing.window import volume_window
from metseg.serving import DEFAULT_MODEL_NAME, DEFAULT_PORT
from metseg.serving.client.channel import RETRY_DELAYS, Tls
from metseg.serving.client.chunks import Chunk, chunks_of
from metseg.serving.client.model_client import DESCRIBE_SIGNATURE, ModelClient, VersionStatus
from metseg.tensorflow_protos import model_pb2

if TYPE_CHECKING:
    from metseg.scoring.lesion_table import LesionRow

__all__ = [
    "DESCRIBE_SIGNATURE",
    "RETRY_DELAYS",
    "Prediction",
    "Segmentation",
    "SegmentationClient",
    "Tls",
    "VersionStatus",
]

PREDICT_SIGNATURE = "serving_default"
WINDOWED_SIGNATURE = "windowed"
CHUNK_BYTES = 64 << 20
"""Most voxels, in bytes, of one request: 97 slices of 240×240 with three channels."""

OUTPUTS: dict[str, np.dtype[Any]] = {"probability": np.dtype(np.float32), "mask": np.dtype(np.uint8)}

Result = TypeVar("Result")
Report = Callable[[int, int], None]
"""Told after every request how many slices are done, of how many."""


@dataclass(frozen=True)
class Prediction:
    """The answer for one volume.

    Attributes:
        probability: float32 `(slices, height, width)`, 0 to 1.
        mask: uint8 `(slices, height, width)`, 1 where the probability reaches the model's threshold.
        version: the model version that answered.
    """

    probability: NDArray[np.float32]
    mask: NDArray[np.uint8]
    version: int


@dataclass(frozen=True)
class Segmentation:
    """What a model finds in one volume, on the volume's own grid.

    Attributes:
        mask: uint8 `(slices, height, width)`, 1 in lesions of at least the model's minimum volume.
        probability: float32 `(slices, height, width)`, 0 to 1.
        lesions: a row each, largest first, with centroid in LPS millimetres.
        voxels_at_threshold: voxels that reach the threshold, those of smaller lesions too.
        version: the model version that answered.
        description: what that version says of itself: channels, threshold, minimum volume, preprocessing.
    """

    mask: NDArray[np.uint8]
    probability: NDArray[np.float32]
    lesions: tuple[LesionRow, ...]
    voxels_at_threshold: int
    version: int
    description: dict[str, Any]


class SegmentationClient(ModelClient):
    """Asks one model of one server, by default for the version that the server calls the latest.

    It may be used by several threads at once.

    Args:
        address: `host:port` of the gRPC API.
        model_name: the model, as the server knows it.
        label: ask for the version under this label (`stable`, `canary`).
        version: ask for this version; not together with `label`.
        timeout: seconds for one call, its repetitions included.
        tls: speak TLS; None speaks plain HTTP/2.
        chunk_bytes: a volume with more bytes of float32 voxels goes in several requests.

    Example:
        with SegmentationClient(label="stable") as client:
            found = client.segment(image, geometry)
    """

    def __init__(
        self,
        address: str = f"127.0.0.1:{DEFAULT_PORT}",
        model_name: str = DEFAULT_MODEL_NAME,
        label: str | None = None,
        version: int | None = None,
        timeout: float = 600.0,
        tls: Tls | None = None,
        chunk_bytes: int = CHUNK_BYTES,
    ) -> None:
        super().__init__(address, model_name, label, version, timeout, tls)
        if chunk_bytes <= 0:
            raise UsageError(f"chunk_bytes is {chunk_bytes}; expected more than 0")
        self._chunk_bytes = chunk_bytes

    def predict(self, image: NDArray[Any]) -> Prediction:
        """The model's bare answer on one volume; `segment` drops what is too small and lists the lesions.

        Args:
            image: raw intensities `(slices, height, width, channels)`, any real dtype, sent as float32; channels in the
                order that `describe` gives.

        Raises:
            ServingError: when the image has another rank, no server answers, or it refuses the request.
        """
        volume = _volume(image)
        if volume.shape[0] * _slice_bytes(volume) <= self._chunk_bytes:
            answer, version = self._ask(self._model_spec, PREDICT_SIGNATURE, {"image": volume}, tuple(OUTPUTS))
            return Prediction(answer["probability"], answer["mask"], version)
        return self._on_one_version(
            lambda spec, description, version: Prediction(
                **self._answer(spec, description, volume, tuple(OUTPUTS), None),  # type: ignore[arg-type]
                version=version,
            )
        )

    def segment(
        self, image: NDArray[Any], geometry: Geometry | None = None, report: Report | None = None
    ) -> Segmentation:
        """Find the lesions of one volume.

        All requests for one volume ask the same version, whatever becomes of the label meanwhile.

        Args:
            image: as for `predict`.
            geometry: where the volume lies: the minimum lesion volume and the table of lesions are in its millimetres;
                None counts voxels.
            report: told of every request that was answered.

        Raises:
            ServingError: as for `predict`; or the model was not exported by metseg.
        """
        from metseg.scoring.lesion_table import lesion_table
        from metseg.scoring.operating_point import apply

        volume = _volume(image)
        place = geometry or Geometry.unknown()

        def answered(spec: Any, description: dict[str, Any], version: int) -> Segmentation:
            threshold, least = self._field(description, "threshold"), self._field(description, "minimum_volume_mm3")
            probability = self._answer(spec, description, volume, ("probability",), report)["probability"]
            mask = apply(probability, threshold, least, place.spacing)
            return Segmentation(
                mask=mask.astype(np.uint8),
                probability=probability,
                lesions=tuple(lesion_table(mask, probability, place)),
                voxels_at_threshold=int((probability >= np.float32(threshold)).sum()),
                version=version,
                description=description,
            )

        return self._on_one_version(answered)

    def _on_one_version(self, ask: Callable[[Any, dict[str, Any], int], Result]) -> Result:
        """What `ask` makes of the version that is asked for; once again where it was unloaded under way."""
        for last in (False, True):
            description, version = self._describe()
            spec = model_pb2.ModelSpec(name=self._model_spec.name)
            spec.version.value = version
            try:
                return ask(spec, description, version)
            except NotServed:
                if last:
                    raise
        raise AssertionError("the last try returns or raises")

    def _answer(
        self,
        spec: Any,
        description: dict[str, Any],
        volume: NDArray[np.float32],
        outputs: tuple[str, ...],
        report: Report | None,
    ) -> dict[str, NDArray[Any]]:
        """The model's outputs for a whole volume, in one request where it fits, else in overlapping chunks."""
        specification = self._specification(description)
        self._require_channels(volume, specification)
        slices = volume.shape[0]
        chunks = chunks_of(slices, _slice_bytes(volume), specification.context_slices, self._chunk_bytes)
        if len(chunks) == 1:
            answer, _ = self._ask(spec, PREDICT_SIGNATURE, {"image": volume}, outputs)
            if report is not None:
                report(slices, slices)
            return answer
        window = volume_window(volume, specification)
        whole = {name: np.empty(volume.shape[:3], OUTPUTS[name]) for name in outputs}
        for chunk in chunks:
            self._ask_chunk(spec, chunk, volume, window, whole)
            if report is not None:
                report(chunk.last, slices)
        return whole

    def _ask_chunk(
        self,
        spec: Any,
        chunk: Chunk,
        volume: NDArray[np.float32],
        window: NDArray[np.float32],
        whole: dict[str, NDArray[Any]],
    ) -> None:
        inputs = {"image": volume[chunk.start : chunk.stop], "window": window}
        answer, _ = self._ask(spec, WINDOWED_SIGNATURE, inputs, tuple(whole))
        for name, array in answer.items():
            whole[name][chunk.first : chunk.last] = array[chunk.kept]

    def _ask(
        self, spec: Any, signature: str, inputs: dict[str, NDArray[Any]], outputs: tuple[str, ...]
    ) -> tuple[dict[str, NDArray[Any]], int]:
        """Outputs for one batch row, and the version that gave them."""
        rows = {name: array[np.newaxis] for name, array in inputs.items()}
        answered, tensors = self._run(spec, signature, rows, outputs if len(outputs) < len(OUTPUTS) else ())
        shape = inputs["image"].shape[:3]
        answer = {name: self._output(tensors, name, OUTPUTS[name], shape) for name in outputs}
        return answer, int(answered.version.value)

    def _specification(self, description: dict[str, Any]) -> PreprocessingSpecification:
        try:
            return PreprocessingSpecification.from_json(json.dumps(self._field(description, "preprocessing")))
        except (KeyError, TypeError) as error:
            raise ServingError(
                f"{self._named} describes its preprocessing in a way that this client does not know ({error}): it was "
                "exported by another version of metseg"
            ) from error

    def _require_channels(self, volume: NDArray[np.float32], specification: PreprocessingSpecification) -> None:
        if volume.shape[-1] != len(specification.channels):
            raise ServingError(
                f"the image has {volume.shape[-1]} channel(s); {self._named} takes {len(specification.channels)}, in "
                f"this order: {', '.join(specification.channels)}"
            )

    def _field(self, description: dict[str, Any], name: str) -> Any:
        if name not in description:
            raise ServingError(
                f"{self._named} does not say its {name}, only {', '.join(sorted(description))}; "
                "expected a model exported by metseg"
            )
        return description[name]


def _volume(image: NDArray[Any]) -> NDArray[np.float32]:
    """The image as it is sent; raises ServingError where it is no volume with channels."""
    if image.ndim != 4 or 0 in image.shape:
        raise ServingError(
            f"the image has shape {image.shape}; expected (slices, height, width, channels), none of them 0: "
            "give a single picture a first axis of length 1"
        )
    return np.asarray(image).astype(np.float32, copy=False)


def _slice_bytes(volume: NDArray[np.float32]) -> int:
    """Bytes of one slice on the wire: as it is sent, or as it is answered, whichever is more."""
    _, height, width, channels = volume.shape
    widest = max(4 * channels, sum(dtype.itemsize for dtype in OUTPUTS.values()))
    return int(height * width * widest)
