"""Kubeflow component of the check step."""

from typing import NamedTuple

from kfp import dsl

from components.container_images import DATA_IMAGE


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
        *(
            (f"{step}_{name}", str)
            for step in ("ingest", "validate", "preprocess", "register", "promote")
            for name in ("cpu", "memory")
        ),
        *(
            (f"{architecture}_{name}", kind)
            for architecture in ("nested_unet", "attention_unet", "unet")
            for name, kind in {"cpu": str, "memory": str, "gpu": str, "tolerations": list, "selector": dict}.items()
        ),
        ("gpu_type", str),
    ],
):
    """Check all settings before anything is read, and hand on the configuration."""
    given = dict(locals())
    from components.check.task import check

    return check(**given)
