"""The arithmetic of docs/cluster.md: its formulas are what ingest and preprocess write, its example what they give."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from components.preprocess.step import preprocess
from metseg.dataset.data_cache import folder_bytes
from metseg.dataset.ingest import ingest
from metseg.dataset.manifest import Manifest
from metseg.imaging.case import load_image
from pipelines.compiling import COMPILED
from tests.conftest import ROOT

SIDE = 144
FRAMING = 400
"""Bytes of a record or array beside its voxels."""


def canonical(slices: int, height: int, width: int, channels: int, voxel: int) -> int:
    """C of the page."""
    return slices * height * width * (voxel * channels + 1)


def records(slices: int, side: int, channels: int) -> int:
    """R of the page."""
    return slices * side**2 * (4 * channels + 1)


@pytest.fixture(scope="module")
def cohort(tmp_path_factory, phantom_cohort) -> Path:
    folder = tmp_path_factory.mktemp("disk")
    phantom_cohort(folder / "heads", 3)
    ingest(str(folder / "heads"), folder / "cohort")
    preprocess(folder / "cohort", folder / "records", image_size=SIDE)
    return folder


def section() -> str:
    return (ROOT / "docs/cluster.md").read_text(encoding="utf-8").split("## Disk")[1].split("\n## ")[0]


def test_canonical_cases_take_what_the_formula_gives(cohort):
    manifest = Manifest.read(cohort / "cohort/manifest.json")
    voxel = load_image(cohort / "cohort/cases" / manifest.cases[0].case).dtype.itemsize
    channels = len(manifest.channels)
    expected = sum(canonical(one.slices, one.height, one.width, channels, voxel) for one in manifest.cases)
    arrays = sum(path.stat().st_size for path in (cohort / "cohort").rglob("*.npy"))
    assert 0 <= arrays - expected <= 2 * FRAMING * len(manifest.cases)
    assert folder_bytes(cohort / "cohort") - arrays < 0.02 * expected, "the rest is small"
    assert "C = slices × height × width × (bytes of a voxel × channels + 1)" in section()


def test_records_take_what_the_formula_gives(cohort):
    manifest = Manifest.read(cohort / "cohort/manifest.json")
    slices = sum(entry.slices for entry in manifest.cases)
    found = sum(path.stat().st_size for path in (cohort / "records").rglob("*.npy"))
    assert 0 <= found - records(slices, SIDE, len(manifest.channels)) <= FRAMING * slices
    assert "R = slices × side² × (4 × channels + 1)" in section()


def limit() -> float:
    """Bytes that a step's `/tmp` may hold, by the pipeline that is compiled."""
    found = set(re.findall(r"mountPath: /tmp\s+sizeLimit: (\d+)Gi", COMPILED.read_text(encoding="utf-8")))
    return float(found.pop()) * 2**30 if len(found) == 1 else 0.0


def test_the_example_fits_what_a_step_may_write():
    """Ingest of the example is not evicted: neither with fetched data, nor with an archive and its content."""
    rows = dict(re.findall(r"^\| ([^|]+?) \| (\d+) \|$", section(), re.MULTILINE))
    assert float(rows["D (uncompressed)"]) * 1e9 <= limit()
    assert float(rows["ingest's `/tmp`, from an archive"]) * 1e9 <= limit()
    assert float(rows["an archive that does not compress"]) * 2e9 <= limit()
    assert "100 GiB" in section() and limit() == 100 * 2**30


def test_the_example_is_what_the_formulas_give():
    rows = dict(re.findall(r"^\| ([^|]+?) \| (\d+) \|$", section(), re.MULTILINE))
    data = 50e9
    slices = round(data / canonical(1, 240, 240, 3, np.dtype(np.int16).itemsize))
    cases, tensors = data, records(slices, SIDE, 3)
    expected = {
        "D (uncompressed)": data,
        "C": cases,
        "R": tensors,
        "ingest's node": data + cases,
        "ingest's node, from an archive": 2 * data + cases,
        "ingest's `/tmp`, from an archive": 2 * data,
        "what a step's `/tmp` may hold": limit(),
        "a prefix of a bucket, data under DVC": limit(),
        "an archive that does not compress": limit() // 2e9 * 1e9,
        "preprocess's and each train step's node": cases + tensors,
        "three training runs on one node": 3 * (cases + tensors),
        "Kubeflow's bucket, each run": cases + tensors,
    }
    assert {name: float(value) for name, value in rows.items()} == {
        name: round(value / 1e9) for name, value in expected.items()
    }
