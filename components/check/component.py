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
        ("nested_unet_cpu", str),
        ("nested_unet_memory", str),
        ("nested_unet_gpu", str),
        ("nested_unet_tolerations", list),
        ("nested_unet_selector", dict),
        ("attention_unet_cpu", str),
        ("attention_unet_memory", str),
        ("attention_unet_gpu", str),
        ("attention_unet_tolerations", list),
        ("attention_unet_selector", dict),
        ("unet_cpu", str),
        ("unet_memory", str),
        ("unet_gpu", str),
        ("unet_tolerations", list),
        ("unet_selector", dict),
        ("gpu_type", str),
    ],
):
    """Check all settings before anything is read, and hand on the configuration."""
    given = dict(locals())
    from components.check.task import check

    return check(**given)
