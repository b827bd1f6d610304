"""Configuration of a training run, validated once."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from metseg.errors import UsageError

ARCHITECTURES = ("nested_unet", "attention_unet", "unet")
"""Names in `models.ARCHITECTURES`, listed here without Keras."""
DEFAULT_ARCHITECTURES = "nested_unet,attention_unet"
"""Architectures of a run by default; `unet` is the baseline."""
NORMALIZATIONS = ("batch", "group", "none")
UPSAMPLINGS = ("transpose", "bilinear", "nearest")
LOSSES = {
    "dice_bce": "models.losses.dice_bce:DiceBCE",
    "batch_dice": "models.losses.dice:BatchDice",
    "tversky": "models.losses.tversky:Tversky",
    "focal_tversky": "models.losses.focal_tversky:FocalTversky",
}
"""Class of each loss, named here without Keras; a new loss is a file next to these and a row here."""
OPTIMIZERS = ("adamw", "sgd")
SCHEDULES = ("cosine", "poly", "constant")
PRECISIONS = ("auto", "float32", "mixed_float16", "mixed_bfloat16")


def _one_of(names: Sequence[str]) -> str:
    return f"{', '.join(names[:-1])} or {names[-1]}"


def architectures_of(architectures: str) -> tuple[str, ...]:
    """Return the architectures of a run from comma-separated names.

    Raises:
        UsageError: a name is unknown or given twice, or there is none.
    """
    names = tuple(name.strip() for name in architectures.split(",") if name.strip())
    if not names or len(set(names)) < len(names) or not set(names) <= set(ARCHITECTURES):
        raise UsageError(
            f"train_architectures={architectures!r}: expected one or more of {', '.join(ARCHITECTURES)}, "
            "each once, separated by commas"
        )
    return names


@dataclass(frozen=True)
class TrainingConfiguration:
    """Settings of a training run, which decide the weights on a CPU.

    Attributes:
        architecture: `nested_unet`, `attention_unet` or `unet`.
        filters: convolution filters of the first level; each level doubles them.
        depth: number of poolings.
        normalization: `batch`, `group` or `none`.
        upsampling: `transpose`, `bilinear` or `nearest`.
        dropout: share of features dropped in training.
        inference_head: exported output of a network with deep supervision: the `average` of its heads, the `last`, or
            the smaller sub-network of a level, `L1` to the depth.
        loss: `dice_bce`, `batch_dice`, `tversky` or `focal_tversky`.
        head_weights: weight of the loss of each head of a network with deep supervision, comma-separated, the
            shallowest head first, one a level of `depth`; empty: all the same.
        epochs: passes of `steps_per_epoch` steps; validation follows each.
        steps_per_epoch: optimiser steps an epoch.
        batch_size: slices a step.
        optimizer: `adamw`, or `sgd` with Nesterov momentum.
        learning_rate: peak of the schedule.
        schedule: the rate after the warm-up: `cosine` and `poly` fall to zero, `constant` stays.
        warm_up: share of the steps in which the rate rises linearly to its peak.
        weight_decay: decoupled from the gradient.
        clip_norm: largest norm of the gradient of a weight tensor; 0: none.
        ema: momentum of the exponential moving average of the weights, which is validated and exported; 0: none.
        patience: epochs without a better validation Dice after which training ends; 0: never.
        precision: `float32`, `mixed_float16`, `mixed_bfloat16`, or `auto` (mixed_float16 on a GPU, else float32).
        xla: compile the training step by XLA; the exported graph never is.
        lesion_share: share of a batch drawn from slices with lesion; the rest is drawn from slices without.
        augmentation: augment slices on the fly.
        seed: of initial weights, sampling and augmentation.
    """

    architecture: str
    filters: int = 8
    depth: int = 4
    normalization: str = "batch"
    upsampling: str = "transpose"
    dropout: float = 0.0
    inference_head: str = "average"
    loss: str = "dice_bce"
    head_weights: str = ""
    epochs: int = 20
    steps_per_epoch: int = 50
    batch_size: int = 8
    optimizer: str = "adamw"
    learning_rate: float = 2e-3
    schedule: str = "cosine"
    warm_up: float = 0.1
    weight_decay: float = 1e-4
    clip_norm: float = 1.0
    ema: float = 0.98
    patience: int = 0
    precision: str = "auto"
    xla: bool = False
    lesion_share: float = 0.5
    augmentation: bool = True
    seed: int = 2023

    def __post_init__(self) -> None:
        """Raise UsageError for a value out of range, naming the parameter."""
        inference_heads = ("average", "last", *(f"L{level}" for level in range(1, self.depth + 1)))
        weights = self.supervision_weights()
        rules = {
            "architecture": (self.architecture in ARCHITECTURES, _one_of(ARCHITECTURES)),
            "filters": (self.filters >= 1, "1 or more"),
            "depth": (1 <= self.depth <= 6, "1 to 6"),
            "head_weights": (
                weights is None
                or (len(weights) == self.depth and min(weights) >= 0.0 and 0.0 < sum(weights) < math.inf),
                f"{self.depth} numbers with commas, one for each level of depth, not all 0; or none",
            ),
            "normalization": (self.normalization in NORMALIZATIONS, _one_of(NORMALIZATIONS)),
            "upsampling": (self.upsampling in UPSAMPLINGS, _one_of(UPSAMPLINGS)),
            "dropout": (0.0 <= self.dropout < 1.0, "0 to less than 1"),
            "inference_head": (self.inference_head in inference_heads, _one_of(inference_heads)),
            "loss": (self.loss in LOSSES, _one_of(tuple(LOSSES))),
            "epochs": (self.epochs >= 1, "1 or more"),
            "steps_per_epoch": (self.steps_per_epoch >= 1, "1 or more"),
            "batch_size": (self.batch_size >= 1, "1 or more"),
            "optimizer": (self.optimizer in OPTIMIZERS, _one_of(OPTIMIZERS)),
            "learning_rate": (self.learning_rate > 0.0, "more than 0"),
            "schedule": (self.schedule in SCHEDULES, _one_of(SCHEDULES)),
            "warm_up": (0.0 <= self.warm_up < 1.0, "0 to less than 1"),
            "weight_decay": (self.weight_decay >= 0.0, "0 or more"),
            "clip_norm": (self.clip_norm >= 0.0, "0 or more"),
            "patience": (self.patience >= 0, "0 or more"),
            "precision": (self.precision in PRECISIONS, _one_of(PRECISIONS)),
            "ema": (0.0 <= self.ema < 1.0, "0 to less than 1"),
            "lesion_share": (0.0 <= self.lesion_share <= 1.0, "0 to 1"),
        }
        for name, (holds, expected) in rules.items():
            if not holds:
                raise UsageError(f"train_{name}={getattr(self, name)!r} is out of range: expected {expected}")

    def supervision_weights(self) -> list[float] | None:
        """Return `head_weights` as numbers; None if all heads weigh the same.

        Raises:
            UsageError: they are not numbers.
        """
        try:
            return [float(weight) for weight in self.head_weights.split(",")] if self.head_weights else None
        except ValueError:
            raise UsageError(
                f"train_head_weights={self.head_weights!r}: expected numbers separated by commas, such as 1,1,1,2"
            ) from None

    def digest(self, *more: str) -> str:
        """Return the SHA-256 of the settings and of everything else that decides the weights."""
        text = json.dumps([asdict(self), *more], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()


def check_replicas(replicas: int, batch_size: int, xla: bool) -> None:
    """Raise if several replicas cannot train with these settings.

    Raises:
        UsageError: parts of a batch would be unlike, or XLA would compile a step that several devices share.
    """
    if batch_size % replicas:  # Keras adds up the parts to see their shape, which must be one
        raise UsageError(
            f"train_batch_size={batch_size} cannot be divided among {replicas} accelerators: choose a multiple "
            f"of {replicas}, or another gpu_count"
        )
    if replicas > 1 and xla:
        raise UsageError(
            f"train_xla=true compiles the step of one device, but there are {replicas} accelerators: "
            "set train_xla=false or gpu_count=1"
        )
