"""The settings of a run: their groups and names, how they are read from text, and the record that steps hand on."""
