"""The settings as a table: on a terminal, and as docs/settings.md."""

from __future__ import annotations

import json
from typing import Any

from components.configuration.setting_names import SETTINGS, Setting

INTRODUCTION = """# Settings of a run

This page lists every setting of a run with its default. `metseg settings --markdown` prints it.

Each setting has one name everywhere: in `make run PARAMS='NAME=VALUE …'`, in `--param NAME=VALUE` of `metseg run`,
`submit` and `tune`, and in Kubeflow's form. A setting without its own field goes into one of the form's four options
fields, quoted as in a shell (`NAME=VALUE …`) or as JSON. There a name may omit its group:
`epochs=40` in `train_options` is `train_epochs=40`.
"""


def shown(value: Any) -> str:
    """Return a default as a user types it; empty for a required setting."""
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value)


def place(setting: Setting) -> str:
    """Return where Kubeflow's form takes a setting."""
    return "its own field" if setting.has_field else setting.options


def markdown() -> str:
    """Return the page docs/settings.md."""
    lines = [INTRODUCTION, "| setting | default | in Kubeflow's form | |", "|---|---|---|---|"]
    for setting in SETTINGS.values():
        default = f"`{text}`" if (text := shown(setting.default).replace("|", "\\|")) else ""
        description = setting.description.replace("|", "\\|")
        lines.append(f"| `{setting.name}` | {default} | {place(setting)} | {description} |")
    return "\n".join(lines) + "\n"
