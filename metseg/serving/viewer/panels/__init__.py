"""The parts of the page: each draws one panel, and keeps its arithmetic in the modules beside this package."""
