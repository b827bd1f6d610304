"""Hide modules from the import system: those that `METSEG_TEST_HIDDEN_MODULES` lists for the step of this process.

Python imports this module at its start where its folder is on `PYTHONPATH`.
"""

import json
import os
import sys


class Hidden:
    """Finder of nothing: an import of a hidden module fails as if it were not installed."""

    def __init__(self, modules):
        self.modules = frozenset(modules)

    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in self.modules:
            raise ModuleNotFoundError(f"No module named {name!r} (hidden: not in this image)", name=name)


def hide():
    listing = json.loads(os.environ["METSEG_TEST_HIDDEN_MODULES"])
    arguments = sys.orig_argv
    if "--function_to_execute" in arguments:
        # A worker of the step has other arguments and inherits the environment.
        step = arguments[arguments.index("--function_to_execute") + 1]
        listing = {"": listing.get(step, [])}
        os.environ["METSEG_TEST_HIDDEN_MODULES"] = json.dumps(listing)
    if modules := listing.get(""):
        sys.meta_path.insert(0, Hidden(modules))


if "METSEG_TEST_HIDDEN_MODULES" in os.environ:
    hide()
