"""Kubeflow component of the train step."""

from kfp import dsl

from components.images import TRAIN_IMAGE


@dsl.component(base_image=TRAIN_IMAGE, install_kfp_package=False)
def train(
    cohort: dsl.Input[dsl.Dataset],  # type: ignore[valid-type]
    records: dsl.Input[dsl.Dataset],  # type: ignore[valid-type]
    run: str,
    architecture: str,
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
    xla: bool,
    lesion_share: float,
    augmentation: bool,
    seed: int,
    patient_pictures_in_mlflow: bool,
    model: dsl.Output[dsl.Model],  # type: ignore[valid-type]
    metrics: dsl.Output[dsl.Metrics],  # type: ignore[valid-type]
    page: dsl.Output[dsl.HTML],  # type: ignore[valid-type]
) -> None:
    """Train one network where it was asked for, choose its operating point on validation patients, export it once."""
    from pathlib import Path

    from components.execution import executing

    with executing(f"train {architecture}", model.path) as folder:
        from components.candidates import declines
        from metseg.report.step_pages import write_declined_page, write_training_page

        if declines(folder, architecture, architectures):
            write_declined_page(Path(page.path), architecture)
            return
        from components.train.step import train as step
        from metseg.files import read_json
        from metseg.training.configuration import TrainingConfiguration

        chosen = TrainingConfiguration(
            architecture=architecture,
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
        )
        step(Path(cohort.path), Path(records.path), run, folder, chosen, patient_pictures_in_mlflow)
        training = read_json(folder / "training.json")
        metrics.log_metric("parameters", training["parameters"])
        metrics.log_metric("validation_dice", training["operating_point"]["dice"])
        metrics.log_metric("validation_lesion_f1", training["operating_point"]["lesion_f1"])
        write_training_page(Path(page.path), folder)
