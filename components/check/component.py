"""Kubeflow component of the check step."""

from typing import NamedTuple

from kfp import dsl

from components.images import DATA_IMAGE


@dsl.component(base_image=DATA_IMAGE, install_kfp_package=False)
def check(
    networks: str,
    data_reference: str,
    data_labels: str,
    data_image_size: int,
    data_options: str,
    train_architectures: str,
    train_epochs: int,
    train_steps_per_epoch: int,
    train_batch_size: int,
    train_options: str,
    gate_dice: float,
    gate_promotion: str,
    gate_options: str,
    gpu_count: int,
    pod_options: str,
    model_name: str,
    run_name: str,
    configuration: dsl.Output[dsl.Artifact],
) -> NamedTuple(
    "Outputs",
    [
        ("ingest_cpu", str),
        ("ingest_memory", str),
        ("validate_cpu", str),
        ("validate_memory", str),
        ("preprocess_cpu", str),
        ("preprocess_memory", str),
        ("register_cpu", str),
        ("register_memory", str),
        ("promote_cpu", str),
        ("promote_memory", str),
        ("train_cpu", str),
        ("evaluate_cpu", str),
        ("nested_unet_train_memory", str),
        ("nested_unet_train_gpu", str),
        ("nested_unet_evaluate_memory", str),
        ("nested_unet_evaluate_gpu", str),
        ("attention_unet_train_memory", str),
        ("attention_unet_train_gpu", str),
        ("attention_unet_evaluate_memory", str),
        ("attention_unet_evaluate_gpu", str),
        ("unet_train_memory", str),
        ("unet_train_gpu", str),
        ("unet_evaluate_memory", str),
        ("unet_evaluate_gpu", str),
        ("gpu_type", str),
        ("gpu_tolerations", list),
        ("gpu_node_selector", dict),
    ],
):
    """Check all settings before anything is read, and hand on the configuration."""
    given = dict(locals())
    from components.check.task import check

    return check(**given)
