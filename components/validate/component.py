"""Kubeflow component of the validate step."""

from kfp import dsl

from components.container_images import DATA_IMAGE


@dsl.component(base_image=DATA_IMAGE, install_kfp_package=False)
def validate(
    cohort: dsl.Input[dsl.Dataset],
    validation: dsl.Output[dsl.Artifact],
    page: dsl.Output[dsl.HTML],
):
    """Validate manifest and image statistics, also against the champion's; a critical finding stops the run."""
    given = dict(locals())
    from components.validate.task import validate

    validate(**given)
