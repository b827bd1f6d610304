"""Hide modules from the import system: those that `PYTHON_HIDDEN_MODULES` lists for the step of this process.

Python imports this module at its start where its folder is on `PYTHONPATH`.
"""

import json
import os
import sys


class WithoutHidden:
    """A finder that does not find hidden modules, as if they were not installed."""

    def __init__(self, finder, modules):
        self._finder = finder
        self._modules = modules

    def __getattr__(self, name):
        return getattr(self._finder, name)

    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in self._modules:
            return None
        return self._finder.find_spec(name, path, target)


def hide():
    listing = json.loads(os.environ["PYTHON_HIDDEN_MODULES"])
    arguments = sys.orig_argv
    if "--function_to_execute" in arguments:
        # A worker of the step has other arguments and inherits the environment.
        step = arguments[arguments.index("--function_to_execute") + 1]
        listing = {"": listing.get(step, [])}
        os.environ["PYTHON_HIDDEN_MODULES"] = json.dumps(listing)
    if modules := frozenset(listing.get("", ())):
        sys.meta_path[:] = [WithoutHidden(finder, modules) for finder in sys.meta_path]


if "PYTHON_HIDDEN_MODULES" in os.environ:
    hide()
