"""Kubeflow component of the preprocess step."""

from kfp import dsl

from components.container_images import DATA_IMAGE


@dsl.component(base_image=DATA_IMAGE, install_kfp_package=False)
def preprocess(
    cohort: dsl.Input[dsl.Dataset],
    records: dsl.Output[dsl.Dataset],
    page: dsl.Output[dsl.HTML],
):
    """Window, equalise (CLAHE) and resize every case into records; freeze the specification."""
    given = dict(locals())
    from components.preprocess.task import preprocess

    preprocess(**given)
