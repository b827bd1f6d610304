"""The verdict on one page of HTML that opens anywhere."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import TYPE_CHECKING

from metseg.dataset.manifest import Manifest
from metseg.dataset.split import SPLITS

if TYPE_CHECKING:
    from metseg.validation.judge import Finding, Verdict

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #1d2530; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.1rem; margin-top: 2rem; }
table { border-collapse: collapse; width: 100%; } th, td { text-align: left; padding: .35rem .6rem; vertical-align: top;
border-bottom: 1px solid #d8dee6; } td { overflow-wrap: anywhere; }
.verdict { display: inline-block; padding: .2rem .7rem; border-radius: .3rem; color: #fff; }
.passed { background: #1d7a46; } .failed { background: #b3261e; }
"""


def render_page(manifest: Manifest, verdict: Verdict) -> str:
    """The verdict as a page of HTML without scripts and without anything from elsewhere."""
    mark, word = ("passed", "passed") if verdict.passed else ("failed", "unfit for training")
    broken = {finding.expectation for finding in (*verdict.critical, *verdict.warnings)}
    holds = [name for name in verdict.expectations if name not in broken]
    sections = [
        f"<h1>Validation of the data <span class='verdict {mark}'>{word}</span></h1>",
        _cohort(manifest),
        _findings("What stops the run", verdict.critical),
        _findings("What to look at", verdict.warnings),
        _list("How the data were read", manifest.notes),
        _list(f"What holds ({len(holds)} of {len(verdict.expectations)} expectations)", holds),
    ]
    return (
        "<!doctype html>\n<html lang='en'><head><meta charset='utf-8'><title>Validation of the data</title>"
        f"<style>{_STYLE}</style></head><body>\n{''.join(sections)}\n</body></html>\n"
    )


def _cohort(manifest: Manifest) -> str:
    """What was judged: reference, version and the splits in numbers."""
    rows = "".join(
        f"<tr><td>{split}</td><td>{len(manifest.patients(split))}</td><td>{len(cases)}</td>"
        f"<td>{sum(case.slices for case in cases)}</td><td>{sum(case.lesion_slices for case in cases)}</td>"
        f"<td>{sum(case.forced for case in cases)}</td></tr>"
        for split, cases in ((split, manifest.cases_in(split)) for split in SPLITS)
    )
    return (
        f"<p>{escape(manifest.reference)}, version <code>{escape(manifest.version)}</code>, layout "
        f"{escape(manifest.layout)}, channels {escape(', '.join(manifest.channels))}, labels "
        f"{escape(', '.join(manifest.labels))}.</p><table><tr><th>split</th><th>patients</th><th>cases</th>"
        f"<th>slices</th><th>with lesion</th><th>cases moved by force</th></tr>{rows}</table>"
    )


def _findings(title: str, findings: Sequence[Finding]) -> str:
    if not findings:
        return ""
    rows = "".join(
        f"<tr><td>{escape(one.expectation)}</td><td>{escape(one.found)}</td><td>{escape(', '.join(one.cases))}</td>"
        f"<td>{escape(one.remedy)}</td></tr>"
        for one in findings
    )
    return (
        f"<h2>{title}</h2><table><tr><th>expected</th><th>found</th><th>cases</th><th>what to do</th></tr>{rows}"
        "</table>"
    )


def _list(title: str, lines: Sequence[str]) -> str:
    if not lines:
        return ""
    return f"<h2>{escape(title)}</h2><ul>{''.join(f'<li>{escape(line)}</li>' for line in lines)}</ul>"
