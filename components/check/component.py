"""Kubeflow component of the check step."""

from kfp import dsl

from components.images import DATA_IMAGE


@dsl.component(base_image=DATA_IMAGE, install_kfp_package=False)
def check(
    model_name: str,
    layout: str,
    labels: str,
    mask_threshold: int,
    image_size: int,
    context_slices: int,
    architectures: str,
    filters: int,
    depth: int,
    normalization: str,
    upsampling: str,
    dropout: float,
    inference_head: str,
    loss: str,
    head_weights: str,
    epochs: int,
    steps_per_epoch: int,
    batch_size: int,
    optimizer: str,
    learning_rate: float,
    schedule: str,
    warm_up: float,
    weight_decay: float,
    clip_norm: float,
    ema: float,
    patience: int,
    precision: str,
    lesion_share: float,
    floor_dice: float,
    floor_lesion_f1: float,
    promotion: str,
    accelerator_count: int,
    checked: dsl.Output[dsl.Artifact],  # type: ignore[valid-type]
) -> None:
    """Refuse parameters out of range before anything is read."""
    given = {name: value for name, value in locals().items() if name != "checked"}
    from components.execution import executing

    with executing("check", checked.path) as folder:
        from components.check.step import check as step
        from metseg.files import write_json

        step(given)
        write_json(folder / "parameters.json", given)
