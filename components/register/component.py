"""Kubeflow component of the register step."""

from kfp import dsl

from components.images import DATA_IMAGE


@dsl.component(base_image=DATA_IMAGE, install_kfp_package=False)
def register(
    cohort: dsl.Input[dsl.Dataset],  # type: ignore[valid-type]
    validation: dsl.Input[dsl.Artifact],  # type: ignore[valid-type]
    nested_unet: dsl.Input[dsl.Artifact],  # type: ignore[valid-type]
    attention_unet: dsl.Input[dsl.Artifact],  # type: ignore[valid-type]
    unet: dsl.Input[dsl.Artifact],  # type: ignore[valid-type]
    champion: dsl.Input[dsl.Artifact],  # type: ignore[valid-type]
    run: str,
    model_name: str,
    floor_dice: float,
    floor_lesion_f1: float,
    registration: dsl.Output[dsl.Artifact],  # type: ignore[valid-type]
    page: dsl.Output[dsl.HTML],  # type: ignore[valid-type]
) -> None:
    """Pick the winner on validation, gate it on test patients, register it where it passes."""
    from pathlib import Path

    from components.execution import executing

    with executing("register", registration.path) as folder:
        from components.candidates import candidates
        from components.register.step import register as step
        from metseg.report.verdict_page import verdict_content, write_verdict_page

        outputs = candidates(nested_unet=nested_unet.path, attention_unet=attention_unet.path, unet=unet.path)
        evaluations = list(outputs.values())
        step(
            Path(cohort.path),
            Path(validation.path),
            evaluations,
            Path(champion.path),
            run,
            model_name,
            floor_dice,
            floor_lesion_f1,
            folder,
        )
        content = verdict_content(Path(cohort.path), evaluations, Path(champion.path), folder)
        write_verdict_page(Path(page.path), content)
