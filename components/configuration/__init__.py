"""The settings of a run: groups, names, text formats and record."""
