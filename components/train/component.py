"""Kubeflow component of the train step."""

from typing import NamedTuple

from kfp import dsl

from components.container_images import TRAIN_IMAGE


@dsl.component(base_image=TRAIN_IMAGE, install_kfp_package=False)
def train(
    cohort: dsl.Input[dsl.Dataset],
    records: dsl.Input[dsl.Dataset],
    architecture: str,
    model: dsl.Output[dsl.Model],
    page: dsl.Output[dsl.HTML],
) -> NamedTuple(
    "Outputs",
    [
        ("evaluate_cpu", str),
        ("evaluate_memory", str),
        ("evaluate_gpu", str),
        ("evaluate_tolerations", list),
        ("evaluate_selector", dict),
    ],
):
    """Train a selected network, choose its operating point on validation patients, export it once."""
    given = dict(locals())
    from components.train.task import train

    return train(**given)
