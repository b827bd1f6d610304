"""A SavedModel in memory: its signatures, and runs of them.

It is loaded as TF Serving loads it: the graph into a session of its own, filled by the graph's own restore operation,
and run by the names of tensors. So a model that TF Serving could not serve is not served here either, a run stops at
its deadline, and only the requested outputs are computed. TensorFlow is imported when the first model is loaded.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc
import numpy as np
from google.protobuf.message import DecodeError
from numpy.typing import NDArray

from metseg.quiet_tensorflow import import_tensorflow
from metseg.saved_model_digest import SAVED_MODEL_FILE
from metseg.serving.model_config import read_message
from metseg.serving.server.flags import ServerOptions
from metseg.serving.server.status import StatusError, invalid_argument, not_found
from metseg.tensorflow_protos import saved_model_pb2

if TYPE_CHECKING:
    import tensorflow as tf
    from tensorflow.core.protobuf.meta_graph_pb2 import SignatureDef

_CODES = {code.value[0]: code for code in grpc.StatusCode}
_MILLISECONDS = 1000
_ALIGNMENT = 64
"""EIGEN_MAX_ALIGN_BYTES on any processor."""
_SMALLEST_ALIGNED = 2**16


class LoadedModel:
    """A SavedModel loaded for serving; `close` gives its memory back.

    Attributes:
        signatures: SignatureDef of each signature, as in the SavedModel.
    """

    def __init__(self, path: Path, options: ServerOptions) -> None:
        """Load a version's folder; raises StatusError with the code and text of the failure."""
        tags = options.saved_model_tags.split(",")
        self.signatures: Mapping[str, SignatureDef] = _read_signatures(path, tags)
        import_tensorflow()
        import tensorflow as tf

        graph = tf.Graph()
        self._session = tf.compat.v1.Session(graph=graph, config=session_config(options))
        try:
            with graph.as_default(), _without_deprecation_warnings():
                self._inputs = self._free_inputs()
                tf.compat.v1.saved_model.load(self._session, tags, str(path), input_map=self._inputs)
            graph.finalize()
        except tf.errors.OpError as error:
            self.close()
            raise _status_error(error) from error
        except (OSError, RuntimeError, TypeError, ValueError, KeyError, AttributeError) as error:
            self.close()
            raise StatusError(grpc.StatusCode.INTERNAL, f"{path}: the SavedModel cannot be loaded: {error}") from error

    def _free_inputs(self) -> dict[str, tf.Tensor]:
        """Return a placeholder of any shape for each input, by tensor name.

        TF Serving feeds any shape, and an operation fails; Python's session would fail first, with another text.
        """
        import tensorflow as tf

        infos = {info.name: info for signature in self.signatures.values() for info in signature.inputs.values()}
        return {name: tf.compat.v1.placeholder(tf.dtypes.as_dtype(info.dtype)) for name, info in infos.items()}

    def close(self) -> None:
        """Free the memory of the weights; active runs are cancelled."""
        self._session.close()

    def run(
        self, signature: str, inputs: Mapping[str, NDArray[Any]], outputs: Sequence[str], seconds: float | None = None
    ) -> dict[str, NDArray[Any]]:
        """Compute outputs of a signature, by name.

        Args:
            signature: a key of `signatures`.
            inputs: an array for every input, of the signature's dtype.
            outputs: the outputs to compute.
            seconds: time limit; None: no limit.

        Raises:
            StatusError: with TensorFlow's own code and message, DEADLINE_EXCEEDED after the time limit;
                INVALID_ARGUMENT if the arrays do not fit the signature.
        """
        import tensorflow as tf

        definition = self.signatures[signature]
        feeds = {self._inputs[definition.inputs[name].name]: _aligned(array) for name, array in inputs.items()}
        fetches = [definition.outputs[name].name for name in outputs]
        run_options = None
        if seconds is not None:
            run_options = tf.compat.v1.RunOptions(timeout_in_ms=max(1, round(seconds * _MILLISECONDS)))
        try:
            computed = self._session.run(fetches, feeds, options=run_options)
        except tf.errors.OpError as error:
            raise _status_error(error) from error
        except RuntimeError as error:  # the session is closed: its version was unloaded
            raise StatusError(grpc.StatusCode.UNAVAILABLE, str(error)) from error
        except (TypeError, ValueError) as error:
            raise invalid_argument(str(error)) from error
        return {name: _array(value) for name, value in zip(outputs, computed, strict=True)}


def session_config(options: ServerOptions) -> Any:
    """Return TensorFlow's ConfigProto from the flags; raises UsageError for an invalid file."""
    import tensorflow as tf
    from tensorflow.core.protobuf import rewriter_config_pb2

    config = tf.compat.v1.ConfigProto()
    config.experimental.disable_thread_spinning = True
    # A second pass over the graph brings no measurable speed and takes a quarter of the first request's time.
    config.graph_options.rewrite_options.meta_optimizer_iterations = rewriter_config_pb2.RewriterConfig.ONE
    if options.tensorflow_session_config_file:
        read_message(Path(options.tensorflow_session_config_file), config)
    both = options.tensorflow_session_parallelism
    if intra := options.tensorflow_intra_op_parallelism or both:
        config.intra_op_parallelism_threads = intra
    if inter := options.tensorflow_inter_op_parallelism or both:
        config.inter_op_parallelism_threads = inter
    if options.per_process_gpu_memory_fraction:
        config.gpu_options.per_process_gpu_memory_fraction = options.per_process_gpu_memory_fraction
    return config


@contextmanager
def _without_deprecation_warnings() -> Iterator[None]:
    """Silence the warning about the TensorFlow 1 loader, which TF Serving mirrors in C++."""
    logger = logging.getLogger("tensorflow")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(before)


def _read_signatures(path: Path, tags: Sequence[str]) -> dict[str, SignatureDef]:
    file = path / SAVED_MODEL_FILE
    try:
        saved_model = saved_model_pb2.SavedModel.FromString(file.read_bytes())
    except OSError as error:
        raise not_found(f"Could not find SavedModel .pb at supplied export directory path: {path} ({error})") from error
    except DecodeError as error:
        raise StatusError(grpc.StatusCode.DATA_LOSS, f"{file}: not a SavedModel: {error}") from error
    for graph in saved_model.meta_graphs:
        if set(graph.meta_info_def.tags) == set(tags):
            return dict(graph.signature_def)
    raise not_found(f"Could not find meta graph def matching supplied tags: {{ {' '.join(tags)} }} in {file}")


def _status_error(error: Any) -> StatusError:
    """Return TF Serving's status; TensorFlow's own message is in the error's context."""
    own = getattr(error.__context__, "message", None) or error.message or str(error)
    return StatusError(_CODES.get(error.error_code, grpc.StatusCode.UNKNOWN), own)


def _aligned(array: NDArray[Any]) -> NDArray[Any]:
    """Return the array aligned in memory; TensorFlow copies others twice."""
    if array.dtype == object or array.nbytes < _SMALLEST_ALIGNED or array.ctypes.data % _ALIGNMENT == 0:
        return array
    buffer = np.empty(array.nbytes + _ALIGNMENT, dtype=np.uint8)
    start = -buffer.ctypes.data % _ALIGNMENT
    copy = buffer[start : start + array.nbytes].view(array.dtype).reshape(array.shape)
    copy[...] = array
    return copy


def _array(value: Any) -> NDArray[Any]:
    return np.asarray(value, dtype=object) if isinstance(value, bytes) else np.asarray(value)
