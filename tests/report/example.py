"""A made-up report with plausible figures, for tests and for looking at the page."""

from __future__ import annotations

import tempfile
from functools import cache
from pathlib import Path

from benchmarks.synthetic_run import MadeUp, make_run
from metseg.report.report_data import ReportContent
from metseg.report.run_report import run_content
from metseg.report.run_summary import summarise


@cache
def gathered(wanted: MadeUp) -> ReportContent:
    """What the report of a made-up run shows, by way of the files that its steps leave."""
    with tempfile.TemporaryDirectory() as folder:
        folders = make_run(Path(folder), wanted)
        return run_content(folders, summarise(folders, 10.4))


def example(patients: int = 12, **wanted) -> ReportContent:
    """A report over so many test patients."""
    return gathered(MadeUp(patients=patients, **wanted))
