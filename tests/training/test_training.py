"""Batches, the training loop, resuming after a kill, and the export, on a tiny cohort of records."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

import models
from metseg.dataset.records import write_case_records
from metseg.imaging.specification import PreprocessingSpecification
from metseg.imaging.window import volume_window
from metseg.training.batches import SliceStore, batches
from metseg.training.configuration import TrainingConfiguration
from metseg.training.evaluation import independent_probability, load_network
from metseg.training.export import export, saved_model_of
from metseg.training.fused_normalization import with_fused_normalization
from metseg.training.loop import TrainingDiverged, build_network, inference_network, sub_networks, train_network
from metseg.training.phantom_requests import golden_requests, input_example

ROOT = Path(__file__).resolve().parents[2]
SIDE = 32
CONFIGURATION = TrainingConfiguration(
    architecture="attention_unet", filters=4, depth=2, epochs=3, steps_per_epoch=4, batch_size=4, learning_rate=5e-3
)
SPECIFICATION = PreprocessingSpecification(channels=("t1n", "t2f", "t1c"), image_size=SIDE)


def write_records(folder: Path) -> None:
    """Bright squares on noise: two training cases, one validation case."""
    rng = np.random.default_rng(0)
    for split, cases in (("train", 2), ("validation", 1)):
        for case in range(cases):
            masks = np.zeros((6, SIDE, SIDE), np.uint8)
            for place in range(1, 5):
                top, left = rng.integers(2, SIDE - 10, 2)
                masks[place, top : top + 7, left : left + 6] = 1
            images = rng.random((6, SIDE, SIDE, 3)).astype(np.float32) * 0.5
            images[..., 2] += 0.5 * masks
            (folder / split).mkdir(parents=True, exist_ok=True)
            write_case_records(folder / split / f"case{case}.tfrecord", images, masks)


@pytest.fixture(scope="module")
def records(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("records")
    write_records(folder)
    return folder


def quiet(epoch: int, figures: dict[str, float]) -> None:
    """Report nothing."""


def test_a_batch_is_a_function_of_its_step(records):
    store = SliceStore(records / "train", 0)
    stream = batches(store, CONFIGURATION)
    third = [next(stream) for _ in range(3)][2]
    again = next(batches(store, CONFIGURATION, first_step=2))
    np.testing.assert_array_equal(third[0], again[0])
    np.testing.assert_array_equal(third[1], again[1])


def test_batches_hold_the_share_of_lesion_that_was_asked_for(records):
    store = SliceStore(records / "train", 0)
    for share, expected in ((0.0, 0), (0.5, 2), (1.0, 4)):
        configuration = replace(CONFIGURATION, lesion_share=share, augmentation=False)
        stream = batches(store, configuration)
        for _ in range(5):
            assert np.count_nonzero(next(stream)[1].any(axis=(1, 2, 3))) == expected


def test_every_slice_is_seen_once_a_pass(records):
    store = SliceStore(records / "train", 0)
    stream = batches(store, replace(CONFIGURATION, lesion_share=1.0, augmentation=False))
    seen = [image.tobytes() for _ in range(2) for image in next(stream)[0]]
    assert len(set(seen)) == len(store.lesion) == 8


def test_context_is_built_when_read(records):
    plain, wide = SliceStore(records / "train", 0), SliceStore(records / "train", 1)
    image, _ = wide.read(2)
    assert image.shape == (SIDE, SIDE, 9)
    np.testing.assert_array_equal(image[..., :3], plain.read(1)[0])
    np.testing.assert_array_equal(image[..., 6:], plain.read(3)[0])
    first, _ = wide.read(0)
    np.testing.assert_array_equal(first[..., :3], first[..., 3:6])


@pytest.mark.parametrize("architecture", ["attention_unet", "nested_unet"])
def test_training_twice_gives_the_same_weights(records, tmp_path, architecture):
    configuration = replace(CONFIGURATION, architecture=architecture, epochs=2)
    first, history = train_network(records, 0, configuration, tmp_path / "a", quiet)
    second, _ = train_network(records, 0, configuration, tmp_path / "b", quiet)
    for mine, other in zip(first.get_weights(), second.get_weights(), strict=True):
        np.testing.assert_array_equal(mine, other)
    assert len(history) == 2 and set(history[0]) == {"loss", "val_dice", "learning_rate"}
    assert first.output_shape[-1] == 1


VICTIM = """
import sys, json
from pathlib import Path
from metseg.settings import apply_defaults
apply_defaults()
import tensorflow as tf
tf.config.experimental.enable_op_determinism()
from metseg.training.configuration import TrainingConfiguration
from metseg.training.loop import train_network
def report(epoch, figures):
    print("epoch", epoch, flush=True)
network, history = train_network(
    Path(sys.argv[1]), 0, TrainingConfiguration(**json.loads(sys.argv[3])), Path(sys.argv[2]), report)
network.save_weights(sys.argv[2] + ".weights.h5")
print("history", len(history))
"""


def start(records: Path, state: Path) -> subprocess.Popen:
    arguments = [sys.executable, "-c", VICTIM, str(records), str(state), json.dumps(asdict(CONFIGURATION))]
    return subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True, cwd=ROOT)


def test_a_killed_training_goes_on_to_the_same_weights(records, tmp_path):
    undisturbed = start(records, tmp_path / "whole")
    assert "history 3" in undisturbed.communicate(timeout=300)[0]
    victim = start(records, tmp_path / "killed")
    assert victim.stdout is not None
    assert victim.stdout.readline().startswith("epoch 0")
    victim.send_signal(signal.SIGKILL)
    victim.wait()
    resumed = start(records, tmp_path / "killed")
    printed = resumed.communicate(timeout=300)[0]
    assert "epoch 0" not in printed and "epoch 2" in printed
    networks = [models.fold_normalization(build_network(CONFIGURATION, 3)) for _ in range(2)]
    for network, name in zip(networks, ("whole", "killed"), strict=True):
        network.load_weights(tmp_path / f"{name}.weights.h5")
    for mine, other in zip(networks[0].get_weights(), networks[1].get_weights(), strict=True):
        np.testing.assert_allclose(mine, other, rtol=0, atol=1e-5)


def test_the_moving_average_of_the_weights_is_judged_and_kept(records, tmp_path):
    configuration = replace(CONFIGURATION, epochs=4, steps_per_epoch=1, ema=0.6)
    raw = with_fused_normalization(build_network(configuration, 3))
    seen = []

    def remember(epoch: int, figures: dict[str, float]) -> None:
        raw.load_weights(tmp_path / "state" / f"epoch-{epoch + 1:04d}.weights.h5")
        seen.append([np.array(weight) for weight in raw.trainable_weights])

    _, history = train_network(records, 0, configuration, tmp_path / "state", remember)
    network = build_network(configuration, 3)
    network.load_weights(tmp_path / "state" / "best.weights.h5")
    averages = [seen[0]]
    for weights in seen[1:]:
        averages.append([0.6 * mean + 0.4 * weight for mean, weight in zip(averages[-1], weights, strict=True)])
    dices = [epoch["val_dice"] for epoch in history]
    best = max(index for index, dice in enumerate(dices) if dice == max(dices))
    assert any(not np.array_equal(mine, other) for mine, other in zip(seen[0], seen[-1], strict=True))
    for mine, expected in zip(network.trainable_weights, averages[best], strict=True):
        np.testing.assert_allclose(mine, expected, rtol=0, atol=1e-6)


REPLICAS = """
import sys, json
from pathlib import Path
from metseg.settings import apply_defaults
apply_defaults()
import tensorflow as tf
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * int(sys.argv[4]))
from metseg.training.configuration import TrainingConfiguration
from metseg.training.loop import replication, train_network
_, history = train_network(
    Path(sys.argv[1]), 0, TrainingConfiguration(**json.loads(sys.argv[3])), Path(sys.argv[2]), lambda *_: None)
print(json.dumps([replication().num_replicas_in_sync, history[0]["loss"]]))
"""


def test_two_devices_share_a_batch_and_mean_the_same_loss(records, tmp_path):
    settings = replace(CONFIGURATION, normalization="none", epochs=1, steps_per_epoch=2, augmentation=False)
    found = []
    for devices in ("1", "2"):
        arguments = [str(records), str(tmp_path / devices), json.dumps(asdict(settings)), devices]
        done = subprocess.run(
            [sys.executable, "-c", REPLICAS, *arguments], cwd=ROOT, capture_output=True, text=True, timeout=300
        )
        assert done.returncode == 0, done.stderr[-2000:]
        found.append(json.loads(done.stdout.splitlines()[-1]))
    (one, alone), (two, shared) = found
    assert (one, two) == (1, 2)
    # The Dice part of the loss is taken over a replica's own slices, so the two are close and not equal.
    assert abs(shared - alone) < 0.2 * alone


def test_a_loss_that_is_no_number_stops_with_a_remedy(records, tmp_path):
    with pytest.raises(TrainingDiverged, match="learning_rate"):
        train_network(
            records, 0, replace(CONFIGURATION, learning_rate=1e30, normalization="none"), tmp_path / "s", quiet
        )


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
def test_exported_model_is_whole_for_the_loader_that_tf_serving_uses(exported, signature):
    folder, specification, served = exported
    image = np.random.default_rng(5).gamma(2.0, 200.0, (1, 2, 40, 33, 3)).astype(np.float32)
    inputs = {"image": image, "window": volume_window(image[0], specification)[None]}
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        loaded = tf.compat.v1.saved_model.load(session, ["serve"], str(saved_model_of(folder)))
        definition = loaded.signature_def[signature]
        feeds = {info.name: inputs[name] for name, info in definition.inputs.items()}
        probability = session.run(definition.outputs["probability"].name, feeds)
    expected = served.signatures[signature](**{name: tf.constant(inputs[name]) for name in definition.inputs})
    np.testing.assert_array_equal(probability, expected["probability"].numpy())


def test_exported_model_loads_by_mlflow(exported):
    import mlflow

    folder, _, served = exported
    image = np.random.default_rng(5).gamma(2.0, 200.0, (1, 2, 40, 33, 3)).astype(np.float32)
    answer = mlflow.pyfunc.load_model(str(folder)).predict(image)
    expected = served.signatures["serving_default"](image=tf.constant(image))["probability"].numpy()
    np.testing.assert_allclose(answer["probability"], expected, rtol=0, atol=1e-6)


def test_the_input_example_is_answered_by_mlflow_as_it_is_served(exported):
    import mlflow

    folder, specification, served = exported
    model = mlflow.pyfunc.load_model(str(folder))
    example = model.input_example
    np.testing.assert_array_equal(example, input_example(specification.channels))
    assert example.dtype == np.float32 and example.shape[:2] == (1, 3)
    answer = model.predict(example)
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
    np.testing.assert_array_equal(reloaded(image)[..., 0], whole(image)[..., level - 1])
    if level == 1:
        assert reloaded.count_params() < whole.count_params() / 3
        assert not [layer.name for layer in reloaded.layers if layer.name.startswith("x_0_2")]


def test_a_sub_network_is_judged_while_it_trains(records, tmp_path):
    configuration = replace(CONFIGURATION, architecture="nested_unet", inference_head="L1", epochs=1)
    network, _ = train_network(records, 0, configuration, tmp_path / "state", quiet)
    whole = build_network(configuration, 3)
    whole.load_weights(tmp_path / "state" / "best.weights.h5")
    image = np.random.default_rng(7).random((2, SIDE, SIDE, 3)).astype(np.float32)
    np.testing.assert_allclose(network(image)[..., 0], whole(image)[..., 0], rtol=0, atol=1e-5)


def test_golden_requests_are_real_heads_of_two_sizes():
    first, second = golden_requests(("t1n", "t2f", "t1c"))
    assert first.shape[1:3] != second.shape[1:3]
    assert first.dtype == np.float32 and first.shape[-1] == 3
    assert len(np.unique(first)) > 100


def test_settings_out_of_range_are_refused():
    from metseg.errors import UsageError

    for wrong in (
        {"epochs": 0},
        {"lesion_share": 1.5},
        {"normalization": "layer"},
        {"learning_rate": 0.0},
        {"inference_head": "L3"},
    ):
        with pytest.raises(UsageError, match=next(iter(wrong))):
            replace(CONFIGURATION, **wrong)
