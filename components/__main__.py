"""Run one step as Kubeflow's launcher calls it: `python3 -m components STEP EXECUTOR_INPUT`.

The compiled pipeline calls this instead of carrying each step's source with it: the code is in the image.
"""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Callable
from typing import Any

MODULES = {"evaluate_champion": "evaluate"}
"""Folder of a component that is not called like it."""


def function_of(name: str) -> Callable[..., Any]:
    """Return the function of the component of that name."""
    module = importlib.import_module(f"components.{MODULES.get(name, name)}.component")
    function: Callable[..., Any] = getattr(module, name).python_func
    return function


def main(name: str, executor_input: str) -> None:
    """Run a component's function on the inputs and outputs that the launcher names.

    Args:
        name: of the component's function.
        executor_input: the launcher's JSON.
    """
    from kfp.dsl.executor import Executor

    Executor(executor_input=json.loads(executor_input), function_to_execute=function_of(name)).execute()


if __name__ == "__main__":
    main(*sys.argv[1:])
