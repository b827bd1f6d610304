"""The training pipeline: the order of the steps, from scans to a served model.

One definition for a laptop (`pipelines.local`) and a Kubeflow cluster (`pipelines/compiled/`).
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

from kfp import dsl

from components.check.component import check
from components.configuration.settings import DataSettings, GateSettings, GpuSettings, ModelSettings, TrainSettings
from components.container_images import TRAIN_IMAGE
from components.evaluate.component import evaluate, evaluate_champion
from components.ingest.component import ingest
from components.preprocess.component import preprocess
from components.promote.component import promote
from components.register.component import register
from components.train.component import train
from components.validate.component import validate
from metseg.training.configuration import DEFAULT_ARCHITECTURES, TrainingConfiguration
from pipelines.placement import REQUESTS, keep_state, on_accelerators, place, place_evaluation

DATA_REQUESTS = tuple(f"{step}_{kind}" for step in ("ingest", "validate", "preprocess") for kind in ("cpu", "memory"))
RECIPE = TrainingConfiguration(architecture="nested_unet")


class Prepared(NamedTuple):
    """Outputs of the nested pipeline `data`."""

    cohort: dsl.Dataset
    validation: dsl.Artifact
    records: dsl.Dataset
    champion_cpu: str
    champion_memory: str
    champion_gpu: str
    champion_tolerations: list  # type: ignore[type-arg]
    champion_selector: dict  # type: ignore[type-arg]


@dsl.pipeline(name="data")
def data(
    configuration: dsl.Input[dsl.Artifact],
    ingest_cpu: str,
    ingest_memory: str,
    validate_cpu: str,
    validate_memory: str,
    preprocess_cpu: str,
    preprocess_memory: str,
) -> Prepared:
    """Read the data, validate them, and prepare them for the networks."""
    read = ingest(configuration=configuration)
    place(read, "ingest", cpu=ingest_cpu, memory=ingest_memory)
    cohort = read.outputs["cohort"]
    validated = validate(cohort=cohort)
    # Not cached: the champion that data are compared with may have changed.
    place(validated, "validate", cpu=validate_cpu, memory=validate_memory)
    prepared = preprocess(cohort=cohort).after(validated)
    place(prepared, "preprocess", cpu=preprocess_cpu, memory=preprocess_memory, cached=True)
    return Prepared(
        cohort=cohort,
        validation=validated.outputs["validation"],
        records=prepared.outputs["records"],
        **{name: read.outputs[name] for name in Prepared._fields if name.startswith("champion_")},
    )


class Scored(NamedTuple):
    """Output of the nested pipeline `candidate`."""

    evaluation: dsl.Artifact


@dsl.pipeline(name="candidate")
def candidate(
    cohort: dsl.Input[dsl.Dataset],
    records: dsl.Input[dsl.Dataset],
    architecture: str,
    cpu: str,
    memory: str,
    gpu: str,
    tolerations: list,  # type: ignore[type-arg]
    selector: dict,  # type: ignore[type-arg]
    gpu_type: str,
) -> Scored:
    """Train one network and score it; the tasks of an unselected network are no-ops."""
    trained = train(cohort=cohort, records=records, architecture=architecture)
    # Neither is cached: both write to the run in MLflow.
    place(trained, "train", cpu=cpu, memory=memory).set_env_variable("METSEG_IMAGE", TRAIN_IMAGE)
    on_accelerators(trained, gpu_type, gpu, tolerations, selector)
    keep_state(trained)
    scored = evaluate(cohort=cohort, model=trained.outputs["model"])
    place_evaluation(scored, "evaluate", gpu_type, trained.outputs, "evaluate")
    return Scored(evaluation=scored.outputs["evaluation"])


def training_pipeline(networks: Sequence[str]) -> Any:
    """Return the pipeline for some networks: the run from images to a served model.

    kfp's local runner can neither loop nor branch, so each network has a task of its own.

    Args:
        networks: of `metseg.training.configuration.ARCHITECTURES`; a run may train fewer of them.
    """

    @dsl.pipeline(
        name="metseg-training",
        description="Train, judge, register and promote segmentation models for brain metastases in MRI.",
    )
    def training(
        data_reference: str,
        data_labels: str = DataSettings.labels,
        data_image_size: int = DataSettings.image_size,
        data_options: str = "",
        train_architectures: str = TrainSettings.architectures,
        train_epochs: int = RECIPE.epochs,
        train_steps_per_epoch: int = RECIPE.steps_per_epoch,
        train_batch_size: int = RECIPE.batch_size,
        train_options: str = "",
        gate_dice: float = GateSettings.dice,
        gate_promotion: str = GateSettings.promotion,
        gate_options: str = "",
        gpu_count: int = GpuSettings.count,
        pod_options: str = "",
        model_name: str = ModelSettings.name,
        run_name: str = "",
    ) -> None:
        form = dict(locals())
        checked = check(**form | {"networks": ",".join(networks)})
        place(checked, "check", cached=True)
        requests = checked.outputs

        prepared = data(
            configuration=checked.outputs["configuration"], **{name: requests[name] for name in DATA_REQUESTS}
        ).outputs

        evaluations = {}
        for network in networks:
            scored = candidate(
                cohort=prepared["cohort"],
                records=prepared["records"],
                architecture=network,
                gpu_type=requests["gpu_type"],
                **{name: requests[f"{network}_{name}"] for name in REQUESTS},
            ).set_display_name(network)
            evaluations[network] = scored.outputs["evaluation"]

        champion = evaluate_champion(cohort=prepared["cohort"])
        place_evaluation(champion, "evaluate champion", requests["gpu_type"], prepared, "champion")

        registered = register(validation=prepared["validation"], champion=champion.outputs["evaluation"], **evaluations)
        place(registered, "register", cpu=requests["register_cpu"], memory=requests["register_memory"])

        promoted = promote(registration=registered.outputs["registration"])
        place(promoted, "promote", cpu=requests["promote_cpu"], memory=requests["promote_memory"])

    return training


training = training_pipeline(DEFAULT_ARCHITECTURES.split(","))
"""The pipeline for the networks that a run trains by default."""
