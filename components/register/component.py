"""Kubeflow component of the register step."""

from kfp import dsl

from components.container_images import DATA_IMAGE


@dsl.component(base_image=DATA_IMAGE, install_kfp_package=False)
def register(
    validation: dsl.Input[dsl.Artifact],
    champion: dsl.Input[dsl.Artifact],
    registration: dsl.Output[dsl.Artifact],
    page: dsl.Output[dsl.HTML],
    nested_unet: dsl.Input[dsl.Artifact] = None,
    attention_unet: dsl.Input[dsl.Artifact] = None,
    unet: dsl.Input[dsl.Artifact] = None,
):
    """Pick the winner on validation, gate it on test patients, register it where it passes."""
    given = dict(locals())
    from components.register.task import register

    register(**given)
