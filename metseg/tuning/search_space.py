"""Dimensions of a search: `train_learning_rate=5e-4..1e-2:log`, `train_loss=dice_bce|tversky`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

from metseg.errors import UsageError
from metseg.training.configuration import TrainingConfiguration

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

PREPROCESSING = ("data_image_size", "data_clahe", "data_context_slices")
"""Parameters of preprocess that a search may vary or fix."""
TRAINING = tuple(f"train_{field.name}" for field in fields(TrainingConfiguration) if field.name != "architecture")
"""Parameters of train that a search may vary or fix."""
DEFAULT_SEARCH = (
    "train_learning_rate=5e-4..1e-2:log",
    "train_loss=dice_bce|focal_tversky",
    "train_lesion_share=0.3..0.8",
    "train_dropout=0..0.3",
    "train_weight_decay=1e-5..1e-2:log",
)
"""Dimensions of a search by default."""
GRAMMAR = "NAME=LOW..HIGH, NAME=LOW..HIGH:log or NAME=VALUE|VALUE|…"
DIGITS = 3
"""Significant digits of a drawn number, so that a user can read and repeat it."""

Convert = Callable[[str, str], Any]
"""Makes the value of a parameter, by its name, of text."""


@dataclass(frozen=True)
class Dimension:
    """One parameter that a search varies.

    Attributes:
        name: of the parameter.
        choices: values to choose among; empty for a range.
        low, high: ends of a range, both included.
        log: whether a range is drawn from on a logarithmic scale.
    """

    name: str
    choices: tuple[Any, ...] = ()
    low: float = 0.0
    high: float = 0.0
    log: bool = False

    def distribution(self) -> BaseDistribution:
        """Return the distribution that Optuna draws from."""
        from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

        if self.choices:
            return CategoricalDistribution(self.choices)
        if isinstance(self.low, int) and isinstance(self.high, int):
            return IntDistribution(self.low, self.high, log=self.log)
        return FloatDistribution(self.low, self.high, log=self.log)


def readable(value: Any) -> Any:
    """Round a drawn number to `DIGITS` digits; return anything else as it is."""
    return float(f"{value:.{DIGITS}g}") if isinstance(value, float) else value


def parse_dimension(text: str, convert: Convert) -> Dimension:
    """Parse one `--search`.

    Args:
        text: see `GRAMMAR`.
        convert: raises `UsageError` for an invalid value.

    Raises:
        UsageError: the text does not follow the grammar, or names a setting that a search cannot vary.
    """
    name, separator, space = text.partition("=")
    known = (*PREPROCESSING, *TRAINING)
    if not separator or name not in known:
        raise UsageError(f"--search {text}: expected {GRAMMAR} with a NAME of {', '.join(sorted(known))}")
    if ".." not in space:
        choices = tuple(convert(name, value) for value in space.split("|"))
        if len(set(choices)) < max(2, len(choices)):
            raise UsageError(f"--search {text}: expected two or more different values, separated by |")
        return Dimension(name, choices)
    ends, _, scale = space.partition(":")
    low, high = (convert(name, end) for end in ends.split("..", 1))
    ordered = all(type(end) in (int, float) for end in (low, high)) and low < high
    if not ordered or scale not in ("", "log") or (scale == "log" and low <= 0):
        raise UsageError(f"--search {text}: expected numbers LOW..HIGH with LOW below HIGH, and above 0 with :log")
    return Dimension(name, (), low, high, scale == "log")


def parse_search(texts: Sequence[str], convert: Convert) -> tuple[Dimension, ...]:
    """Parse all dimensions of a search, each setting once.

    Raises:
        UsageError: one is wrong, or a parameter is named twice.
    """
    dimensions = tuple(parse_dimension(text, convert) for text in texts)
    names = [dimension.name for dimension in dimensions]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise UsageError(f"--search names {', '.join(twice)} twice")
    return dimensions
