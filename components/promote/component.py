"""Kubeflow component of the promote step."""

from kfp import dsl

from components.container_images import DATA_IMAGE


@dsl.component(base_image=DATA_IMAGE, install_kfp_package=False)
def promote(
    registration: dsl.Input[dsl.Artifact],
    promoted: dsl.Output[dsl.Artifact],
    report: dsl.Output[dsl.HTML],
):
    """Publish the registered model, compare predictions with golden ones, move the alias; report."""
    given = dict(locals())
    from components.promote.task import promote

    promote(**given)
