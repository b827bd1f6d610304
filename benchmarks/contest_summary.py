"""Summary of the contest's results.

It has means over patients, paired intervals, and the bars.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

from benchmarks.figures import Figure
from metseg.scoring.significance import bootstrap_interval

NETWORKS = ("nested_unet", "attention_unet")
BASELINE, PLAIN = "unet", "plain"
OF = ", "
"""Between the name of a recipe and what a variant of it changes."""
SCORES = {"dice": "Dice", "lesion_f1": "lesion F1"}

Result = Mapping[str, Any]


def finished(results: Sequence[Result], recipes: Sequence[str]) -> list[Result]:
    """Results of those folds and seeds that every recipe has been through."""
    seen = [{(one["fold"], one["seed"]) for one in results if one["recipe"] == recipe} for recipe in recipes]
    common = set.intersection(*seen) if seen else set()
    return [one for one in results if (one["fold"], one["seed"]) in common]


def scores_by_patient(results: Sequence[Result], recipe: str, score: str) -> dict[str, float]:
    """Return a score of each patient under a recipe.

    It is the mean of the training runs that held the patient back.
    """
    values: dict[str, list[float]] = {}
    for one in results:
        if one["recipe"] == recipe:
            for patient, scores in one["patients"].items():
                values.setdefault(patient, []).append(scores[score])
    return {patient: fmean(each) for patient, each in sorted(values.items())}


def better_network(results: Sequence[Result]) -> str:
    """Return the network with the better mean Dice on its validation patients."""

    def validation(recipe: str) -> float:
        return fmean(one["validation"]["dice"] for one in results if one["recipe"] == recipe)

    return max(NETWORKS, key=validation)


def recipe_figures(results: Sequence[Result], recipe: str) -> list[Figure]:
    """Means of a recipe over patients."""
    runs = sum(one["recipe"] == recipe for one in results)
    figures = []
    for score, title in SCORES.items():
        values = list(scores_by_patient(results, recipe, score).values())
        low, high = bootstrap_interval(values)
        note = f"[{low:.3f}, {high:.3f}] over {len(values)} patients, {runs} training runs"
        figures.append(Figure(f"{title} of {recipe}", fmean(values), note=note))
    return figures


def paired_figure(results: Sequence[Result], network: str, other: str, score: str, bar: str = "") -> Figure:
    """Return the mean difference over patients between two recipes.

    Under a `bar` it is the end of its interval that decides.

    Args:
        results: of the same folds and seeds for both.
        network, other: recipes.
        score: a key of `SCORES`.
        bar: `not below`: the upper end of the interval must reach 0; `above`: the lower end must.
    """
    ours, theirs = (scores_by_patient(results, recipe, score) for recipe in (network, other))
    differences = [ours[patient] - theirs[patient] for patient in ours]
    low, high = bootstrap_interval(differences)
    name = f"{SCORES[score]} of {network} minus that of {other}"
    note = f"mean {fmean(differences):+.3f}, 95 % interval [{low:+.3f}, {high:+.3f}], {len(differences)} patients"
    if not bar:
        return Figure(name, fmean(differences), note=note)
    return Figure(f"{name}, {bar}", high if bar == "not below" else low, at_least=0.0, note=note)


def summary_figures(results: Sequence[Result], recipes: Sequence[str], planned: int) -> list[Figure]:
    """All figures of the contest so far.

    Args:
        results: contents of the results' files.
        recipes: which took part.
        planned: training runs that make the contest whole; the bars apply to nothing less.
    """
    results, there = finished(results, recipes), len(results)
    if not results:
        return [Figure("contest", None, note=f"{there} of {planned} training runs done, no fold by all recipes")]
    figures = [figure for recipe in recipes for figure in recipe_figures(results, recipe)]
    codes = {one["code"] for one in results}
    if len(codes) > 1:
        figures.append(Figure("versions of the code that trained", len(codes), at_most=1.0))
    for recipe in recipes:
        base, varied, _ = recipe.partition(OF)
        if varied and base in recipes:
            figures += [paired_figure(results, recipe, base, score) for score in SCORES]
    if not set(recipes) >= {*NETWORKS, BASELINE, PLAIN}:
        return figures
    better = better_network(results)
    for network in NETWORKS:
        figures += [paired_figure(results, network, other, "dice") for other in (BASELINE, PLAIN)]
    if there < planned:
        return [*figures, Figure("bars of the contest", None, note=f"{there} of {planned} training runs done")]
    better_is = f"the better network on validation patients is {better}"
    figures.append(Figure("training runs", float(there), note=better_is))
    figures.append(paired_figure(results, better, BASELINE, "dice", "not below"))
    figures.append(paired_figure(results, better, PLAIN, "dice", "above"))
    return figures
