"""The exported model: its three signatures, what it is made of, and what MLflow answers with it."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import tensorflow as tf

from metseg.imaging.preprocessing.window import volume_window
from metseg.saved_model_digest import saved_model_digest
from metseg.serving.server.flags import ServerOptions
from metseg.serving.server.metrics import Metrics
from metseg.serving.server.saved_model import LoadedModel
from metseg.serving.server.warmup import warm_up
from metseg.training.export import block_slices, export, saved_model_of
from metseg.training.golden_requests import golden_requests, input_example
from metseg.training.model_evaluation import independent_probability, load_network
from metseg.training.network_building import build_network, inference_network, sub_networks
from tests.training.tiny import CONFIGURATION, SIDE, SPECIFICATION


@pytest.fixture(scope="module", params=[0, 1], ids=["2D", "context"])
def exported(request, tmp_path_factory):
    specification = replace(SPECIFICATION, context_slices=request.param)
    configuration = replace(CONFIGURATION, architecture="nested_unet")
    network = inference_network(
        build_network(configuration, specification.network_channels), configuration.inference_head
    )
    folder = tmp_path_factory.mktemp("export") / "model"
    export(folder, network, specification, 0.3, {"channels": list(specification.channels), "threshold": 0.3})
    return folder, specification, tf.saved_model.load(str(saved_model_of(folder)))


@pytest.fixture(scope="module")
def in_mlflow(exported):
    import mlflow

    return mlflow.pyfunc.load_model(str(exported[0]))


@pytest.fixture(scope="module")
def in_session(exported):
    """Session and signatures, as the loader gives them that TF Serving uses."""
    graph = tf.Graph()
    session = tf.compat.v1.Session(graph=graph)
    with graph.as_default():
        loaded = tf.compat.v1.saved_model.load(session, ["serve"], str(saved_model_of(exported[0])))
    yield session, loaded.signature_def
    session.close()


@pytest.mark.parametrize("size", [(1, 32, 32), (9, 45, 37), (17, 64, 71)])
def test_served_graph_equals_the_independent_path(exported, size):
    folder, specification, served = exported
    image = np.random.default_rng(2).gamma(2.0, 200.0, (*size, 3)).astype(np.float32)
    answer = served.signatures["serving_default"](image=tf.constant(image[None]))
    expected = independent_probability(load_network(folder), image, specification)
    np.testing.assert_allclose(answer["probability"].numpy()[0], expected, rtol=0, atol=1e-5)
    np.testing.assert_array_equal(answer["mask"].numpy()[0], expected >= np.float32(0.3))
    assert answer["mask"].dtype == tf.uint8


def test_rows_of_a_batch_do_not_influence_one_another(exported):
    _, _, served = exported
    rows = np.random.default_rng(3).gamma(2.0, 200.0, (2, 3, 40, 33, 3)).astype(np.float32)
    rows[1] *= 7.0
    together = served.signatures["serving_default"](image=tf.constant(rows))["probability"].numpy()
    for row in range(2):
        alone = served.signatures["serving_default"](image=tf.constant(rows[row : row + 1]))["probability"].numpy()
        np.testing.assert_allclose(together[row], alone[0], rtol=0, atol=1e-6)


def test_windowed_chunks_equal_the_whole(exported):
    _, specification, served = exported
    image = np.random.default_rng(4).gamma(2.0, 200.0, (12, 40, 33, 3)).astype(np.float32)
    whole = served.signatures["serving_default"](image=tf.constant(image[None]))["probability"].numpy()[0]
    window = tf.constant(volume_window(image, specification)[None])
    margin = specification.context_slices
    chunk = image[4 - margin : 8 + margin]
    part = served.signatures["windowed"](image=tf.constant(chunk[None]), window=window)["probability"].numpy()[0]
    np.testing.assert_allclose(part[margin : margin + 4], whole[4:8], rtol=0, atol=1e-6)


def test_describe_tells_what_the_model_is(exported):
    _, _, served = exported
    answer = served.signatures["describe"](request=tf.constant([1, 2]))["specification"].numpy()
    assert len(answer) == 2 and json.loads(answer[0]) == {"channels": ["t1n", "t2f", "t1c"], "threshold": 0.3}


def test_graph_holds_core_operations_only(exported):
    folder, _, _ = exported
    from tensorflow.core.protobuf import saved_model_pb2

    model = saved_model_pb2.SavedModel.FromString((saved_model_of(folder) / "saved_model.pb").read_bytes())
    graph = model.meta_graphs[0].graph_def
    nodes = [node.op for node in graph.node] + [node.op for f in graph.library.function for node in f.node_def]
    assert not {op for op in nodes if "PyFunc" in op or op.startswith("Custom")}


@pytest.mark.parametrize("signature", ["serving_default", "windowed"])
def test_exported_model_is_whole_for_the_loader_that_tf_serving_uses(exported, in_session, signature):
    _, specification, served = exported
    session, signatures = in_session
    image = np.random.default_rng(5).gamma(2.0, 200.0, (1, 2, 40, 33, 3)).astype(np.float32)
    inputs = {"image": image, "window": volume_window(image[0], specification)[None]}
    definition = signatures[signature]
    feeds = {info.name: inputs[name] for name, info in definition.inputs.items()}
    probability = session.run(definition.outputs["probability"].name, feeds)
    expected = served.signatures[signature](**{name: tf.constant(inputs[name]) for name in definition.inputs})
    np.testing.assert_array_equal(probability, expected["probability"].numpy())


def test_exported_model_loads_by_mlflow(exported, in_mlflow):
    _, _, served = exported
    image = np.random.default_rng(5).gamma(2.0, 200.0, (1, 2, 40, 33, 3)).astype(np.float32)
    answer = in_mlflow.predict(image)
    expected = served.signatures["serving_default"](image=tf.constant(image))["probability"].numpy()
    np.testing.assert_allclose(answer["probability"], expected, rtol=0, atol=1e-6)


def test_the_input_example_is_answered_by_mlflow_as_it_is_served(exported, in_mlflow):
    folder, specification, served = exported
    example = in_mlflow.input_example
    np.testing.assert_array_equal(example, input_example(specification.channels))
    assert example.dtype == np.float32 and example.shape[:2] == (1, 3)
    answer = in_mlflow.predict(example)
    expected = served.signatures["serving_default"](image=tf.constant(example))
    np.testing.assert_allclose(answer["probability"], expected["probability"].numpy(), rtol=0, atol=1e-6)
    np.testing.assert_array_equal(answer["mask"], expected["mask"].numpy())
    assert sum(path.stat().st_size for path in folder.glob("*input_example.json")) < 1_000_000


@pytest.mark.parametrize("level", [1, 2])
def test_a_sub_network_is_exported_as_the_head_of_the_whole(level, tmp_path):
    configuration = replace(CONFIGURATION, architecture="nested_unet", inference_head=f"L{level}")
    whole = build_network(configuration, 3)
    assert sub_networks(whole) == ["L1", "L2"]
    folder = tmp_path / "model"
    export(folder, inference_network(whole, configuration.inference_head), SPECIFICATION, 0.3, {})
    reloaded = load_network(folder)
    image = np.random.default_rng(6).random((2, SIDE, SIDE, 3)).astype(np.float32)
    np.testing.assert_array_equal(reloaded(image), whole(image)[level - 1])
    if level == 1:
        assert reloaded.count_params() < whole.count_params() / 3
        assert not [layer.name for layer in reloaded.layers if layer.name.startswith("x_0_2")]


def test_golden_requests_are_real_heads_of_two_sizes():
    first, second = golden_requests(("t1n", "t2f", "t1c"))
    assert first.shape[1:3] != second.shape[1:3]
    assert first.dtype == np.float32 and first.shape[-1] == 3
    assert len(np.unique(first)) > 100


REFUSED = {
    "no voxel, and endless": ([1, 1, 2**30, 0, 3], "an image without voxels"),
    "no slice": ([1, 0, 4, 4, 3], "an image without voxels"),
    "rows without end": ([5000, 1, 1, 1, 3], "more than 4096 rows"),
    "a slice too large": ([1, 1, 2049, 2048, 3], "slices of more than 4194304 pixels"),
}


@pytest.mark.parametrize(("shape", "complaint"), REFUSED.values(), ids=REFUSED)
@pytest.mark.parametrize("signature", ["serving_default", "windowed"])
def test_what_cannot_be_segmented_is_refused_before_memory_is_taken(exported, signature, shape, complaint):
    _, _, served = exported
    window = {"window": tf.zeros([1, 3, 2])} if signature == "windowed" else {}
    with pytest.raises(tf.errors.InvalidArgumentError, match=complaint):
        served.signatures[signature](image=tf.zeros(shape), **window)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_values_that_are_no_numbers_are_refused(exported, value):
    _, _, served = exported
    image = np.zeros((1, 1, 4, 4, 3), np.float32)
    window = np.float32([[[0, 1], [0, 1], [0, value]]])
    with pytest.raises(tf.errors.InvalidArgumentError, match="values of window are NaN or infinite"):
        served.signatures["windowed"](image=tf.constant(image), window=tf.constant(window))
    image[0, 0, 1, 2, 1] = value
    with pytest.raises(tf.errors.InvalidArgumentError, match="values of image are NaN or infinite"):
        served.signatures["serving_default"](image=tf.constant(image))


def test_more_descriptions_than_anyone_needs_are_refused(exported):
    _, _, served = exported
    with pytest.raises(tf.errors.InvalidArgumentError, match="more than 4096 descriptions"):
        served.signatures["describe"](request=tf.zeros([2, 2049], tf.int32))


# A slice of 512×512 is the largest of which 8 are preprocessed at once.
@pytest.mark.parametrize(("pixels", "slices"), [(1, 8), (2**18, 8), (2**18 + 1, 4), (2**20, 2), (2**20 + 1, 1)])
def test_blocks_shrink_as_slices_grow_and_stay_powers_of_two(pixels, slices):
    assert block_slices(tf.constant(pixels)).numpy() == slices


def test_a_model_is_exported_with_requests_that_warm_up_what_the_client_asks_for(exported):
    """The file is read with the packages that TF Serving's own clients use."""
    from tensorflow_serving.apis import prediction_log_pb2

    folder, _, served = exported
    file = saved_model_of(folder) / "assets.extra" / "tf_serving_warmup_requests"
    asked = set()
    for record in tf.data.TFRecordDataset(str(file)).as_numpy_iterator():
        log = prediction_log_pb2.PredictionLog.FromString(record)
        assert log.WhichOneof("log_type") == "predict_log"
        request = log.predict_log.request
        signature, outputs = request.model_spec.signature_name, tuple(request.output_filter)
        inputs = {name: tf.constant(tf.make_ndarray(proto)) for name, proto in request.inputs.items()}
        answer = served.signatures[signature](**inputs)
        assert set(outputs) <= set(answer)
        asked.add((signature, outputs))
    assert asked == {
        ("serving_default", ()),
        ("serving_default", ("probability",)),
        ("windowed", ("probability",)),
        ("describe", ()),
    }
    assert file.stat().st_size < 3_000_000


@pytest.mark.parametrize("exported", [1], indirect=True, ids=["context"])
def test_the_requests_belong_to_the_digest_and_are_run_when_the_version_is_loaded(exported, tmp_path, caplog):
    folder, _, _ = exported
    caplog.set_level("INFO", "metseg.serving")
    version = tmp_path / "1"
    shutil.copytree(saved_model_of(folder), version)
    options = ServerOptions(model_base_path=str(tmp_path))
    model = LoadedModel(version, options)
    warm_up(model, version, 1, Metrics())
    model.close()
    assert "ran 4 warm-up requests" in caplog.text
    whole = saved_model_digest(version)
    (version / "assets.extra" / "tf_serving_warmup_requests").unlink()
    assert saved_model_digest(version) != whole
