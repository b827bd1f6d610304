"""The training pipeline: what runs after what, from scans to a served model.

One definition for a laptop (`pipelines.local`) and a Kubeflow cluster (`pipelines/compiled/`).
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from kfp import dsl

from components.check.component import check
from components.configuration.settings import DataSettings, GateSettings, GpuSettings, ModelSettings, TrainSettings
from components.evaluate.component import evaluate, evaluate_champion
from components.images import TRAIN_IMAGE
from components.ingest.component import ingest
from components.preprocess.component import preprocess
from components.promote.component import promote
from components.register.component import register
from components.train.component import train
from components.validate.component import validate
from metseg.training.configuration import DEFAULT_ARCHITECTURES, TrainingConfiguration
from pipelines.placement import keep_state, on_accelerators, place

REQUESTS = ("cpu", "memory", "gpu", "tolerations", "selector")
"""What check gives out for the training of each network, and the task before an evaluation for that."""
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
    """Read the data, judge them, prepare them for the networks."""
    read = ingest(configuration=configuration)
    place(read, "ingest", cpu=ingest_cpu, memory=ingest_memory)
    cohort = read.outputs["cohort"]
    judged = validate(cohort=cohort)
    # The champion that data are compared with may be another one than last time.
    place(judged, "validate", cpu=validate_cpu, memory=validate_memory)
    prepared = preprocess(cohort=cohort)
    place(prepared.after(judged), "preprocess", cpu=preprocess_cpu, memory=preprocess_memory, cached=True)
    return Prepared(
        cohort=cohort,
        validation=judged.outputs["validation"],
        records=prepared.outputs["records"],
        **{name: read.outputs[name] for name in Prepared._fields if name.startswith("champion_")},
    )


def place_evaluation(task: dsl.PipelineTask, name: str, gpu_type: Any, outputs: Mapping[str, Any], before: str) -> None:
    """Give an evaluation what the task before it says that it requests.

    Args:
        task: the evaluation.
        name: what the Kubeflow UI calls it.
        gpu_type: resource name of the accelerators.
        outputs: of the task before it.
        before: what the names of these outputs begin with.
    """
    cpu, memory, gpu, tolerations, selector = (outputs[f"{before}_{one}"] for one in REQUESTS)
    place(task, "evaluate", name, cpu=cpu, memory=memory)
    on_accelerators(task, gpu_type, gpu, tolerations, selector)


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
    """Train one network and score it; one that was not asked for is a task that does nothing."""
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
        checked = check(
            networks=",".join(networks),
            data_reference=data_reference,
            data_labels=data_labels,
            data_image_size=data_image_size,
            data_options=data_options,
            train_architectures=train_architectures,
            train_epochs=train_epochs,
            train_steps_per_epoch=train_steps_per_epoch,
            train_batch_size=train_batch_size,
            train_options=train_options,
            gate_dice=gate_dice,
            gate_promotion=gate_promotion,
            gate_options=gate_options,
            gpu_count=gpu_count,
            pod_options=pod_options,
            model_name=model_name,
            run_name=run_name,
        )
        place(checked, "check", cached=True)
        asked = checked.outputs

        prepared = data(
            configuration=asked["configuration"],
            ingest_cpu=asked["ingest_cpu"],
            ingest_memory=asked["ingest_memory"],
            validate_cpu=asked["validate_cpu"],
            validate_memory=asked["validate_memory"],
            preprocess_cpu=asked["preprocess_cpu"],
            preprocess_memory=asked["preprocess_memory"],
        )
        cohort, records = prepared.outputs["cohort"], prepared.outputs["records"]

        evaluations = {}
        for network in networks:
            scored = candidate(
                cohort=cohort,
                records=records,
                architecture=network,
                **{name: asked[f"{network}_{name}"] for name in REQUESTS},
                gpu_type=asked["gpu_type"],
            ).set_display_name(network)
            evaluations[network] = scored.outputs["evaluation"]

        champion = evaluate_champion(cohort=cohort)
        place_evaluation(champion, "evaluate champion", asked["gpu_type"], prepared.outputs, "champion")

        registered = register(
            validation=prepared.outputs["validation"],
            champion=champion.outputs["evaluation"],
            **evaluations,
        )
        place(registered, "register", cpu=asked["register_cpu"], memory=asked["register_memory"])

        promoted = promote(registration=registered.outputs["registration"])
        place(promoted, "promote", cpu=asked["promote_cpu"], memory=asked["promote_memory"])

    return training


training = training_pipeline(DEFAULT_ARCHITECTURES.split(","))
"""The pipeline for the networks that a run trains unless asked otherwise."""
