"""Kubeflow components of the evaluate step: for a new model and for the reigning champion."""

from kfp import dsl

from components.images import TRAIN_IMAGE


@dsl.component(base_image=TRAIN_IMAGE, install_kfp_package=False)
def evaluate(
    cohort: dsl.Input[dsl.Dataset],  # type: ignore[valid-type]
    model: dsl.Input[dsl.Model],  # type: ignore[valid-type]
    architecture: str,
    evaluation: dsl.Output[dsl.Artifact],  # type: ignore[valid-type]
    metrics: dsl.Output[dsl.Metrics],  # type: ignore[valid-type]
) -> None:
    """Score a model on test patients and check its served graph against the independent path."""
    from pathlib import Path

    from components.execution import executing

    with executing(f"evaluate {architecture}", evaluation.path) as folder:
        from components.evaluate.step import evaluate as step
        from metseg.files import read_json

        step(Path(cohort.path), Path(model.path), folder)
        for name, value in read_json(folder / "evaluation.json")["mean"].items():
            if value is not None:
                metrics.log_metric(name, value)


@dsl.component(base_image=TRAIN_IMAGE, install_kfp_package=False)
def evaluate_champion(
    cohort: dsl.Input[dsl.Dataset],  # type: ignore[valid-type]
    validation: dsl.Input[dsl.Artifact],  # type: ignore[valid-type]
    run: str,
    model_name: str,
    evaluation: dsl.Output[dsl.Artifact],  # type: ignore[valid-type]
) -> None:
    """Score the reigning champion, if there is one, on the same test patients."""
    from pathlib import Path

    from components.execution import executing

    with executing("evaluate champion", evaluation.path) as folder:
        from components.evaluate.step import evaluate_champion as step

        step(Path(cohort.path), run, model_name, folder)
