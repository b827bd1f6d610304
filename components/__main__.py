"""Run one step as Kubeflow's launcher calls it: `python3 -m components STEP EXECUTOR_INPUT`.

The compiled pipeline calls this instead of carrying each step's source with it: the code is in the image.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
from collections.abc import Callable
from typing import Any

MODULES = {"evaluate_champion": "evaluate"}
"""Folder of a component with another name."""


def function_of(name: str) -> Callable[..., Any]:
    """Return the function of the component of that name."""
    module = importlib.import_module(f"components.{MODULES.get(name, name)}.component")
    component = getattr(module, name)
    function: Callable[..., Any] = getattr(component, "python_func", component)
    return function


def _import_for_running() -> None:
    """Import kfp as it does inside a task: without its client and its decorators.

    Images do not hold the client.
    """
    os.environ["_KFP_RUNTIME"] = "true"
    from kfp import dsl

    dsl.component = lambda **options: lambda function: function


def main(name: str, executor_input: str) -> None:
    """Run a component's function on the inputs and outputs that the launcher names.

    Args:
        name: of the component's function.
        executor_input: the launcher's JSON.
    """
    _import_for_running()
    from kfp.dsl.executor import Executor

    Executor(executor_input=json.loads(executor_input), function_to_execute=function_of(name)).execute()


if __name__ == "__main__":
    main(*sys.argv[1:])
