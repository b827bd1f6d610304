"""One answer out of several heads, and the exported graph."""

from __future__ import annotations

import keras
import numpy as np
import pytest

import models


@pytest.fixture
def nested() -> keras.Model:
    keras.utils.set_random_seed(0)
    return models.build("nested_unet", channels=2, filters=4, depth=3, prior=0.3)


def image(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).random(shape).astype(np.float32)


def test_last_and_average_are_taken_from_the_heads(nested):
    x = image(2, 21, 30, 2)
    heads = [np.asarray(head) for head in nested(x)]
    assert len(heads) == 3
    np.testing.assert_array_equal(np.asarray(models.inference_model(nested)(x)), heads[-1])
    average = np.asarray(models.inference_model(nested, "average")(x))
    np.testing.assert_allclose(average, np.mean(heads, axis=0), rtol=1e-6)
    assert np.abs(average - heads[-1]).max() > 1e-3


@pytest.mark.parametrize("inference_head", models.INFERENCE_HEADS)
def test_a_reloaded_training_network_gives_the_same_inference_network(nested, inference_head, tmp_path):
    nested.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras", safe_mode=True)
    x = image(1, 19, 40, 2)
    answers = [np.asarray(models.inference_model(network, inference_head)(x)) for network in (nested, loaded)]
    assert answers[0].shape == (1, 19, 40, 1)
    np.testing.assert_array_equal(*answers)


def test_inference_network_shares_the_weights(nested):
    inference = models.inference_model(nested, "average")
    nested.get_layer("head_3_conv").bias.assign([3.0])
    np.testing.assert_array_equal(inference.get_layer("head_3_conv").bias.numpy(), [3.0])


def test_unknown_inference_head_is_refused(nested):
    with pytest.raises(ValueError, match="average"):
        models.inference_model(nested, "first")


@pytest.mark.parametrize("arguments", [{"channels": 0}, {"channels": 1, "classes": 0}], ids=str)
@pytest.mark.parametrize("architecture", models.ARCHITECTURES)
def test_no_channels_or_classes_is_refused(architecture, arguments):
    with pytest.raises(ValueError, match=f"{list(arguments)[-1]} must be at least 1"):
        models.build(architecture, **arguments)


@pytest.mark.parametrize("architecture", models.ARCHITECTURES)
def test_saved_model_takes_any_size_and_holds_no_python(architecture, tmp_path):
    tf = pytest.importorskip("tensorflow")
    keras.utils.set_random_seed(0)
    network = models.inference_model(models.build(architecture, channels=2, filters=2, depth=3, normalization="batch"))
    module = tf.Module()
    module.network = network
    module.answer = tf.function(
        lambda x: network(x, training=False), input_signature=[tf.TensorSpec([None, None, None, 2])]
    )
    tf.saved_model.save(module, str(tmp_path))
    served = tf.saved_model.load(str(tmp_path))
    for size in ((37, 53), (155, 240), (1, 1)):
        x = image(2, *size, 2)
        np.testing.assert_allclose(served.answer(x).numpy(), np.asarray(network(x)), atol=1e-6)
    operations = {node.op for node in module.answer.get_concrete_function().graph.as_graph_def().node}
    assert "Conv2D" in operations
    assert not {name for name in operations if "PyFunc" in name}


@pytest.mark.parametrize("architecture", models.ARCHITECTURES)
def test_probabilities_stay_float32_under_mixed_precision(architecture):
    before = keras.mixed_precision.global_policy()
    keras.mixed_precision.set_global_policy("mixed_float16")
    try:
        network = models.build(architecture, channels=1, filters=2, depth=2)
        average = models.inference_model(network, "average")
    finally:
        keras.mixed_precision.set_global_policy(before)
    assert {output.dtype for output in network.outputs} == {"float32"}
    assert (
        network.get_layer("encoder_0_conv1" if architecture != "nested_unet" else "x_0_0_conv1").compute_dtype
        == "float16"
    )
    assert np.asarray(average(image(1, 9, 10, 1))).dtype == np.float32
