"""Kubeflow components of the evaluate step: for a new model and for the reigning champion."""

from kfp import dsl

from components.images import TRAIN_IMAGE


@dsl.component(base_image=TRAIN_IMAGE, install_kfp_package=False)
def evaluate(
    cohort: dsl.Input[dsl.Dataset],  # type: ignore[valid-type]
    model: dsl.Input[dsl.Model],  # type: ignore[valid-type]
    architecture: str,
    architectures: str,
    test_time_flips: bool,
    patient_pictures_in_mlflow: bool,
    evaluation: dsl.Output[dsl.Artifact],  # type: ignore[valid-type]
    metrics: dsl.Output[dsl.Metrics],  # type: ignore[valid-type]
    voxels: dsl.Output[dsl.ClassificationMetrics],  # type: ignore[valid-type]
) -> None:
    """Score a model, where it was asked for, on test patients; check its served graph against the independent path."""
    from pathlib import Path

    from components.execution import executing

    with executing(f"evaluate {architecture}", evaluation.path) as folder:
        from components.candidates import declines

        if declines(folder, architecture, architectures):
            return
        from components.evaluate.step import confusion, roc_points, shown_metrics
        from components.evaluate.step import evaluate as step

        step(
            Path(cohort.path),
            Path(model.path),
            folder,
            test_time_flips=test_time_flips,
            patient_pictures_in_mlflow=patient_pictures_in_mlflow,
        )
        for name, value in shown_metrics(folder).items():
            metrics.log_metric(name, value)
        voxels.log_confusion_matrix(*confusion(folder))
        for point in roc_points(folder):
            voxels.log_roc_data_point(*point)


@dsl.component(base_image=TRAIN_IMAGE, install_kfp_package=False)
def evaluate_champion(
    cohort: dsl.Input[dsl.Dataset],  # type: ignore[valid-type]
    validation: dsl.Input[dsl.Artifact],  # type: ignore[valid-type]
    run: str,
    model_name: str,
    evaluation: dsl.Output[dsl.Artifact],  # type: ignore[valid-type]
    metrics: dsl.Output[dsl.Metrics],  # type: ignore[valid-type]
    voxels: dsl.Output[dsl.ClassificationMetrics],  # type: ignore[valid-type]
) -> None:
    """Score the reigning champion, if there is one, on the same test patients."""
    from pathlib import Path

    from components.execution import executing

    with executing("evaluate champion", evaluation.path) as folder:
        from components.evaluate.step import confusion, roc_points, shown_metrics
        from components.evaluate.step import evaluate_champion as step

        if step(Path(cohort.path), run, model_name, folder):
            for name, value in shown_metrics(folder).items():
                metrics.log_metric(name, value)
            voxels.log_confusion_matrix(*confusion(folder))
            for point in roc_points(folder):
                voxels.log_roc_data_point(*point)
