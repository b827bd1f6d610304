"""Kubeflow components of the evaluate step: for a new model and for the current champion."""

from kfp import dsl

from components.container_images import TRAIN_IMAGE


@dsl.component(base_image=TRAIN_IMAGE, install_kfp_package=False)
def evaluate(
    cohort: dsl.Input[dsl.Dataset],
    model: dsl.Input[dsl.Model],
    evaluation: dsl.Output[dsl.Artifact],
    metrics: dsl.Output[dsl.Metrics],
    curve: dsl.Output[dsl.ClassificationMetrics],
):
    """Score a selected model on test patients; check its served graph against the independent path."""
    given = dict(locals())
    from components.evaluate.task import evaluate

    evaluate(**given)


@dsl.component(base_image=TRAIN_IMAGE, install_kfp_package=False)
def evaluate_champion(
    cohort: dsl.Input[dsl.Dataset],
    evaluation: dsl.Output[dsl.Artifact],
):
    """Score the current champion, if there is one, on the same test patients."""
    given = dict(locals())
    from components.evaluate.task import evaluate_champion

    evaluate_champion(**given)
