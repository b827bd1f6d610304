"""The verdict on one page of HTML that opens anywhere."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import TYPE_CHECKING, Any

from metseg.dataset.manifest import Manifest
from metseg.dataset.split import SPLITS
from metseg.validation.drift import LARGE, MODERATE
from metseg.validation.thumbnails import Thumbnails, nothing

if TYPE_CHECKING:
    from metseg.validation.cohort_validation import Finding, Verdict

CASES_SHOWN = 12

_STYLE = """
* { box-sizing: border-box; }
body { font: 15px/1.5 system-ui, "Segoe UI", "DejaVu Sans", sans-serif; color: #1b2733; margin: 0;
background: #f4f6f8; }
main { max-width: 66rem; margin: 0 auto; padding: 2rem 1.25rem 4rem; }
h1 { font-size: 1.5rem; margin: 0; } h2 { font-size: 1.15rem; margin: 2.2rem 0 .7rem; }
h3 { font-size: 1rem; margin: 0; } p { margin: .35rem 0; } code { font-size: .85em; overflow-wrap: anywhere; }
.head { display: flex; flex-wrap: wrap; gap: .8rem; align-items: center; margin-bottom: .6rem; }
.verdict { padding: .15rem .75rem; border-radius: 1rem; color: #fff; font-weight: 600; }
.passed { background: #1d7a46; } .failed { background: #b3261e; }
.tiles { display: flex; flex-wrap: wrap; gap: .8rem; margin: 1.1rem 0; }
.tile { background: #fff; border: 1px solid #dde3e9; border-radius: .5rem; padding: .55rem 1rem; min-width: 7.5rem; }
.tile b { display: block; font-size: 1.45rem; line-height: 1.25; } 
.tile span, .muted { color: #5b6875; font-size: .88rem; }
.card { background: #fff; border: 1px solid #dde3e9; border-left: .3rem solid #c98a00; border-radius: .5rem;
padding: .8rem 1.1rem; margin: .7rem 0; } .card.critical { border-left-color: #b3261e; }
.card .expected { color: #5b6b7a; font-weight: normal; }
.card .found { overflow-wrap: anywhere; } .card .remedy { color: #0b4f8a; }
.pictures { display: flex; flex-wrap: wrap; gap: .7rem; margin-top: .7rem; }
figure { margin: 0; width: 150px; } 
figure img { display: block; max-width: 150px; background: #000; border-radius: .3rem; }
figcaption { font-size: .74rem; line-height: 1.3; color: #5b6875; overflow-wrap: anywhere; margin-top: .2rem; }
table { border-collapse: collapse; width: 100%; background: #fff; border: 1px solid #dde3e9; border-radius: .5rem; }
th, td { text-align: left; padding: .35rem .7rem; vertical-align: top; border-bottom: 1px solid #e7ebef; }
th { font-size: .85rem; color: #5b6875; font-weight: 600; }
.number { text-align: right; font-variant-numeric: tabular-nums; }
tr.large td { background: #fdeceb; } tr.moderate td { background: #fff6e0; } tr:last-child td { border-bottom: 0; }
summary { cursor: pointer; font-weight: 600; margin: 1.4rem 0 .4rem; } li { margin: .1rem 0; }
"""


def render_page(manifest: Manifest, verdict: Verdict, pictures: Thumbnails = nothing) -> str:
    """The verdict as a page of HTML without scripts and without anything from elsewhere.

    Args:
        manifest: of the cohort.
        verdict: the judgement.
        pictures: gives the thumbnails of a finding's places.
    """
    mark, word = ("passed", "passed") if verdict.passed else ("failed", "unfit for training")
    broken = {finding.expectation for finding in (*verdict.critical, *verdict.warnings)}
    holds = [name for name in verdict.expectations if name not in broken]
    sections = [
        f"<div class='head'><h1>Validation of the data</h1><span class='verdict {mark}'>{word}</span></div>",
        _cohort(manifest),
        _tiles(manifest, verdict),
        _findings("What stops the run", "critical", verdict.critical, pictures),
        _findings("What to look at", "warning", verdict.warnings, pictures),
        "<h2>Splits</h2>" + _splits(manifest),
        _drift(verdict),
        _list("How the data were read", manifest.notes, opened=True),
        _list(f"What holds ({len(holds)} of {len(verdict.expectations)} expectations)", holds),
    ]
    return (
        "<!doctype html>\n<html lang='en'><head><meta charset='utf-8'>"
        "<meta name='viewport' content='width=device-width, initial-scale=1'><title>Validation of the data</title>"
        f"<style>{_STYLE}</style></head><body><main>\n{''.join(sections)}\n</main></body></html>\n"
    )


def _cohort(manifest: Manifest) -> str:
    """What was judged."""
    return (
        f"<p>{escape(manifest.reference)}, version <code>{escape(manifest.version)}</code></p>"
        f"<p class='muted'>layout {escape(manifest.layout)} · channels {escape(', '.join(manifest.channels))} · "
        f"labels {escape(', '.join(manifest.labels))}</p>"
    )


def _tiles(manifest: Manifest, verdict: Verdict) -> str:
    counts = verdict.counts()
    figures = {
        "patients": len(manifest.patients()),
        "cases": len(manifest.cases),
        "slices": sum(case.slices for case in manifest.cases),
        "critical": counts["critical"],
        "warnings": counts["warnings"],
        "expectations": counts["expectations"],
    }
    tiles = "".join(f"<div class='tile'><b>{value:,}</b><span>{name}</span></div>" for name, value in figures.items())
    return f"<div class='tiles'>{tiles}</div>"


def _splits(manifest: Manifest) -> str:
    """The splits in numbers."""
    headings = ("patients", "cases", "slices", "with lesion", "cases moved by force")
    rows = "".join(
        _table_row(
            split,
            len(manifest.patients(split)),
            len(cases),
            sum(case.slices for case in cases),
            sum(case.lesion_slices for case in cases),
            sum(case.forced for case in cases),
        )
        for split, cases in ((split, manifest.cases_in(split)) for split in SPLITS)
    )
    return f"<table><tr><th>split</th>{''.join(_heading(name) for name in headings)}</tr>{rows}</table>"


def _heading(name: str) -> str:
    return f"<th class='number'>{name}</th>"


def _table_row(name: str, *values: Any, mark: str = "") -> str:
    cells = "".join(f"<td class='number'>{value}</td>" for value in values)
    return f"<tr class='{mark}'><td>{escape(name)}</td>{cells}</tr>"


def _findings(title: str, severity: str, findings: Sequence[Finding], pictures: Thumbnails) -> str:
    cards = "".join(_card(severity, finding, pictures) for finding in findings)
    return f"<h2>{title}</h2>{cards}" if cards else ""


def _card(severity: str, finding: Finding, pictures: Thumbnails) -> str:
    """One finding: what was expected and found, where, what to do, and pictures."""
    rest = len(finding.cases) - CASES_SHOWN
    cases = ", ".join(finding.cases[:CASES_SHOWN]) + (f" and {rest} more" if rest > 0 else "")
    shown = "".join(
        f"<figure><img alt='' src='{one.uri}'><figcaption>{escape(one.caption)}</figcaption></figure>"
        for one in pictures(finding.places)
    )
    return (
        f"<section class='card {severity}'>"
        f"<h3><span class='expected'>expected:</span> {escape(finding.expectation)}</h3>"
        f"<p class='found'>{escape(finding.found)}</p><p class='remedy'>{escape(finding.remedy)}</p>"
        + (f"<p class='muted'>cases: {escape(cases)}</p>" if cases else "")
        + (f"<div class='pictures'>{shown}</div>" if shown else "")
        + "</section>"
    )


def _drift(verdict: Verdict) -> str:
    """The comparison with the champion's training data, statistics that moved most first."""
    if not verdict.reference:
        return "<h2>Drift</h2><p class='muted'>There is no champion's training data to compare with.</p>"
    headings = ("champion's median", "median", "PSI", "PSI by chance", "KS", "KS p, adjusted")
    rows = ""
    for row in sorted(verdict.drift, key=lambda one: -float(one["psi"])):
        beyond = row["psi"] > row["psi_by_chance"]
        mark = "large" if beyond and row["psi"] > LARGE else "moderate" if beyond and row["psi"] > MODERATE else ""
        names = ("reference_median", "median", "psi", "psi_by_chance", "ks", "ks_p")
        rows += _table_row(row["statistic"], *(f"{row[name]:.3g}" for name in names), mark=mark)
    return (
        f"<h2>Drift</h2><p>Against the champion's training data, version <code>{escape(verdict.reference)}</code>. "
        "One value a case; an index counts where it is beyond what chance reaches.</p>"
        f"<table><tr><th>statistic</th>{''.join(_heading(name) for name in headings)}</tr>{rows}</table>"
    )


def _list(title: str, lines: Sequence[str], opened: bool = False) -> str:
    if not lines:
        return ""
    items = "".join(f"<li>{escape(line)}</li>" for line in lines)
    return f"<details{' open' * opened}><summary>{escape(title)}</summary><ul>{items}</ul></details>"
