"""Kubeflow's task `check`."""

from __future__ import annotations

from typing import Any

from components.configuration.parsing import unpack
from components.configuration.pod_requests import checked_resources
from components.step_execution import executing


def check(networks: str, configuration: Any, **form: Any) -> tuple[Any, ...]:
    """Check Kubeflow's form, write the configuration, and return the requests of the pods.

    Args:
        networks: those that the pipeline has tasks for, with commas.
        configuration: Kubeflow's artifact to write to.
        form: fields and options fields.

    Returns:
        The values of `checked_resources`, in the order of the component's outputs.
    """
    with executing("check", configuration.path) as folder:
        from components.check.step import check as step
        from components.check.step import require_tasks

        checked = step(unpack(form))
        require_tasks(checked, networks.split(","))
        checked.write(folder)
        return tuple(checked_resources(checked).values())
