"""The client of one segmentation model of a model server: lesions of a volume.

A large volume goes in requests of bounded size (chunks), whose outputs together equal those of one request, bit for
bit. The served graph takes slices through the network in blocks. A chunk begins at a block of the whole volume, so
every slice is computed in the same block as in one request. Only the neighbours of a chunk's outermost slices differ,
and those slices are taken from the adjacent chunk.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from metseg.errors import NotServed, ServingError, UsageError
from metseg.imaging.geometry import Geometry
from metseg.imaging.preprocessing.specification import PreprocessingSpecification
from metseg.imaging.preprocessing.window import volume_window
from metseg.serving.client.channel import RETRY_DELAYS, Tls
from metseg.serving.client.model_client import ModelClient
from metseg.serving.client.model_description import ModelDescription
from metseg.serving.codec.tensor_proto import ReceivedTensor
from metseg.serving_defaults import MODEL_NAME, MODEL_SERVER
from metseg.tensorflow_protos import model_pb2

if TYPE_CHECKING:
    from metseg.scoring.lesion_table import LesionRow

DESCRIBE_SIGNATURE = "describe"
PREDICT_SIGNATURE = "serving_default"
WINDOWED_SIGNATURE = "windowed"
CHUNK_BYTES = 64 << 20
"""Most voxels, in bytes, of one request: 97 slices of 240×240 with three channels."""

OUTPUTS: dict[str, np.dtype[Any]] = {"probability": np.dtype(np.float32), "mask": np.dtype(np.uint8)}

BLOCK = 8
"""Slices that the exported graph takes through the network at once (`metseg.training.loop.INFERENCE_BLOCK`)."""

Arrays = dict[str, NDArray[Any]]
Result = TypeVar("Result")
Report = Callable[[int, int], None]
"""Called after every request with the number of finished slices and of all slices."""


@dataclass(frozen=True)
class Prediction:
    """Raw output of a model for one volume.

    Attributes:
        probability: float32 `(slices, height, width)`, 0 to 1.
        mask: uint8 `(slices, height, width)`, 1 where the probability reaches the model's threshold.
        version: the model version that computed it.
    """

    probability: NDArray[np.float32]
    mask: NDArray[np.uint8]
    version: int


@dataclass(frozen=True)
class Segmentation:
    """Lesions of one volume, on the volume's own grid.

    Attributes:
        mask: uint8 `(slices, height, width)`, 1 in lesions of at least the model's minimum volume.
        probability: float32 `(slices, height, width)`, 0 to 1.
        lesions: a row each, largest first, with centroid in LPS millimetres.
        voxels_at_threshold: voxels that reach the threshold, those of smaller lesions included.
        version: the model version that computed it.
        description: specification of that version.
    """

    mask: NDArray[np.uint8]
    probability: NDArray[np.float32]
    lesions: tuple[LesionRow, ...]
    voxels_at_threshold: int
    version: int
    description: ModelDescription


class SegmentationClient(ModelClient):
    """Client of one model on one server; threads may share it.

    Args:
        address: `host:port` of the gRPC API.
        model_name: the model, as the server names it.
        label: request the version under this label (`stable`, `canary`); None: the latest version.
        version: request this version; not together with `label`.
        timeout: seconds for one call, retries included.
        tls: certificates for TLS; None: plain HTTP/2.
        chunk_bytes: a volume with more bytes of float32 voxels is sent in several requests.
        retry_delays: seconds before each retry of a call that found no server, or a server without room.

    Raises:
        UsageError: both `label` and `version` are given, or a number is not positive.

    Example:
        >>> import numpy as np
        >>> volume = np.zeros((155, 240, 240, 3), np.int16)
        >>> with SegmentationClient("127.0.0.1:1", label="stable", retry_delays=()) as client:  # doctest: +ELLIPSIS
        ...     mask = client.segment(volume).mask
        Traceback (most recent call last):
        metseg.errors.ServerUnavailable: no model server responds at 127.0.0.1:1: start one with `metseg serve`, ...
    """

    def __init__(
        self,
        address: str = MODEL_SERVER,
        model_name: str = MODEL_NAME,
        label: str | None = None,
        version: int | None = None,
        timeout: float = 600.0,
        tls: Tls | None = None,
        *,
        chunk_bytes: int = CHUNK_BYTES,
        retry_delays: Sequence[float] = RETRY_DELAYS,
    ) -> None:
        if label is not None and version is not None:
            raise UsageError(f"label {label} and version {version} are both given; a request names one of them")
        if chunk_bytes < 1:
            raise UsageError(f"chunk_bytes is {chunk_bytes}; expected more than 0")
        super().__init__(address, timeout, tls, retry_delays)
        self._chunk_bytes = chunk_bytes
        self._model_spec = model_pb2.ModelSpec(name=model_name)
        if version is not None:
            self._model_spec.version.value = version
        elif label is not None:
            self._model_spec.version_label = label

    def describe(self) -> ModelDescription:
        """Return the model's specification; raises ServingError without one, or without a server."""
        return self._describe()[0]

    def answering_version(self) -> int:
        """Return the version that this client's requests reach; raises ServingError if there is none."""
        return self._describe()[1]

    def predict(self, image: NDArray[Any]) -> Prediction:
        """Return the model's raw output for one volume, with lesions of any size.

        Args:
            image: raw intensities `(slices, height, width, channels)`, any real dtype, sent as float32; channels in the
                order of the model's description.

        Raises:
            ServingError: the image has another rank, no server responds, or it refuses the request.
        """
        volume = _volume(image)
        if volume.shape[0] * _slice_bytes(volume) <= self._chunk_bytes:
            arrays, version = self._request(self._model_spec, PREDICT_SIGNATURE, {"image": volume}, tuple(OUTPUTS))
            return Prediction(arrays["probability"], arrays["mask"], version)

        def predicted(spec: Any, description: ModelDescription, version: int) -> Prediction:
            arrays = self._outputs(spec, description.preprocessing, volume, tuple(OUTPUTS))
            return Prediction(arrays["probability"], arrays["mask"], version)

        return self._on_one_version(predicted)

    def segment(
        self, image: NDArray[Any], geometry: Geometry | None = None, report: Report = lambda done, total: None
    ) -> Segmentation:
        """Segment the lesions of one volume by one version, even if the label moves meanwhile.

        Args:
            image: as for `predict`.
            geometry: of the volume, for the minimum lesion volume and the lesion table in millimetres; None: voxels.
            report: called after every request.

        Raises:
            ServingError: as for `predict`; or the model was not exported by metseg.
        """
        from metseg.scoring.lesion_table import lesion_table
        from metseg.scoring.operating_point import apply

        volume = _volume(image)
        place = geometry or Geometry.unknown()

        def segmented(spec: Any, description: ModelDescription, version: int) -> Segmentation:
            threshold, least = description.threshold, description.minimum_volume_mm3
            preprocessing = description.preprocessing
            probability = self._outputs(spec, preprocessing, volume, ("probability",), report)["probability"]
            mask = apply(probability, threshold, least, place.spacing)
            return Segmentation(
                mask=mask.astype(np.uint8),
                probability=probability,
                lesions=tuple(lesion_table(mask, probability, place)),
                voxels_at_threshold=int((probability >= np.float32(threshold)).sum()),
                version=version,
                description=description,
            )

        return self._on_one_version(segmented)

    def _describe(self) -> tuple[ModelDescription, int]:
        """Return the specification of the requested version, and its number."""
        signatures = self._signatures(self._model_spec)
        if DESCRIBE_SIGNATURE not in signatures:
            raise ServingError(
                f"{self._named} has no signature {DESCRIBE_SIGNATURE}, only {', '.join(sorted(signatures))}; "
                "expected a model exported by metseg"
            )
        signature = signatures[DESCRIBE_SIGNATURE]
        request = {min(signature.inputs): np.zeros(1, dtype=np.int32)}
        version, tensors = self._run(self._model_spec, DESCRIBE_SIGNATURE, request, ())
        text = tensors[min(signature.outputs)].array().ravel()[0]
        return ModelDescription.parse(self._named, text), version

    def _on_one_version(self, compute: Callable[[Any, ModelDescription, int], Result]) -> Result:
        """Return the result of `compute` for the requested version; retry once if it is unloaded."""
        for last in (False, True):
            description, version = self._describe()
            spec = model_pb2.ModelSpec(name=self._model_spec.name)
            spec.version.value = version
            try:
                return compute(spec, description, version)
            except NotServed:
                if last:
                    raise
        raise AssertionError("the last try returns or raises")

    def _outputs(
        self,
        spec: Any,
        preprocessing: PreprocessingSpecification,
        volume: NDArray[np.float32],
        outputs: tuple[str, ...],
        report: Report = lambda done, total: None,
    ) -> Arrays:
        """Return the outputs for a whole volume, by one request or by overlapping chunks."""
        slices, channels = volume.shape[0], preprocessing.channels
        if volume.shape[-1] != len(channels):
            raise ServingError(
                f"the image has {volume.shape[-1]} channel(s); {self._named} takes {len(channels)}, in this order: "
                f"{', '.join(channels)}"
            )
        chunks = chunks_of(slices, _slice_bytes(volume), preprocessing.context_slices, self._chunk_bytes)
        if len(chunks) == 1:
            arrays, _ = self._request(spec, PREDICT_SIGNATURE, {"image": volume}, outputs)
            report(slices, slices)
            return arrays
        window = volume_window(volume, preprocessing)
        whole = {name: np.empty(volume.shape[:3], OUTPUTS[name]) for name in outputs}
        for chunk in chunks:
            self._request_chunk(spec, chunk, volume, window, whole)
            report(chunk.last, slices)
        return whole

    def _request_chunk(
        self, spec: Any, chunk: Chunk, volume: NDArray[np.float32], window: NDArray[np.float32], whole: Arrays
    ) -> None:
        """Write the outputs of one chunk into those of the whole volume."""
        inputs = {"image": volume[chunk.start : chunk.stop], "window": window}
        arrays, _ = self._request(spec, WINDOWED_SIGNATURE, inputs, tuple(whole))
        for name, array in arrays.items():
            whole[name][chunk.first : chunk.last] = array[chunk.inner]

    def _request(
        self, spec: Any, signature: str, inputs: Mapping[str, NDArray[Any]], outputs: tuple[str, ...]
    ) -> tuple[Arrays, int]:
        """Return the outputs of a batch of one volume, and the version that computed them."""
        batch = {name: array[np.newaxis] for name, array in inputs.items()}
        version, tensors = self._run(spec, signature, batch, outputs if len(outputs) < len(OUTPUTS) else ())
        shape = inputs["image"].shape[:3]
        return {name: self._output(tensors, name, shape) for name in outputs}, version

    def _output(self, tensors: Mapping[str, ReceivedTensor], name: str, shape: tuple[int, ...]) -> NDArray[Any]:
        if name not in tensors:
            raise ServingError(f"{self._named} returned no {name}, only {', '.join(sorted(tensors))}")
        array, dtype = tensors[name].array(), OUTPUTS[name]
        if array.dtype != dtype or array.shape != (1, *shape):
            raise ServingError(
                f"{self._named} returned {name} as {array.dtype} {array.shape}; expected {dtype} {(1, *shape)}"
            )
        return array.reshape(shape)

    @property
    def _named(self) -> str:
        return self._target(self._model_spec)


def _volume(image: NDArray[Any]) -> NDArray[np.float32]:
    """Return the image as float32; raises ServingError if it is no volume with channels."""
    if image.ndim != 4 or 0 in image.shape:
        raise ServingError(
            f"the image has shape {image.shape}; expected (slices, height, width, channels), none of them 0: "
            "give a single picture a first axis of length 1"
        )
    return np.asarray(image).astype(np.float32, copy=False)


def _slice_bytes(volume: NDArray[np.float32]) -> int:
    """Return the bytes of one slice in a request or its response, if larger."""
    _, height, width, channels = volume.shape
    widest = max(4 * channels, sum(dtype.itemsize for dtype in OUTPUTS.values()))
    return int(height * width * widest)


@dataclass(frozen=True)
class Chunk:
    """Part of a volume in one request; ends are exclusive.

    Attributes:
        start, stop: slices that are sent.
        first, last: slices of which the outputs are used.
    """

    start: int
    stop: int
    first: int
    last: int

    @property
    def inner(self) -> slice:
        """Place of the used slices within the chunk."""
        return slice(self.first - self.start, self.last - self.start)


def chunks_of(slices: int, slice_bytes: int, context: int, limit: int) -> list[Chunk]:
    """Cut a volume into chunks of at most `limit` bytes, if that is possible.

    Args:
        slices: of the volume.
        slice_bytes: bytes of one slice as it is sent.
        context: neighbours on either side of a slice that the network sees with it.
        limit: most bytes of a chunk, unless the fewest slices that a chunk can have take more.

    Returns:
        Chunks whose used slices are the volume, each once, in order. They overlap by at least twice the context.

    Example:
        >>> chunks_of(slices=20, slice_bytes=100, context=1, limit=1600)
        [Chunk(start=0, stop=16, first=0, last=15), Chunk(start=8, stop=20, first=15, last=20)]
    """
    if slices * slice_bytes <= limit:
        return [Chunk(0, slices, 0, slices)]
    overlap = -(-2 * context // BLOCK) * BLOCK
    length = max(limit // slice_bytes // BLOCK * BLOCK, overlap + BLOCK)
    chunks: list[Chunk] = []
    start, first = 0, 0
    while start + length < slices:
        last = start + length - context
        chunks.append(Chunk(start, start + length, first, last))
        start, first = start + length - overlap, last
    return [*chunks, Chunk(start, slices, first, slices)]
