"""The model of the conformance suite; `python -m tests.serving.conformance.model FOLDER` writes it for any server.

FOLDER then holds `lesions/1` and `lesions/2`, `models.config` (version 1 is `stable`, 2 is `canary`) and
`monitoring.config`. Paths in it are those that the server sees: `--seen-as /conformance` for a folder that is mounted
there.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from tests.serving.model_config_files import write_model_config

MODEL = "lesions"
VERSIONS = (1, 2)
LABELS = {"stable": 1, "canary": 2}
CONFIG = "models.config"
MONITORING = "monitoring.config"
MONITORING_TEXT = "prometheus_config { enable: true path: '/monitoring/prometheus/metrics' }\n"


def export_tiny_model(folder: Path, version: int) -> None:
    """Export a model that returns the mean of the channels as probability, and its version by `describe`."""
    import tensorflow as tf

    module = tf.Module()
    module.scale = tf.Variable(1.0)

    @tf.function(input_signature=[tf.TensorSpec([None, None, None, None, None], tf.float32, name="image")])
    def predict(image: Any) -> dict[str, Any]:
        probability = tf.reduce_mean(image, axis=-1) * module.scale
        return {"probability": probability, "mask": tf.cast(probability >= 0.5, tf.uint8)}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.int32, name="request")])
    def describe(request: Any) -> dict[str, Any]:
        text = json.dumps({"exported": version, "channels": ["t1c", "t2f"]})
        return {"specification": tf.fill(tf.shape(request), text)}

    @tf.function(input_signature=[tf.TensorSpec([], tf.float32, name="a"), tf.TensorSpec([], tf.float32, name="b")])
    def add(a: Any, b: Any) -> dict[str, Any]:
        return {"total": a + b}

    @tf.function(
        input_signature=[tf.TensorSpec([None], tf.string, name="text"), tf.TensorSpec([None], tf.int64, name="number")]
    )
    def echo(text: Any, number: Any) -> dict[str, Any]:
        return {"text": tf.identity(text), "text_bytes": tf.identity(text), "number": number + 1}

    @tf.function(input_signature=[tf.TensorSpec([], tf.int32, name="rounds")])
    def slow(rounds: Any) -> dict[str, Any]:
        start = tf.ones([1_000_000])
        _, last = tf.while_loop(
            lambda turn, value: turn < rounds, lambda turn, value: (turn + 1, tf.sin(value)), [0, start]
        )
        return {"last": tf.reduce_mean(last)}

    signatures = {"serving_default": predict, "describe": describe, "add": add, "echo": echo, "slow": slow}
    for name, function in signatures.items():
        setattr(module, name, function)
    tf.saved_model.save(module, str(folder), signatures=signatures)


def write_conformance_models(folder: Path, seen_as: Path) -> None:
    """Both versions and the configuration files."""
    for version in VERSIONS:
        export_tiny_model(folder / MODEL / str(version), version)
    write_model_config(folder / CONFIG, MODEL, seen_as / MODEL, list(VERSIONS), LABELS)
    (folder / MONITORING).write_text(MONITORING_TEXT, encoding="utf-8")


def main() -> None:
    """Write what the suite needs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument(
        "--seen-as", type=Path, help="the folder's path as the server sees it; the folder itself unless given"
    )
    given = parser.parse_args()
    given.folder.mkdir(parents=True, exist_ok=True)
    write_conformance_models(given.folder, given.seen_as or given.folder.resolve())
    print(f"{given.folder}: {MODEL} in versions {', '.join(map(str, VERSIONS))}, {CONFIG}, {MONITORING}")


if __name__ == "__main__":
    main()
