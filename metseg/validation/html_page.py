"""One page of HTML with the result of a validation; it opens without a network."""

from __future__ import annotations

from pathlib import Path

from metseg.dataset.manifest import Manifest
from metseg.dataset.split import SPLITS
from metseg.html_templates import render
from metseg.message_text import listed
from metseg.validation.drift import LARGE, MODERATE
from metseg.validation.result import DriftRow, ValidationResult
from metseg.validation.thumbnails import CaseThumbnails

MAX_CASES = 12
TEMPLATES = Path(__file__).parent


def render_page(manifest: Manifest, result: ValidationResult, thumbnails: CaseThumbnails | None = None) -> str:
    """Render the result as a page of HTML without scripts and external resources.

    Args:
        manifest: of the cohort.
        result: of its validation.
        thumbnails: returns the pictures of a finding's places; None shows none.
    """
    failed = {finding.expectation for finding in (*result.critical, *result.warnings)}
    return render(
        TEMPLATES,
        "validation.html.j2",
        manifest=manifest,
        result=result,
        splits=SPLITS,
        thumbnails=thumbnails,
        drift=sorted(result.drift, key=lambda row: -row.psi),
        drift_level=drift_level,
        held=[name for name in result.expectations if name not in failed],
        case_names=lambda cases: listed(cases, MAX_CASES),
    )


def drift_level(row: DriftRow) -> str:
    """Return the level of drift: `large`, `moderate` or an empty string.

    The index must exceed the level's mark and its value by chance.
    """
    if row.psi <= max(MODERATE, row.psi_by_chance):
        return ""
    return "large" if row.psi > LARGE else "moderate"
