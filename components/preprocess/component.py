"""Kubeflow component of the preprocess step."""

from kfp import dsl

from components.images import DATA_IMAGE


@dsl.component(base_image=DATA_IMAGE, install_kfp_package=False)
def preprocess(
    cohort: dsl.Input[dsl.Dataset],  # type: ignore[valid-type]
    image_size: int,
    clahe: bool,
    context_slices: int,
    records: dsl.Output[dsl.Dataset],  # type: ignore[valid-type]
    page: dsl.Output[dsl.HTML],  # type: ignore[valid-type]
) -> None:
    """Window, equalise (CLAHE) and resize every case into TFRecords; freeze the specification."""
    from pathlib import Path

    from components.execution import executing

    with executing("preprocess", records.path) as folder:
        from components.preprocess.step import preprocess as step
        from metseg.report.step_pages import write_records_page

        step(Path(cohort.path), folder, image_size=image_size, clahe=clahe, context_slices=context_slices)
        write_records_page(Path(page.path), folder)
