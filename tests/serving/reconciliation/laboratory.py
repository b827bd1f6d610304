"""A registry, a folder and a model server, all real, with models so small that a promotion takes a second.

A model answers the mean over the channels times a factor of its own; what it should answer is computed here with NumPy.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import grpc
import numpy as np
from numpy.typing import NDArray

from metseg.saved_model_digest import saved_model_digest
from metseg.serving.client import ModelClient
from metseg.serving.codec.tensor_proto import ReceivedTensor
from metseg.serving.reconciliation.reconciler import Reconciler
from metseg.serving.reconciliation.reconciliation_limits import ReconcileLimits
from metseg.serving.reconciliation.registry_state import AliasRegistry
from metseg.serving.reconciliation.serving_volume import ServingVolume
from metseg.settings import Settings
from metseg.tensorflow_protos import model_pb2, predict_pb2, prediction_service_pb2_grpc
from metseg.tracking import mlflow_runs
from tests.mlflow_store import fresh_store
from tests.serving.server_process import METSEG, Said, ServerProcess
from tests.serving.tensor_protos import to_tensor_proto

CHANNELS = 2
FACTORS = (0.25, 0.5, 0.75, 1.0)
LIMITS = ReconcileLimits(load_seconds=60, lock_seconds=60)
THRESHOLD = np.float32(0.3)


def export_factor(folder: Path, factor: float, padding: int = 0) -> None:
    """A SavedModel of that factor; `padding` is a number of weights it carries along unused."""
    import tensorflow as tf

    module = tf.Module()
    module.factor = tf.Variable(factor, dtype=tf.float32)
    if padding:
        module.padding = tf.Variable(tf.random.stateless_normal([padding], seed=[1, 2]))

    @tf.function(input_signature=[tf.TensorSpec([None, None, None, None, CHANNELS], tf.float32, name="image")])
    def predict(image: Any) -> dict[str, Any]:
        probability = tf.reduce_mean(image, axis=-1) * module.factor
        return {"probability": probability, "mask": tf.cast(probability >= THRESHOLD, tf.uint8)}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.int32, name="request")])
    def describe(request: Any) -> dict[str, Any]:
        return {"specification": tf.fill(tf.shape(request), json.dumps({"factor": factor}))}

    module.predict, module.describe = predict, describe
    tf.saved_model.save(module, str(folder), signatures={"serving_default": predict, "describe": describe})


def export_all(folder: Path, padding: int = 0) -> dict[float, Path]:
    """A SavedModel for each of `FACTORS`."""
    for factor in FACTORS:
        export_factor(folder / str(factor), factor, padding)
    return {factor: folder / str(factor) for factor in FACTORS}


def request(seed: int, side: int = 5, channels: int = CHANNELS) -> NDArray[np.float32]:
    """A volume `(2, side, side + 1, channels)` with values from 0 to 1."""
    return np.random.default_rng(seed).random((2, side, side + 1, channels), dtype=np.float32)


def answer(image: NDArray[np.float32], factor: float) -> NDArray[np.float32]:
    """What a model of that factor answers."""
    return (image.mean(axis=-1) * np.float32(factor)).astype(np.float32)


Answer = Callable[[NDArray[np.float32], float], NDArray[np.float32]]
"""The probability that the model of a factor answers to a volume."""


def settings_in(folder: Path, tracking_uri: str = "") -> Settings:
    """A workspace of its own; MLflow on SQLite in it unless another one is named."""
    return Settings(
        workspace=folder,
        data=folder / "data",
        runs=folder / "runs",
        model_base_path=folder / "serving",
        state=folder / "state",
        tracking_uri=tracking_uri or fresh_store(folder),
        artifact_root=(folder / "artifacts").as_uri(),
    )


@dataclass
class Laboratory:
    """Where versions are registered and aliases moved.

    Attributes:
        settings: where everything is.
        saved_models: SavedModel of each factor.
        factors: factor of each version, by model and number.
        runs: run and digest by what was asked of them.
        answer: what the models answer.
        channels: of the volumes that they take.
    """

    settings: Settings
    saved_models: dict[float, Path]
    factors: dict[tuple[str, int], float] = field(default_factory=dict)
    runs: dict[tuple[float, str, str], tuple[str, str]] = field(default_factory=dict)
    answer: Answer = answer
    channels: int = CHANNELS

    def __post_init__(self) -> None:
        self.mlflow = mlflow_runs.client(self.settings)
        self.aliases = AliasRegistry(self.settings)
        self.volume = ServingVolume(self.settings.model_base_path)

    def within(self, folder: Path) -> Laboratory:
        """The same registry with another folder of published models."""
        return replace(self, settings=self.settings.replaced(model_base_path=folder))

    def register(
        self,
        name: str,
        factor: float,
        gate: str | None = "passed",
        golden: float | None = None,
        without: str = "",
        digest: str = "",
    ) -> int:
        """Register a version as the pipeline does.

        Args:
            name: registered model.
            factor: which SavedModel.
            gate: value of the tag `gate`; None leaves it out.
            golden: factor that the golden answers are made with; the model's own where none is given.
            without: a file or folder of the run that is missing, from the start on.
            digest: a digest to register in the place of the right one.
        """
        run, found = self._run(factor, factor if golden is None else golden, without)
        if (name, 1) not in self.factors:
            self.mlflow.create_registered_model(name)
        source = f"{self.mlflow.get_run(run).info.artifact_uri}/model"
        number = int(self.mlflow.create_model_version(name, source, run).version)
        tags = {"savedmodel.sha256": digest or found, **({"gate": gate} if gate else {})}
        for key, value in tags.items():
            self.mlflow.set_model_version_tag(name, str(number), key, value)
        self.factors[name, number] = factor
        return number

    def _run(self, factor: float, golden: float, without: str) -> tuple[str, str]:
        """A run with model and golden requests, and the digest of the model; runs that are alike are one."""
        # A number that is none is not even itself.
        key = (factor, str(golden), without)
        if key not in self.runs:
            run = mlflow_runs.start_run(self.mlflow, self.settings, f"factor {factor}", {}, {})
            with tempfile.TemporaryDirectory() as scratch:
                folder = Path(scratch)
                saved_model = folder / "model" / "tf2model"
                shutil.copytree(self.saved_models[factor], saved_model)
                (folder / "model" / "MLmodel").write_text("flavors: {}\n")
                (folder / "evaluation").mkdir()
                self._write_golden(folder / "evaluation" / "golden.npz", golden)
                digest = saved_model_digest(saved_model)
                if (folder / without).is_file():
                    (folder / without).unlink()
                elif without:
                    shutil.rmtree(folder / without)
                if saved_model.exists():
                    digest = saved_model_digest(saved_model)
                self.mlflow.log_artifacts(run, str(folder))
            mlflow_runs.finish(self.mlflow, run)
            self.runs[key] = (run, digest)
        return self.runs[key]

    def point(self, name: str, alias: str, number: int | None) -> None:
        """Move an alias as the MLflow UI does: by the registry's own call, past everything of ours."""
        if number is None:
            self.mlflow.delete_registered_model_alias(name, alias)
        else:
            self.mlflow.set_registered_model_alias(name, alias, str(number))

    def pointed(self, name: str) -> dict[str, int]:
        """All aliases of a model."""
        aliases = self.mlflow.get_registered_model(name).aliases
        return {alias: int(number) for alias, number in aliases.items()}

    def tags(self, name: str, number: int) -> dict[str, str]:
        return dict(self.mlflow.get_model_version(name, str(number)).tags)

    def reconciler(self, server: ModelClient, limits: ReconcileLimits = LIMITS) -> Reconciler:
        return Reconciler(self.aliases, self.volume, server, limits)

    def environment(self) -> dict[str, str]:
        """For a process of its own."""
        return {**os.environ, **self.settings.to_environment(), "PYTHONUNBUFFERED": "1"}

    def _write_golden(self, path: Path, factor: float) -> None:
        """Two golden requests, with the answers of a model of that factor."""
        arrays: dict[str, Any] = {"threshold": THRESHOLD}
        for number in (0, 1):
            image = request(seed=number, side=4 + number, channels=self.channels)
            arrays[f"image_{number}"], arrays[f"probability_{number}"] = image, self.answer(image, factor)
        np.savez_compressed(path, **arrays)


@contextmanager
def serving(volume: ServingVolume) -> Iterator[ServerProcess]:
    """A server process until the block ends."""
    volume.prepare()
    with ServerProcess(volume.config) as server:
        yield server


Ask = Callable[[str, str, NDArray[np.float32]], tuple[int, NDArray[np.float32]]]
"""Model, label and volume to the version that answered, and its probability."""


@contextmanager
def stub_of(address: str) -> Iterator[Ask]:
    """One bare Predict call to a label: no retry, so that a request that fails is seen to fail."""
    with grpc.insecure_channel(address, [("grpc.enable_http_proxy", 0)]) as channel:
        stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)

        def ask(name: str, label: str, image: NDArray[np.float32]) -> tuple[int, NDArray[np.float32]]:
            sent = predict_pb2.PredictRequest(model_spec=model_pb2.ModelSpec(name=name, version_label=label))
            sent.inputs["image"].CopyFrom(to_tensor_proto(image[np.newaxis]))
            response = stub.Predict(sent, timeout=60)
            probability = ReceivedTensor(response.outputs["probability"]).array()[0]
            mask = ReceivedTensor(response.outputs["mask"]).array()[0]
            assert np.array_equal(mask, probability >= THRESHOLD), "probability and mask of one answer belong together"
            return int(response.model_spec.version.value), probability

        yield ask


@contextmanager
def reconciling(laboratory: Laboratory, server: ServerProcess, name: str, *arguments: str) -> Iterator[Said]:
    """`metseg reconcile` as a process of its own until the block ends."""
    process = subprocess.Popen(
        [METSEG, "reconcile", "--server", server.address, "--model-name", name, *arguments],
        stderr=subprocess.PIPE,
        text=True,
        env=laboratory.environment(),
    )
    try:
        yield Said(process)
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(60)
