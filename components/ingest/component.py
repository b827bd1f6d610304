"""Kubeflow component of the ingest step."""

from typing import NamedTuple

from kfp import dsl

from components.container_images import DATA_IMAGE


@dsl.component(base_image=DATA_IMAGE, install_kfp_package=False)
def ingest(
    configuration: dsl.Input[dsl.Artifact],
    cohort: dsl.Output[dsl.Dataset],
    page: dsl.Output[dsl.Markdown],
) -> NamedTuple(
    "Outputs",
    [
        ("champion_cpu", str),
        ("champion_memory", str),
        ("champion_gpu", str),
        ("champion_tolerations", list),
        ("champion_selector", dict),
    ],
):
    """Read a data reference into canonical cases and a manifest, split by patient."""
    given = dict(locals())
    from components.ingest.task import ingest

    return ingest(**given)
