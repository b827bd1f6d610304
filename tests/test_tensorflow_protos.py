"""The generated classes come without TensorFlow, and bear TensorFlow before or after them in one process."""

from __future__ import annotations

import subprocess
import sys

import pytest

SAME_CLASSES = """
from tensorflow.core.framework import tensor_pb2
from tensorflow.core.protobuf import saved_model_pb2
assert tensor_pb2.TensorProto is protos.tensor_pb2.TensorProto
assert saved_model_pb2.SavedModel is protos.saved_model_pb2.SavedModel
request = protos.predict_pb2.PredictRequest()
request.inputs["image"].CopyFrom(tensorflow.make_tensor_proto([1.0, 2.0]))
assert tensorflow.make_ndarray(request.inputs["image"]).tolist() == [1.0, 2.0]
assert tensorflow.keras.layers.Dense(1) is not None
from tensorflow_serving.apis import predict_pb2
assert predict_pb2.PredictRequest is protos.predict_pb2.PredictRequest
"""


def run(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_importing_protos_leaves_no_trace_of_tensorflow() -> None:
    loaded = run(
        "import sys\nfrom metseg import tensorflow_protos as protos\n"
        "protos.predict_pb2.PredictRequest(), protos.prediction_service_pb2_grpc\n"
        "print([name for name in sys.modules if name.split('.')[0] in ('tensorflow', 'keras', 'numpy')])"
    )
    assert loaded.strip() == "[]"


def test_client_does_not_import_tensorflow() -> None:
    loaded = run(
        "import sys\nimport metseg.serving.client.segmentation_client, metseg.serving.server.model_server\n"
        "print('tensorflow' in sys.modules)"
    )
    assert loaded.strip() == "False"


@pytest.mark.parametrize(
    "imports",
    [
        "from metseg import tensorflow_protos as protos\nimport tensorflow",
        "import tensorflow\nfrom metseg import tensorflow_protos as protos",
    ],
    ids=["protos first", "tensorflow first"],
)
def test_protos_and_tensorflow_share_their_classes(imports: str) -> None:
    run(imports + SAME_CLASSES)
