"""Names of the settings: `GROUP_NAME`, or `NAME` inside an options field."""

from __future__ import annotations

import difflib
import inspect
import re
from collections.abc import Iterable
from dataclasses import MISSING, dataclass, fields
from typing import Any, get_type_hints

from components.configuration.settings import GROUPS, NO_SETTINGS
from metseg.errors import UsageError

FIELDS = (
    "data_reference",
    "data_labels",
    "data_image_size",
    "train_architectures",
    "train_epochs",
    "train_steps_per_epoch",
    "train_batch_size",
    "gate_dice",
    "gate_promotion",
    "gpu_count",
    "model_name",
    "run_name",
)
"""Settings with a field of their own in Kubeflow's form; with the options fields they are at most 20."""
OPTIONS = {
    "data_options": ("data",),
    "train_options": ("train", "run"),
    "gate_options": ("gate",),
    "pod_options": ("pod", "gpu"),
}
"""Options fields, and the groups whose settings each takes."""
RENAMED = {
    "test_time_flips": "gate_test_time_flips",
    "floor_dice": "gate_dice",
    "floor_lesion_f1": "gate_lesion_f1",
    "promotion": "gate_promotion",
    "patient_pictures_in_mlflow": "run_patient_pictures_in_mlflow",
    "accelerator": "gpu_type",
    "accelerator_count": "gpu_count",
    "accelerator_tolerations": "gpu_tolerations",
    "accelerator_node_selector": "gpu_node_selector",
}  # fmt: skip
"""New names of the settings of version 0.1.0; those of data and training now have the prefix of their group."""


@dataclass(frozen=True)
class Setting:
    """One setting of a run.

    Attributes:
        name: full name, such as `train_epochs`.
        group: such as `train`.
        short: name in its group, such as `epochs`.
        kind: `str`, `int`, `float`, `bool`, `list` or `dict`.
        default: None where a value must be given.
        description: one sentence or two.
    """

    name: str
    group: str
    short: str
    kind: type
    default: Any
    description: str

    @property
    def has_field(self) -> bool:
        """True if Kubeflow's form has a field for it."""
        return self.name in FIELDS

    @property
    def options(self) -> str:
        """The options field that takes it; empty for a setting with a field alone."""
        return next((name for name, groups in OPTIONS.items() if self.group in groups), "")


def _descriptions(owner: type) -> dict[str, str]:
    """Return the descriptions of the attributes in a class's docstring."""
    section = (inspect.getdoc(owner) or "").partition("Attributes:\n")[2]
    entries = re.findall(r"^    (\w+): (.*?)(?=^    \w+: |\Z)", section, re.MULTILINE | re.DOTALL)
    return {name: " ".join(text.split()) for name, text in entries}


def _default(field: Any) -> Any:
    if field.default is not MISSING:
        return field.default
    return field.default_factory() if field.default_factory is not MISSING else None


def _settings() -> dict[str, Setting]:
    settings = {}
    for group, owners in GROUPS.items():
        for owner in owners:
            hints, descriptions = get_type_hints(owner), _descriptions(owner)
            for field in fields(owner):
                if field.name not in NO_SETTINGS:
                    kind = getattr(hints[field.name], "__origin__", hints[field.name])
                    name = f"{group}_{field.name}"
                    default, text = _default(field), descriptions[field.name]
                    settings[name] = Setting(name, group, field.name, kind, default, text[0].upper() + text[1:])
    return settings


SETTINGS = _settings()
"""Every setting by its full name."""


def nearest(name: str, known: Iterable[str]) -> str:
    """Return the known name that is most similar to `name`; empty without one."""
    return next(iter(difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)), "")


def renamed(name: str) -> str:
    """Return the new name of a setting of version 0.1.0; empty for any other."""
    prefixed = (f"{group}_{name}" for group in ("data", "train"))
    return RENAMED.get(name) or next((new for new in prefixed if new in SETTINGS), "")


def find(name: str, groups: Iterable[str] | None = None, where: str = "") -> Setting:
    """Return the setting of that name.

    Args:
        name: its full name; with `groups` its short name does too.
        groups: those that may be meant; None for all, by full names alone.
        where: what to begin the message with, such as `train_options: `.

    Raises:
        UsageError: there is none; the message names the new name of a renamed one, else the nearest.
    """
    allowed = None if groups is None else tuple(groups)
    for group in allowed or ():
        if (setting := SETTINGS.get(f"{group}_{name}")) is not None:
            return setting
    setting = SETTINGS.get(name)
    if setting is not None and (allowed is None or setting.group in allowed):
        return setting
    if setting is not None:
        place = f"give it in {setting.options}" if setting.options else "it has a field of its own"
        raise UsageError(f"{where}{name} does not belong here: {place}")
    if now := renamed(name):
        raise UsageError(f"{where}{name} is named {now} now")
    known = [known for known in SETTINGS.values() if allowed is None or known.group in allowed]
    called = {one.short: one.short if allowed is not None else one.name for one in known}
    like = nearest(name, [*(one.name for one in known), *called])
    meant = (
        f"did you mean {called.get(like, like)}?"
        if like
        else f"known are {', '.join(sorted(one.name for one in known))}"
    )
    raise UsageError(f"{where}there is no setting {name}: {meant}")
