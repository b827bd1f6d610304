"""The settings of a run by group, and the configuration that holds them all.

Each setting has its default, its rule and its description here; those of the group `train` are in
`metseg.training.configuration`, which owns them. The configuration is one artifact of check. Ingest writes it into the
cohort, and each step into its output, so that a task takes only the artifacts it works on: Argo keeps every input of a
task six times over.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from components.configuration.node_selectors import is_resource, selector_problem, tolerations_problem
from metseg.errors import DataError, UsageError
from metseg.files import read_json, write_json
from metseg.serving_defaults import MODEL_NAME
from metseg.tracking.mlflow_runs import EXPERIMENT
from metseg.training.configuration import DEFAULT_ARCHITECTURES, TrainingConfiguration, architectures_of, check_replicas

LARGEST_IMAGE, MOST_CONTEXT, MOST_ACCELERATORS = 1024, 8, 64
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
"""A valid name of a registered model, of a folder of the base path and of a model in TensorFlow Serving."""
CPU = re.compile(r"(?=.*[1-9])(\d+|\d+m|\d+\.\d{1,3})")
MEMORY = re.compile(r"[1-9]\d*(Mi|Gi|M|G)")

LONGEST_EXPERIMENT = 256
"""Characters of an experiment's name in every database that MLflow writes to."""

Rules = Mapping[str, tuple[Callable[[Any], object], str]]


def _require(group: str, settings: object, rules: Rules) -> None:
    """Raise UsageError, by the setting's full name, for the first value that breaks its rule."""
    for name, (holds, expected) in rules.items():
        value = getattr(settings, name)
        if not holds(value):
            raise UsageError(f"{group}_{name}={value!r}: expected {expected}")


def _is_title(text: str) -> bool:
    return 0 < len(text) <= LONGEST_EXPERIMENT and text.isprintable() and text == text.strip()


@dataclass(frozen=True)
class DataSettings:
    """Source and preparation of the data.

    Attributes:
        reference: Images and masks: a folder, an archive, s3://BUCKET/PREFIX, or git+URL@REVISION#PATH under DVC.
        layout: Layout of the folder, or auto to recognise it.
        channels: Comma-separated channels to use, in order; empty for the layout's default.
        labels: Label values that are lesion: core, whole, enhancing, or comma-separated numbers.
        mask_threshold: Grey value above which a mask that is not binary is lesion; -1 refuses such masks.
        resample_masks: Resample a mask that lies on another grid than its image instead of refusing it.
        image_size: Side in pixels of the images that the networks see.
        clahe: Contrast-limited adaptive histogram equalisation on or off.
        context_slices: Neighbouring slices on either side that the networks see.
    """

    reference: str
    layout: str = "auto"
    channels: str = ""
    labels: str = "core"
    mask_threshold: int = -1
    resample_masks: bool = False
    image_size: int = 144
    clahe: bool = True
    context_slices: int = 0

    def __post_init__(self) -> None:
        """Raise UsageError for a value out of range.

        `check` validates layout and labels, whose values the readers define.
        """
        rules: Rules = {
            "reference": (bool, "a folder, an archive, s3://BUCKET/PREFIX or git+URL@REVISION#PATH"),
            "mask_threshold": (lambda value: -1 <= value < 255, "a grey value of 0 to 254, or -1"),
            "image_size": (lambda value: 2 <= value <= LARGEST_IMAGE, f"2 to {LARGEST_IMAGE}"),
            "context_slices": (lambda value: 0 <= value <= MOST_CONTEXT, f"0 to {MOST_CONTEXT}"),
        }
        _require("data", self, rules)


@dataclass(frozen=True)
class TrainSettings:
    """Networks that are trained, with the settings in `recipe`.

    Attributes:
        architectures: Networks to train and compare, with commas: nested_unet, attention_unet, unet (the baseline).
    """

    architectures: str = DEFAULT_ARCHITECTURES
    recipe: TrainingConfiguration = field(default_factory=lambda: TrainingConfiguration("nested_unet"))

    def __post_init__(self) -> None:
        """Raise UsageError for a network that does not exist."""
        architectures_of(self.architectures)


@dataclass(frozen=True)
class GateSettings:
    """Floors of the gate, and the promotion.

    Attributes:
        dice: Smallest mean Dice on test patients of a model that is registered.
        lesion_f1: Smallest mean lesion F1 on test patients of a model that is registered.
        promotion: automatic makes the model champion once its served predictions are verified; manual stops before.
        test_time_flips: Evaluate averaging over flipped slices too; gate and serving never use it.
    """

    dice: float = 0.5
    lesion_f1: float = 0.3
    promotion: str = "manual"
    test_time_flips: bool = False

    def __post_init__(self) -> None:
        """Raise UsageError for a value out of range."""
        share = (lambda value: 0.0 <= value <= 1.0, "0 to 1")
        promotion = (lambda value: value in ("automatic", "manual"), "automatic or manual")
        _require("gate", self, {"dice": share, "lesion_f1": share, "promotion": promotion})


@dataclass(frozen=True)
class GpuSettings:
    """Accelerators of training.

    Attributes:
        count: Accelerators of each training run; 0 trains on CPUs.
        type: Resource name of the accelerator.
        tolerations: Taints of nodes that pods with accelerators may be placed on, as a JSON list.
        node_selector: Labels that such a node must have, as a JSON object.
    """

    count: int = 1
    type: str = "nvidia.com/gpu"
    tolerations: list[dict[str, object]] = field(
        default_factory=lambda: [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}]
    )
    node_selector: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Raise UsageError for a value that Kubernetes would refuse."""
        rules: Rules = {
            "count": (lambda value: 0 <= value <= MOST_ACCELERATORS, f"0 to {MOST_ACCELERATORS}"),
            "type": (is_resource, "a resource name such as nvidia.com/gpu"),
        }
        _require("gpu", self, rules)
        for name, problem in (
            ("tolerations", tolerations_problem(self.tolerations)),
            ("node_selector", selector_problem(self.node_selector)),
        ):
            if problem:
                raise UsageError(f"gpu_{name}={getattr(self, name)!r}: {problem}")


@dataclass(frozen=True)
class PodSettings:
    """Requests of the steps' pods.

    CPU is in cores. Memory is request and limit at once.

    Attributes:
        ingest_cpu: CPU cores that ingest requests.
        ingest_memory: Memory of ingest.
        validate_cpu: CPU cores that validate requests.
        validate_memory: Memory of validate.
        preprocess_cpu: CPU cores that preprocess requests.
        preprocess_memory: Memory of preprocess.
        train_cpu: CPU cores that each training run requests.
        train_memory: Memory of each training run.
        evaluate_cpu: CPU cores that each evaluation requests.
        evaluate_memory: Memory of each evaluation.
        evaluate_gpu_count: Accelerators of each evaluation, 0 or 1; 0 evaluates on CPUs.
        register_cpu: CPU cores that register requests.
        register_memory: Memory of register.
        promote_cpu: CPU cores that promote requests.
        promote_memory: Memory of promote.
    """

    ingest_cpu: str = "1"
    ingest_memory: str = "4Gi"
    validate_cpu: str = "1"
    validate_memory: str = "4Gi"
    preprocess_cpu: str = "2"
    preprocess_memory: str = "4Gi"
    train_cpu: str = "2"
    train_memory: str = "16Gi"
    evaluate_cpu: str = "2"
    evaluate_memory: str = "8Gi"
    evaluate_gpu_count: int = 0
    register_cpu: str = "500m"
    register_memory: str = "2Gi"
    promote_cpu: str = "1"
    promote_memory: str = "8Gi"

    def __post_init__(self) -> None:
        """Raise UsageError for a quantity that Kubernetes would refuse."""
        by_ending: Rules = {
            "cpu": (CPU.fullmatch, "CPU cores such as 2, 0.5 or 500m"),
            "memory": (MEMORY.fullmatch, "memory such as 512Mi or 16Gi"),
            # An evaluation takes one patient after the other and uses one accelerator.
            "count": (lambda value: value in (0, 1), "0 or 1"),
        }
        _require("pod", self, {name: by_ending[name.rpartition("_")[2]] for name in self.__dataclass_fields__})


@dataclass(frozen=True)
class ModelSettings:
    """Registry entry of the result.

    Attributes:
        name: Registered model; a champion of other channels or labels is never replaced.
    """

    name: str = MODEL_NAME

    def __post_init__(self) -> None:
        """Raise UsageError for a name that the registry or the server cannot take."""
        expected = "letters, digits, dots, dashes and underscores, such as brain-mets"
        _require("model", self, {"name": (NAME.fullmatch, expected)})


@dataclass(frozen=True)
class RunSettings:
    """The run in MLflow.

    Attributes:
        name: Name of the run in MLflow; empty for a default.
        experiment: MLflow experiment of the run; a run that Kubeflow's MLflow plugin opened stays in its own.
        patient_pictures_in_mlflow: Keep pages and pictures that show patients' images in MLflow too.
    """

    name: str = ""
    experiment: str = EXPERIMENT
    patient_pictures_in_mlflow: bool = True

    def __post_init__(self) -> None:
        """Raise UsageError for a name that MLflow cannot take, or with invisible characters."""
        expected = f"1 to {LONGEST_EXPERIMENT} characters that can be seen, with no blank around them"
        _require("run", self, {"experiment": (_is_title, expected)})


GROUPS: dict[str, tuple[type, ...]] = {
    "data": (DataSettings,),
    "train": (TrainSettings, TrainingConfiguration),
    "gate": (GateSettings,),
    "gpu": (GpuSettings,),
    "model": (ModelSettings,),
    "pod": (PodSettings,),
    "run": (RunSettings,),
}
NO_SETTINGS = ("recipe", "architecture")
"""Fields of these classes that the run itself fills in."""
FILE = "configuration.json"
FORMAT = 1
"""Of that file."""


@dataclass(frozen=True)
class Configuration:
    """Every setting of a run, by group."""

    data: DataSettings
    train: TrainSettings
    gate: GateSettings
    gpu: GpuSettings
    model: ModelSettings
    pod: PodSettings
    run: RunSettings

    def __post_init__(self) -> None:
        """Raise UsageError for a number that is not finite, or for contradicting settings."""
        for name, value in self.values().items():
            if isinstance(value, float) and not math.isfinite(value):
                raise UsageError(f"{name}={value}: expected a finite number")
        smallest = 2**self.train.recipe.depth
        if self.data.image_size < smallest:
            raise UsageError(
                f"data_image_size={self.data.image_size}: expected {smallest} or more (2 to the power of train_depth)"
            )
        if self.gpu.count:  # with 0, training uses the devices of its machine
            check_replicas(self.gpu.count, self.train.recipe.batch_size, self.train.recipe.xla)

    @classmethod
    def of(cls, values: Mapping[str, object]) -> Configuration:
        """Build the configuration from values by full name.

        A setting that is not given has its default.

        Raises:
            UsageError: a value is out of range; the message names the setting and what is expected.
        """

        def group(name: str) -> dict[str, Any]:
            return {key.removeprefix(f"{name}_"): value for key, value in values.items() if key.startswith(f"{name}_")}

        train = group("train")
        architectures = train.pop("architectures", TrainSettings.architectures)
        first = architectures_of(architectures)[0]
        return cls(
            data=DataSettings(**{"reference": "", **group("data")}),
            train=TrainSettings(architectures, TrainingConfiguration(architecture=first, **train)),
            **{name: owners[0](**group(name)) for name, owners in GROUPS.items() if name not in ("data", "train")},
        )

    @property
    def architectures(self) -> tuple[str, ...]:
        """The networks that the run trains."""
        return architectures_of(self.train.architectures)

    def training(self, architecture: str) -> TrainingConfiguration:
        """Return the settings of one network's training."""
        return replace(self.train.recipe, architecture=architecture)

    def values(self) -> dict[str, object]:
        """Return every setting by its full name."""
        groups = {field.name: asdict(getattr(self, field.name)) for field in fields(self)}
        groups["train"] |= groups["train"].pop("recipe")
        return {
            f"{group}_{name}": value
            for group, settings in groups.items()
            for name, value in settings.items()
            if name not in NO_SETTINGS
        }

    def write(self, folder: Path) -> None:
        """Write the configuration into an artifact's folder."""
        write_json(folder / FILE, {"format": FORMAT, **self.values()})

    @classmethod
    def read(cls, folder: Path) -> Configuration:
        """Read what `write` wrote.

        Raises:
            DataError: the file is of another version of metseg.
        """
        values = read_json(folder / FILE)
        if values.pop("format", None) != FORMAT:
            raise DataError(f"{folder / FILE} was written by another version of metseg: start a new run")
        return cls.of(values)
