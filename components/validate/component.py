"""Kubeflow component of the validate step."""

from kfp import dsl

from components.images import DATA_IMAGE


@dsl.component(base_image=DATA_IMAGE, install_kfp_package=False)
def validate(
    cohort: dsl.Input[dsl.Dataset],  # type: ignore[valid-type]
    run: str,
    model_name: str,
    patient_pictures_in_mlflow: bool,
    validation: dsl.Output[dsl.Artifact],  # type: ignore[valid-type]
    page: dsl.Output[dsl.HTML],  # type: ignore[valid-type]
) -> None:
    """Judge manifest and image statistics, also beside the champion's; a critical failure stops the run."""
    from pathlib import Path

    from components.execution import executing

    with executing("validate", validation.path) as folder:
        from components.validate.step import validate as step

        step(
            Path(cohort.path),
            run,
            model_name,
            folder,
            Path(page.path),
            patient_pictures_in_mlflow=patient_pictures_in_mlflow,
        )
