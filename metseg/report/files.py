"""What a run leaves for people and programs, by the names of its files."""

SUMMARY = "summary.json"
REPORT = "report.html"
OVERLAY = "overlay.png"
FIGURES = "figures"
"""Folder of the charts, each a PNG; none shows a patient's image."""
