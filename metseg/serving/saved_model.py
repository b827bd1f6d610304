"""A SavedModel in memory: its signatures as TF Serving shows them, and running one of them.

The only file of the server that uses TensorFlow, which it imports when the first model is loaded.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import grpc
import numpy as np
from numpy.typing import NDArray

from metseg.serving.protos import saved_model_pb2
from metseg.serving.refusal import Refusal, invalid_argument, not_found

SAVED_MODEL_FILE = "saved_model.pb"
SERVING_TAG = "serve"

_CODES = {code.value[0]: code for code in grpc.StatusCode}


class LoadedModel:
    """A SavedModel loaded for serving.

    Attributes:
        signatures: SignatureDef of each signature, as written in the SavedModel.
    """

    def __init__(self, path: Path) -> None:
        """Load a version's folder; raises Refusal with the code and text of the failure."""
        self.signatures: Mapping[str, Any] = _read_signatures(path)
        import tensorflow as tf

        try:
            self._model = tf.saved_model.load(str(path))
        except tf.errors.OpError as error:
            raise _refusal(error) from error
        except (OSError, TypeError, ValueError, KeyError, AttributeError) as error:
            raise Refusal(grpc.StatusCode.INTERNAL, f"{path}: the SavedModel cannot be loaded: {error}") from error

    def run(self, signature: str, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """All outputs of a signature by name.

        Args:
            signature: a key of `signatures`.
            inputs: an array for every input, of the dtype that the signature asks for.

        Raises:
            Refusal: with TensorFlow's own code and message; INVALID_ARGUMENT when the arrays do not fit the signature.
        """
        import tensorflow as tf

        definition = self.signatures[signature]
        try:
            tensors = {
                name: tf.constant(array, dtype=tf.dtypes.as_dtype(definition.inputs[name].dtype))
                for name, array in inputs.items()
            }
            outputs = self._model.signatures[signature](**tensors)
        except tf.errors.OpError as error:
            raise _refusal(error) from error
        except (TypeError, ValueError) as error:
            raise invalid_argument(str(error)) from error
        return {name: _array(tensor.numpy()) for name, tensor in outputs.items()}


def _read_signatures(path: Path) -> dict[str, Any]:
    file = path / SAVED_MODEL_FILE
    try:
        saved_model = saved_model_pb2.SavedModel.FromString(file.read_bytes())
    except OSError as error:
        raise not_found(f"Could not find SavedModel .pb at supplied export directory path: {path} ({error})") from error
    except ValueError as error:  # protobuf's DecodeError is one
        raise Refusal(grpc.StatusCode.DATA_LOSS, f"{file}: not a SavedModel: {error}") from error
    for graph in saved_model.meta_graphs:
        if SERVING_TAG in graph.meta_info_def.tags:
            return dict(graph.signature_def)
    raise not_found(f"Could not find meta graph def matching supplied tags: {{ {SERVING_TAG} }} in {file}")


def _refusal(error: Any) -> Refusal:
    return Refusal(_CODES.get(error.error_code, grpc.StatusCode.UNKNOWN), error.message or str(error))


def _array(value: Any) -> NDArray[Any]:
    return np.asarray(value, dtype=object) if isinstance(value, bytes) else np.asarray(value)
