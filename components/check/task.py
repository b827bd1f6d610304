"""What Kubeflow's task `check` runs."""

from __future__ import annotations

from typing import Any

from components.configuration.parsing import unpack
from components.configuration.resources import checked_resources
from components.execution import executing


def check(configuration: Any, **form: Any) -> tuple[Any, ...]:
    """Check Kubeflow's form, write the configuration, and return what the pods request.

    Args:
        configuration: Kubeflow's artifact to write to.
        form: fields and options fields.

    Returns:
        The values of `checked_resources`, in the order of the component's outputs.
    """
    with executing("check", configuration.path) as folder:
        from components.check.step import check as step

        checked = step(unpack(form))
        checked.write(folder)
        return tuple(checked_resources(checked).values())
