"""Compare recipes on a TCGA-LGG folder: `make contest DATA=FOLDER`, `python -m benchmarks.contest FOLDER`.

`--variant train_ema=0` and the like compare a default with another value of one setting, on whatever folder of scans.
Hours of training, so no part of `make bench`, and made to be done in pieces: a stopped training run is
resumed, and each result stays in the folder of results and is not made again. Every patient is tested once a round, in
the fold that holds it back; a fold is trained with another seed in each round.
"""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import json
import logging
import os
import shutil
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.contest_summary import OF, PLAIN, summary_figures
from benchmarks.figures import OUT, machine, table, write_figures
from components.configuration.parsing import parse
from metseg.dataset.manifest import Manifest
from metseg.dataset.split import position
from metseg.errors import UsageError
from metseg.files import read_json, write_json
from metseg.imaging.preprocessing.specification import PreprocessingSpecification
from metseg.process_environment import apply_defaults
from metseg.training.configuration import TrainingConfiguration

if TYPE_CHECKING:
    import keras

    from metseg.scoring.operating_point import OperatingPoint

BASE = "nested_unet"
FIRST_ATTEMPT: dict[str, Any] = {
    "architecture": "nested_unet",
    "inference_head": "last",
    "loss": "batch_dice",
    "learning_rate": 1e-3,
    "schedule": "constant",
    "warm_up": 0.0,
    "weight_decay": 0.0,
    "clip_norm": 0.0,
    "ema": 0.0,
    "augmentation": False,
}
"""What a tutorial does: Adam at the rate that Keras gives it, Dice alone, slices as they come, one head."""
RECIPES: dict[str, dict[str, Any]] = {
    **{name: {"architecture": name} for name in ("nested_unet", "attention_unet", "unet")},
    PLAIN: FIRST_ATTEMPT,
}
"""The networks with the defaults of a run, and the first attempt."""
IMAGE_SIZE = "data_image_size"
BUDGET: dict[str, Any] = {
    IMAGE_SIZE: 144,
    "train_filters": 8,
    "train_depth": 4,
    "train_epochs": 25,
    "train_steps_per_epoch": 100,
    "train_batch_size": 8,
}
"""Settings of all training runs unless `--param` changes them."""
TRAINING = {f"train_{field.name}" for field in dataclasses.fields(TrainingConfiguration)}
SEEDS = (1, 2, 3)
VALIDATION_SHARE = 4
"""Of the patients that a fold does not hold back, every fourth validates."""


@dataclass(frozen=True)
class Job:
    """One training run: a recipe with a seed, on all folds but one."""

    recipe: str
    seed: int
    fold: int

    @property
    def name(self) -> str:
        """Name of its result."""
        return f"{self.recipe.replace(OF, '+')}-fold{self.fold}-seed{self.seed}"


def plan(recipes: Sequence[str], folds: int, rounds: int) -> list[Job]:
    """Return all training runs, round by round and fold by fold.

    The recipes of a fold follow each other; seeds change from fold to fold.
    """
    return [
        Job(recipe, SEEDS[(fold + turn) % len(SEEDS)], fold)
        for turn in range(rounds)
        for fold in range(folds)
        for recipe in recipes
    ]


def split_of(patients: Sequence[str], folds: int, fold: int) -> dict[str, str]:
    """Return the split of each patient if `fold` is held back.

    The folds have one size, in the order of the patients' hashes.
    """
    ranked = sorted(patients, key=position)
    splits = {patient: "test" for rank, patient in enumerate(ranked) if rank % folds == fold}
    others = [patient for patient in ranked if patient not in splits]
    splits |= {patient: "train" if rank % VALIDATION_SHARE else "validation" for rank, patient in enumerate(others)}
    return splits


@dataclass(frozen=True)
class Cohort:
    """The data as one fold sees them."""

    cohort: Path
    records: Path

    @property
    def manifest(self) -> Manifest:
        """With the splits of the fold."""
        return Manifest.read(self.cohort / "manifest.json")

    @property
    def specification(self) -> PreprocessingSpecification:
        """Of the records."""
        return PreprocessingSpecification.read(self.records / "preprocessing.json")


def prepared(data: Path, out: Path, image_size: int) -> Cohort:
    """The folder read and preprocessed, once."""
    from components.preprocess.step import preprocess
    from metseg.dataset.ingest import ingest

    whole = Cohort(out / "data" / "cohort", out / "data" / f"records-{image_size}")
    if not whole.cohort.exists():
        ingest(str(data), whole.cohort)
    if not whole.records.exists():
        preprocess(whole.cohort, whole.records, image_size=image_size)
    return whole


def held_back(whole: Cohort, out: Path, folds: int, fold: int) -> Cohort:
    """The same data with one fold to test on, by links."""
    view = out / "data" / f"fold-{fold}-of-{folds}-{whole.records.name}"
    manifest = whole.manifest
    splits = split_of(manifest.patients(), folds, fold)
    entries = [dataclasses.replace(entry, split=splits[entry.patient]) for entry in manifest.cases]
    shutil.rmtree(view, ignore_errors=True)
    for split in ("train", "validation", "test"):
        (view / "records" / split).mkdir(parents=True)
    for before, after in zip(manifest.cases, entries, strict=True):
        source = whole.records / before.split / f"{before.case}.npy"
        os.link(source, view / "records" / after.split / source.name)
    shutil.copyfile(whole.records / "preprocessing.json", view / "records" / "preprocessing.json")
    (view / "cohort").mkdir()
    (view / "cohort" / "cases").symlink_to((whole.cohort / "cases").resolve())
    dataclasses.replace(manifest, cases=entries).write(view / "cohort" / "manifest.json")
    return Cohort(view / "cohort", view / "records")


def parameter(text: str) -> dict[str, Any]:
    """Return a setting of all training runs and its value, from `NAME=VALUE`.

    It is a setting of training, or the image size.

    Raises:
        argparse.ArgumentTypeError: there is no such setting, or it does not take the value.
    """
    try:
        ((name, value),) = parse([text], "").items()
    except UsageError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    if name not in TRAINING and name != IMAGE_SIZE:
        raise argparse.ArgumentTypeError(f"{text}: expected {IMAGE_SIZE} or a setting such as train_ema=0")
    return {name: value}


def variant(text: str) -> dict[str, Any]:
    """Return the setting that a variant changes and its value, from `train_NAME=VALUE`.

    Raises:
        argparse.ArgumentTypeError: there is no such setting, or it does not take the value.
    """
    given = parameter(text)
    if IMAGE_SIZE in given:
        raise argparse.ArgumentTypeError(f"{text}: a variant changes a setting of a training run, such as train_ema=0")
    return given


def recipes_of(names: Sequence[str], variants: Sequence[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Return the recipes by name.

    They are those of the contest or, if there are variants, each variant next to its base.
    """
    if not variants:
        return {name: RECIPES[name] for name in names or RECIPES}
    chosen = {name: RECIPES[name] for name in names or [BASE]}
    varied = {
        f"{name}{OF}{key}={value}": {**RECIPES[name], key.removeprefix("train_"): value}
        for one in variants
        for key, value in one.items()
        for name in chosen
    }
    return chosen | varied


def configured(job: Job, recipe: dict[str, Any], data: Cohort, budget: dict[str, Any]) -> TrainingConfiguration:
    """Return the settings of a training run."""
    from metseg.training.batches import SliceStore

    settings = {**budget, **recipe, "seed": job.seed}
    if job.recipe == PLAIN:
        store = SliceStore(data.records / "train", 0)
        settings["lesion_share"] = round(len(store.lesion) / len(store), 3)
        settings["head_weights"] = ",".join(["0"] * (settings["depth"] - 1) + ["1"])
    return TrainingConfiguration(**settings)


def held_back_scores(network: keras.Model, data: Cohort, point: OperatingPoint) -> dict[str, dict[str, Any]]:
    """Return the scores of each patient held back.

    They are measured in original geometry, at the operating point of the validation patients.
    """
    import numpy as np

    from metseg.imaging.case import load_image, load_mask, read_case
    from metseg.scoring.operating_point import apply
    from metseg.scoring.patient_scores import per_patient, score_patient
    from metseg.training.model_evaluation import independent_probability

    scored = []
    for entry in data.manifest.cases_in("test"):
        folder = data.cohort / "cases" / entry.case
        geometry = read_case(folder).geometry
        probability = independent_probability(network, np.asarray(load_image(folder), np.float32), data.specification)
        mask = apply(probability, point.threshold, point.minimum_volume_mm3, geometry.spacing)
        truth = np.asarray(load_mask(folder)) > 0
        scored.append((entry.patient, score_patient(truth, mask, geometry.spacing, geometry.spacing_known)))
    return {patient: dataclasses.asdict(scores) for patient, scores in per_patient(scored).items()}


def trained(job: Job, data: Cohort, configuration: TrainingConfiguration, state: Path) -> dict[str, Any]:
    """Train, choose the operating point and score; return the content of the result's file."""
    import keras

    from metseg.training.loop import forget, train_heads
    from metseg.training.network_building import inference_network
    from metseg.training.operating_point_search import judge_heads

    def report(epoch: int, figures: dict[str, float]) -> None:
        shown = f"loss {figures['loss']:.4f}, validation Dice {figures['val_dice']:.4f}"
        print(f"  {job.name} epoch {epoch + 1}/{configuration.epochs}: {shown}", flush=True)

    keras.utils.clear_session()
    wall, cpu = time.perf_counter(), time.process_time()
    stacked, history = train_heads(data.records, 0, configuration, state, report)
    head = configuration.inference_head
    point = judge_heads(stacked, data.cohort, data.records, data.manifest, data.specification, head).point
    network = inference_network(stacked, configuration.inference_head)
    result = {
        **dataclasses.asdict(job),
        "settings": dataclasses.asdict(configuration),
        "validation": {"dice": point.dice, "lesion_f1": point.lesion_f1, "threshold": point.threshold},
        "patients": held_back_scores(network, data, point),
        "parameters": network.count_params(),
        "history": history,
        # Of the last piece, if the training run was stopped and resumed.
        "wall_seconds": round(time.perf_counter() - wall, 1),
        "cpu_seconds": round(time.process_time() - cpu, 1),
        "machine": machine(),
    }
    forget(state)
    return result


def result_of(job: Job, recipe: dict[str, Any], data: Cohort, budget: dict[str, Any], out: Path) -> dict[str, Any]:
    """Return the result of a training run, made now unless it exists.

    Raises:
        RuntimeError: it is there, but of other settings or data.
    """
    import tensorflow as tf

    from metseg.tracking.code_version import training_code_digest

    configuration = configured(job, recipe, data, budget)
    made_from = configuration.digest(data.manifest.digest(), data.specification.digest())
    path = out / f"{job.name}.json"
    if path.exists():
        stored: dict[str, Any] = read_json(path)
        if stored["made_from"] != made_from:
            raise RuntimeError(f"{path} was made with other settings or data: remove it, or give another --out")
        return stored
    tf.config.experimental.enable_op_determinism()
    code = training_code_digest()
    state = out / "state" / hashlib.sha256(f"{job.name} {made_from} {code}".encode()).hexdigest()
    print(f"{job.name}: {configuration.epochs} × {configuration.steps_per_epoch} steps", flush=True)
    result = {**trained(job, data, configuration, state), "made_from": made_from, "code": code}
    write_json(path, result)
    return result


def parser() -> argparse.ArgumentParser:
    """The options."""
    options = argparse.ArgumentParser(prog="python -m benchmarks.contest", description=__doc__)
    options.add_argument("data", type=Path, help="folder in the layout of TCGA-LGG, or in any other that ingest reads")
    options.add_argument("--out", type=Path, default=OUT / "contest", help="folder of results (%(default)s)")
    options.add_argument("--recipe", choices=RECIPES, action="append", help="may be given again; all unless given")
    options.add_argument(
        "--variant", type=variant, action="append", help="train_NAME=VALUE of a setting; may be given again"
    )
    options.add_argument("--folds", type=int, default=3)
    options.add_argument("--rounds", type=int, default=1, help="times that every patient is tested, 1 to 3")
    options.add_argument("--jobs", type=int, default=0, help="training runs to finish now; all unless given")
    defaults = " ".join(f"{name}={value}" for name, value in BUDGET.items())
    options.add_argument(
        "--param",
        type=parameter,
        action="append",
        help=f"NAME=VALUE of a setting of all training runs; may be given again ({defaults})",
    )
    return options


def main() -> int:
    """Train what is missing, print what is known, write the JSON."""
    given = parser().parse_args()
    apply_defaults()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    logging.getLogger("metseg.training").setLevel(logging.INFO)
    recipes = recipes_of(given.recipe or [], given.variant or [])
    jobs = plan(list(recipes), given.folds, given.rounds)
    budget = BUDGET | {name: value for one in given.param or [] for name, value in one.items()}
    whole = prepared(given.data, given.out, budget.pop(IMAGE_SIZE))
    views = [held_back(whole, given.out, given.folds, fold) for fold in range(given.folds)]
    budget = {name.removeprefix("train_"): value for name, value in budget.items()}
    results: list[dict[str, Any]] = []
    made = 0
    for place, job in enumerate(jobs, 1):
        there = (given.out / f"{job.name}.json").exists()
        if not there and given.jobs and made == given.jobs:
            continue
        results.append(result_of(job, recipes[job.recipe], views[job.fold], budget, given.out))
        if not there:
            made += 1
            seconds = sum(result["cpu_seconds"] for result in results) / len(results)
            left = len(jobs) - place
            print(
                f"[{place}/{len(jobs)}] {job.name}; {left} left, about {seconds * left / 60:.0f} CPU minutes",
                flush=True,
            )
    figures = summary_figures(results, list(recipes), len(jobs))
    print("\n" + table(figures))
    write_figures(given.out / "contest.json", figures, settings=json.loads(json.dumps(vars(given), default=str)))
    return 1 if any(figure.verdict in ("miss", "not measured") for figure in figures) else 0


if __name__ == "__main__":
    sys.exit(main())
