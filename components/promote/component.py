"""Kubeflow component of the promote step."""

from kfp import dsl

from components.images import DATA_IMAGE


@dsl.component(base_image=DATA_IMAGE, install_kfp_package=False)
def promote(
    cohort: dsl.Input[dsl.Dataset],  # type: ignore[valid-type]
    validation: dsl.Input[dsl.Artifact],  # type: ignore[valid-type]
    records: dsl.Input[dsl.Dataset],  # type: ignore[valid-type]
    registration: dsl.Input[dsl.Artifact],  # type: ignore[valid-type]
    nested_unet_model: dsl.Input[dsl.Model],  # type: ignore[valid-type]
    attention_unet_model: dsl.Input[dsl.Model],  # type: ignore[valid-type]
    unet_model: dsl.Input[dsl.Model],  # type: ignore[valid-type]
    nested_unet: dsl.Input[dsl.Artifact],  # type: ignore[valid-type]
    attention_unet: dsl.Input[dsl.Artifact],  # type: ignore[valid-type]
    unet: dsl.Input[dsl.Artifact],  # type: ignore[valid-type]
    champion: dsl.Input[dsl.Artifact],  # type: ignore[valid-type]
    model_name: str,
    promotion: str,
    patient_pictures_in_mlflow: bool,
    promoted: dsl.Output[dsl.Artifact],  # type: ignore[valid-type]
    report: dsl.Output[dsl.HTML],  # type: ignore[valid-type]
) -> None:
    """Publish the registered model, compare the server's answers with the golden ones, move the alias; report."""
    from pathlib import Path

    from components.execution import executing

    with executing("promote", promoted.path) as folder:
        from components.candidates import candidates
        from components.execution import process_age
        from components.promote.step import log_report
        from components.promote.step import promote as step
        from metseg.report.run import RunFolders, write_run_report

        evaluations = candidates(nested_unet=nested_unet.path, attention_unet=attention_unet.path, unet=unet.path)
        models = candidates(
            nested_unet=nested_unet_model.path, attention_unet=attention_unet_model.path, unet=unet_model.path
        )
        step(Path(registration.path), evaluations, Path(champion.path), model_name, promotion, folder)
        folders = RunFolders(
            cohort=Path(cohort.path),
            validation=Path(validation.path),
            records=Path(records.path),
            models=list(models.values()),
            evaluations=list(evaluations.values()),
            champion=Path(champion.path),
            registration=Path(registration.path),
            promoted=folder,
        )
        write_run_report(folders, process_age(), Path(report.path))
        log_report(folders.registration, folder, patient_pictures_in_mlflow)
