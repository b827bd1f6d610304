"""Inspection of a folder of images before a run: content, detected layout, unused and unreadable files."""
