"""Time the validation of 100,000 slices' statistics: `python -m benchmarks.validation`."""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas

from benchmarks.figures import OUT, Figure, table, write_figures
from benchmarks.processes import peak_memory_mb
from metseg.dataset.manifest import CaseEntry, Manifest
from metseg.dataset.split import split_patients

SLICES_A_CASE = 155
CHANNELS = ("t1n", "t2f", "t1c")
SEED = 2023
MOST_SECONDS = 30.0


def made_up_cohort(slices: int, channels: tuple[str, ...]) -> tuple[Manifest, pandas.DataFrame]:
    """Manifest and statistics of at least `slices` slices, as ingest would write them.

    Perceptual hashes of a case's slices drift by a few bits from slice to slice, as those of a head do, and one case
    in a hundred is a slightly altered copy of another.
    """
    generator = np.random.default_rng(SEED)
    cases = -(-slices // SLICES_A_CASE)
    assigned = split_patients([f"P{number:05d}" for number in range(cases)])
    frames, entries = [], []
    hashes = _hashes(generator, cases, len(channels))
    for number in range(cases):
        case, split = f"P{number:05d}-000", assigned[f"P{number:05d}"].split
        sizes = [generator.integers(5, 4000, size).tolist() for size in generator.poisson(0.05, SLICES_A_CASE)]
        voxels = np.array([sum(size) for size in sizes])
        for place, channel in enumerate(channels):
            frames.append(_rows(generator, case, channel, sizes, hashes[number, :, place]))
        entries.append(
            CaseEntry(
                case,
                f"P{number:05d}",
                "000",
                split,
                False,
                SLICES_A_CASE,
                240,
                240,
                (1.0, 1.0, 1.0),
                int(voxels.sum()),
                int((voxels > 0).sum()),
                (),
            )
        )
    manifest = Manifest("made up", "0.dir", "brats-mets", list(channels), ["1", "3"], [], entries)
    return manifest, pandas.concat(frames, ignore_index=True)


def _hashes(generator: np.random.Generator, cases: int, channels: int) -> np.ndarray:
    """Hexadecimal perceptual hashes `(cases, slices, channels)`."""
    bits = np.zeros((cases, SLICES_A_CASE, channels, 256), bool)
    template = generator.random((SLICES_A_CASE, 1, 256)) < 0.5
    # Heads resemble one another: a third of the bits differ between slices of two patients on TCGA-LGG.
    bits[:] = template ^ (generator.random((cases, 1, channels, 256)) < 0.2)
    bits ^= generator.random(bits.shape) < 0.02
    copied = np.arange(100, cases, 100)
    bits[copied] = bits[copied - 100]
    bits[copied, ..., :3] ^= True
    packed = np.packbits(bits, axis=-1)
    return np.array([row.tobytes().hex() for row in packed.reshape(-1, 32)]).reshape(packed.shape[:3])


def _rows(
    generator: np.random.Generator, case: str, channel: str, sizes: list[list[int]], hashes: np.ndarray
) -> pandas.DataFrame:
    """Statistics of one channel of a case."""
    count = len(sizes)
    level = generator.lognormal(5, 0.3)
    column = generator.normal(level, level / 10, (count, 6)).clip(1)
    return pandas.DataFrame(
        {
            "case": case,
            "slice": np.arange(count),
            "slice_name": [str(number) for number in range(count)],
            "channel": channel,
            "min": 0.0,
            "max": column[:, 0] * 4,
            "mean": column[:, 1],
            "std": column[:, 2],
            "p01": 0.0,
            "p50": column[:, 3],
            "p99": column[:, 4] * 3,
            "fraction_zero": generator.uniform(0.5, 0.6, count),
            "nonfinite": 0,
            "voxels": 240 * 240,
            "head_fraction": generator.uniform(0.3, 0.5, count),
            "lesion_outside": 0,
            "lesion_voxels": [sum(size) for size in sizes],
            "mask_max": [int(bool(size)) for size in sizes],
            "lesion_sizes": sizes,
            "window_low": level / 20,
            "window_high": level * 3,
            "tilt_degrees": 0.0,
            "skull_stripped": True,
            "digest": [generator.bytes(16).hex() for _ in range(count)],
            "perceptual": hashes,
        }
    )


def measure(slices: int, channels: tuple[str, ...]) -> dict[str, float | int]:
    """Return seconds, memory and findings of one validation with drift, after imports."""
    import great_expectations  # noqa: F401, its import is not what is measured

    from metseg.validation.cohort_validation import validate_cohort
    from metseg.validation.reference_statistics import describe

    manifest, statistics = made_up_cohort(slices, channels)
    reference = describe(manifest, statistics)
    with tempfile.TemporaryDirectory(prefix="metseg-benchmark-") as folder:
        wall, cpu = time.perf_counter(), time.process_time()
        result = validate_cohort(manifest, statistics, Path(folder), reference=reference)
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    return {
        "slices": sum(entry.slices for entry in manifest.cases),
        "cases": len(manifest.cases),
        "channels": len(channels),
        "rows": len(statistics),
        "seconds": round(wall, 2),
        "cpu_seconds": round(cpu, 2),
        "peak_memory_mb": round(peak_memory_mb()),
        **vars(result.counts),
    }


def main() -> None:
    """Print the table, write the measurement as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--slices", type=int, default=100_000)
    parser.add_argument("--channels", type=int, default=1, choices=(1, 2, 3))
    parser.add_argument("--out", type=Path, default=OUT / "validation.json")
    given = parser.parse_args()
    measured = measure(given.slices, CHANNELS[: given.channels])
    name = f"validation of {measured['slices']:,} slices of {measured['cases']} cases after imports"
    figures = [
        Figure(name, measured["seconds"], at_most=MOST_SECONDS, unit="s"),
        Figure("  the same in CPU seconds", measured["cpu_seconds"], unit="s"),
        Figure("  peak memory", measured["peak_memory_mb"], unit="MB"),
    ]
    print(table(figures))
    write_figures(given.out, figures, measured=measured)


if __name__ == "__main__":
    main()
