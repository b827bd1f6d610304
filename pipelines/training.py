"""The training pipeline: what runs after what, from scans to a served model.

One definition for a laptop (`pipelines.local`) and a Kubeflow cluster (`pipelines/compiled/training.yaml`).
"""

from kfp import dsl

from components.check.component import check
from components.evaluate.component import evaluate, evaluate_champion
from components.images import TRAIN_IMAGE
from components.ingest.component import ingest
from components.preprocess.component import preprocess
from components.promote.component import promote
from components.register.component import register
from components.train.component import train
from components.validate.component import validate
from metseg.scoring.verdict import Rules
from metseg.training.configuration import ARCHITECTURES, DEFAULT_ARCHITECTURES, TrainingConfiguration
from pipelines.placement import keep_state, on_accelerators, place

DEFAULTS = TrainingConfiguration(architecture="nested_unet")
GPU_NODES = [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}]
"""The taint that GPU nodes commonly bear."""


@dsl.pipeline(
    name="metseg-training",
    description="Train, judge, register and promote segmentation models for brain metastases in MRI.",
)
def training(
    reference: str = "data",
    model_name: str = "brain-mets-segmentation",
    layout: str = "auto",
    channels: str = "",
    labels: str = "core",
    mask_threshold: int = -1,
    resample_masks: bool = False,
    image_size: int = 144,
    clahe: bool = True,
    context_slices: int = 0,
    architectures: str = DEFAULT_ARCHITECTURES,
    filters: int = DEFAULTS.filters,
    depth: int = DEFAULTS.depth,
    normalization: str = DEFAULTS.normalization,
    upsampling: str = DEFAULTS.upsampling,
    dropout: float = DEFAULTS.dropout,
    inference_head: str = DEFAULTS.inference_head,
    loss: str = DEFAULTS.loss,
    head_weights: str = DEFAULTS.head_weights,
    epochs: int = DEFAULTS.epochs,
    steps_per_epoch: int = DEFAULTS.steps_per_epoch,
    batch_size: int = DEFAULTS.batch_size,
    optimizer: str = DEFAULTS.optimizer,
    learning_rate: float = DEFAULTS.learning_rate,
    schedule: str = DEFAULTS.schedule,
    warm_up: float = DEFAULTS.warm_up,
    weight_decay: float = DEFAULTS.weight_decay,
    clip_norm: float = DEFAULTS.clip_norm,
    ema: float = DEFAULTS.ema,
    patience: int = DEFAULTS.patience,
    precision: str = DEFAULTS.precision,
    xla: bool = DEFAULTS.xla,
    lesion_share: float = DEFAULTS.lesion_share,
    augmentation: bool = DEFAULTS.augmentation,
    seed: int = DEFAULTS.seed,
    test_time_flips: bool = False,
    floor_dice: float = Rules.floor_dice,
    floor_lesion_f1: float = Rules.floor_lesion_f1,
    promotion: str = "manual",
    run_name: str = "",
    patient_pictures_in_mlflow: bool = True,
    accelerator: str = "nvidia.com/gpu",
    accelerator_count: int = 1,
    accelerator_tolerations: list = GPU_NODES,  # type: ignore[type-arg]
    accelerator_node_selector: dict = {},  # type: ignore[type-arg]  # noqa: B006
) -> None:
    """The run from images to a served model.

    Args:
        reference: Images and masks: a folder, an archive, s3://BUCKET/PREFIX, or git+URL@REVISION#PATH under DVC.
        model_name: Registered model; a champion of other channels or labels is never replaced.
        layout: Layout of the folder, or auto to recognise it.
        channels: Comma-separated channels to use, in order; empty for the layout's default.
        labels: Label values that are lesion: core, whole, enhancing, or comma-separated numbers.
        mask_threshold: Grey value above which a mask that is not binary is lesion; -1 refuses such masks.
        resample_masks: Bring a mask on another grid than its image onto it instead of refusing it.
        image_size: Side in pixels of what the networks see.
        clahe: Contrast-limited adaptive histogram equalisation on or off.
        context_slices: Neighbouring slices on either side that the networks see.
        architectures: Networks to train and compare: nested_unet, attention_unet, unet (the baseline), with commas.
        filters: Convolution filters of the networks' first level; each level doubles them.
        depth: Number of poolings.
        normalization: batch, group or none (the papers').
        upsampling: transpose (the papers'), bilinear or nearest.
        dropout: Share of feature maps dropped in training.
        inference_head: Answer of a network with deep supervision: average of heads, last, or sub-network L1, L2, …
        loss: dice_bce, batch_dice, tversky or focal_tversky.
        head_weights: Weight of each head's loss under deep supervision, shallowest first, as 1,1,1,2; empty for equal.
        epochs: Passes of steps_per_epoch steps; validation follows each.
        steps_per_epoch: Optimiser steps an epoch.
        batch_size: Slices a step.
        optimizer: adamw, or sgd with Nesterov momentum.
        learning_rate: Peak of the learning rate.
        schedule: Learning rate after the warm-up: cosine or poly, which fall to zero, or constant.
        warm_up: Share of the steps in which the learning rate rises to its peak.
        weight_decay: Weight decay of AdamW.
        clip_norm: Largest norm of a weight tensor's gradient; 0 turns clipping off.
        ema: Momentum of the moving average of the weights, which is judged and exported; 0 turns it off.
        patience: Epochs without a better validation Dice after which training ends; 0 trains all epochs.
        precision: float32, mixed_float16, mixed_bfloat16, or auto (mixed_float16 on a GPU, else float32).
        xla: Whether XLA compiles the training step.
        lesion_share: Share of a batch drawn from slices with lesion.
        augmentation: Whether slices are varied on the fly.
        seed: Seed of weights, sampling and augmentation.
        test_time_flips: Whether evaluate also tries averaging over flipped slices; gate and serving never do.
        floor_dice: Least mean Dice on test patients of a model that is registered.
        floor_lesion_f1: Least mean lesion F1 on test patients of a model that is registered.
        promotion: automatic moves the alias champion once the served answer was verified; manual leaves it to a person.
        run_name: Name of the run in MLflow; empty for a default.
        patient_pictures_in_mlflow: Whether pages and pictures that show patients' images are kept in MLflow too.
        accelerator: Resource name of the accelerator for training.
        accelerator_count: Accelerators per training; 0 trains on CPUs.
        accelerator_tolerations: Taints of nodes that a training may be placed on, as a JSON list.
        accelerator_node_selector: Labels that such a node must have, as a JSON object.
    """
    checked = check(
        model_name=model_name,
        layout=layout,
        labels=labels,
        mask_threshold=mask_threshold,
        image_size=image_size,
        context_slices=context_slices,
        architectures=architectures,
        filters=filters,
        depth=depth,
        normalization=normalization,
        upsampling=upsampling,
        dropout=dropout,
        inference_head=inference_head,
        loss=loss,
        head_weights=head_weights,
        epochs=epochs,
        steps_per_epoch=steps_per_epoch,
        batch_size=batch_size,
        optimizer=optimizer,
        learning_rate=learning_rate,
        schedule=schedule,
        warm_up=warm_up,
        weight_decay=weight_decay,
        clip_norm=clip_norm,
        ema=ema,
        patience=patience,
        precision=precision,
        lesion_share=lesion_share,
        floor_dice=floor_dice,
        floor_lesion_f1=floor_lesion_f1,
        promotion=promotion,
        accelerator_count=accelerator_count,
    )
    place(checked, "check", "check parameters", cached=True)
    read = ingest(
        reference=reference,
        layout=layout,
        channels=channels,
        labels=labels,
        mask_threshold=mask_threshold,
        resample_masks=resample_masks,
        model_name=model_name,
        run_name=run_name,
    )
    place(read.after(checked), "ingest")
    cohort, run = read.outputs["cohort"], read.outputs["Output"]

    judged = validate(
        cohort=cohort, run=run, model_name=model_name, patient_pictures_in_mlflow=patient_pictures_in_mlflow
    )
    # The champion that data are held against may be another one than last time.
    place(judged, "validate")
    prepared = preprocess(cohort=cohort, image_size=image_size, clahe=clahe, context_slices=context_slices)
    place(prepared.after(judged), "preprocess", cached=True)

    models, evaluations = {}, {}
    # kfp's local runner can neither loop nor branch: a network that was not asked for is a task that does nothing.
    for architecture in ARCHITECTURES:
        trained = train(
            cohort=cohort,
            records=prepared.outputs["records"],
            run=run,
            architecture=architecture,
            architectures=architectures,
            filters=filters,
            depth=depth,
            normalization=normalization,
            upsampling=upsampling,
            dropout=dropout,
            inference_head=inference_head,
            loss=loss,
            head_weights=head_weights,
            epochs=epochs,
            steps_per_epoch=steps_per_epoch,
            batch_size=batch_size,
            optimizer=optimizer,
            learning_rate=learning_rate,
            schedule=schedule,
            warm_up=warm_up,
            weight_decay=weight_decay,
            clip_norm=clip_norm,
            ema=ema,
            patience=patience,
            precision=precision,
            xla=xla,
            lesion_share=lesion_share,
            augmentation=augmentation,
            seed=seed,
            patient_pictures_in_mlflow=patient_pictures_in_mlflow,
        )
        # Not cached, as evaluate is not: both write to the run in MLflow.
        place(trained, "train", f"train {architecture}").set_env_variable("METSEG_IMAGE", TRAIN_IMAGE)
        on_accelerators(trained, accelerator, accelerator_count, accelerator_tolerations, accelerator_node_selector)
        keep_state(trained)
        scored = evaluate(
            cohort=cohort,
            model=trained.outputs["model"],
            architecture=architecture,
            architectures=architectures,
            test_time_flips=test_time_flips,
            patient_pictures_in_mlflow=patient_pictures_in_mlflow,
        )
        place(scored, "evaluate", f"evaluate {architecture}")
        models[f"{architecture}_model"] = trained.outputs["model"]
        evaluations[architecture] = scored.outputs["evaluation"]

    reigning = evaluate_champion(cohort=cohort, validation=judged.outputs["validation"], run=run, model_name=model_name)
    place(reigning, "evaluate", "evaluate champion")

    registered = register(
        cohort=cohort,
        validation=judged.outputs["validation"],
        **evaluations,
        champion=reigning.outputs["evaluation"],
        run=run,
        model_name=model_name,
        floor_dice=floor_dice,
        floor_lesion_f1=floor_lesion_f1,
    )
    place(registered, "register")

    promoted = promote(
        cohort=cohort,
        validation=judged.outputs["validation"],
        records=prepared.outputs["records"],
        registration=registered.outputs["registration"],
        **models,
        **evaluations,
        champion=reigning.outputs["evaluation"],
        model_name=model_name,
        promotion=promotion,
        patient_pictures_in_mlflow=patient_pictures_in_mlflow,
    )
    place(promoted, "promote")
