"""What the name of a case says about patient and timepoint."""

from __future__ import annotations

import re

BRATS = re.compile(r"(?P<patient>.+-\d{5})-(?P<timepoint>\d{3})")
_TIMEPOINTS = (
    BRATS,
    re.compile(r"(?P<patient>sub-[A-Za-z0-9]+)_(?P<timepoint>ses-[A-Za-z0-9]+)"),
    re.compile(r"(?P<patient>.+?)[-_](?P<timepoint>(?:t|tp|ses|session|visit|time|timepoint)[-_]?\d+)", re.IGNORECASE),
)


def patient_and_timepoint(case: str) -> tuple[str, str]:
    """Patient and timepoint that the case's name gives: as BraTS, as BIDS, or ending in `_t1`, `-tp2`, `_visit3`, …

    A name of none of these forms is the patient's own, and the timepoint is empty.
    """
    for pattern in _TIMEPOINTS:
        match = pattern.fullmatch(case)
        if match:
            return match["patient"], match["timepoint"]
    return case, ""
