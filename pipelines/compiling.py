"""The committed YAML of the pipeline."""

from __future__ import annotations

from pathlib import Path

COMPILED = Path(__file__).parent / "compiled" / "training.yaml"


def compile_pipeline(path: Path = COMPILED) -> Path:
    """Compile the training pipeline to `path`."""
    from kfp import compiler

    from pipelines.training import training

    path.parent.mkdir(parents=True, exist_ok=True)
    compiler.Compiler().compile(training, str(path))
    return path
