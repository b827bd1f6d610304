"""Inspection of a folder of images before a run."""
