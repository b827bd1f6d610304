"""Find equal and nearly equal slices of two patients."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import pandas

NEAR_BITS = 12
"""Of the 256 bits of a perceptual hash. On TCGA-LGG a JPEG copy, a resized, brightened or noisy one differs by a median
of 0 to 6 bits, slices of two patients by 32 at least."""

BANDS = 16
SMALLEST_HEAD = 0.1
"""Slices with a smaller share of head look alike in all patients."""

REACH = 128
"""Number of neighbours that a slice is compared with, among those that share a band of its hash."""

MAX_PAIRS = 1_000_000
"""Near pairs after which the search ends: the cohort is full of copies, and memory is limited."""

_CHUNK = 1 << 20


def same_pixels(slices: pandas.DataFrame, varying: NDArray[np.bool_]) -> tuple[pandas.Series, pandas.Series]:
    """Return for each slice another patient's case with the same pixels.

    The first column has cases of another split, the second cases of the same split; None without one.

    Args:
        slices: table with `case`, `patient`, `split` and `digest`.
        varying: `(rows,)`, False for constant slices, which are equal in all patients.
    """
    import pandas

    places = slices.loc[varying, ["digest", "patient", "split", "case"]]
    owners = places.drop_duplicates(["digest", "patient"])
    shared = owners[owners["digest"].duplicated(keep=False)]
    across = pandas.Series([None] * len(slices), index=slices.index, dtype=object)
    within = across.copy()
    of_digest: dict[str, list[tuple[str, str, str]]] = {}
    for digest, patient, split, case in shared.itertuples(index=False):
        of_digest.setdefault(digest, []).append((patient, split, case))
    for index, digest, patient, split, _ in places[places["digest"].isin(list(of_digest))].itertuples():
        others = [(case, other) for owner, other, case in of_digest[digest] if owner != patient]
        across[index] = next((case for case, other in others if other != split), None)
        within[index] = next((case for case, other in others if other == split), None)
    return across, within


def near_pairs(hashes: NDArray[np.uint64], groups: NDArray[np.int64], patients: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return pairs of slices of two patients whose hashes differ by at most `NEAR_BITS` bits.

    Two such hashes agree in at least one of `BANDS` bands of 16 bits (16 bands, 12 bits: the pigeonhole principle), so
    only slices that share a band are compared; the bits are shuffled, so that a band has coarse and fine ones.
    Within a band a slice is compared with its `REACH` nearest neighbours in the order of the hashes, which are all of
    them unless hundreds of slices look alike. The search ends after `MAX_PAIRS` pairs.

    Args:
        hashes: uint64 `(slices, 4)`.
        groups: `(slices,)`; only slices of one group are compared.
        patients: `(slices,)`.

    Returns:
        int64 `(pairs, 3)`: two slices, the first before the second, and the number of different bits.
    """
    bits = np.unpackbits(hashes.view(np.uint8).reshape(len(hashes), -1), axis=1)
    shuffled = bits[:, np.random.default_rng(0).permutation(bits.shape[1])]
    bands = np.ascontiguousarray(np.packbits(shuffled, axis=1)).view(np.uint16).astype(np.int64)
    pairs_of_bands = [np.zeros((0, 3), np.int64)]
    for band in range(BANDS):
        keys = groups * 65536 + bands[:, band]
        order = np.lexsort((hashes[:, 0], keys))
        pairs_of_bands += _neighbours(hashes[order], keys[order], patients[order], order)
        if sum(map(len, pairs_of_bands)) > MAX_PAIRS:
            break
    pairs = np.concatenate(pairs_of_bands)
    pairs[:, :2].sort(axis=1)
    return np.unique(pairs, axis=0)


def _neighbours(
    hashes: NDArray[np.uint64], keys: NDArray[np.int64], patients: NDArray[np.int64], order: NDArray[np.int64]
) -> list[NDArray[np.int64]]:
    """Return near pairs among slices sorted by key, as their places in `order`."""
    pairs: list[NDArray[np.int64]] = []
    first = np.arange(len(keys) - 1)
    for step in range(1, REACH + 1):
        first = first[first + step < len(keys)]
        first = first[keys[first] == keys[first + step]]
        if not first.size or sum(map(len, pairs)) > MAX_PAIRS:
            break
        candidates = first[patients[first] != patients[first + step]]
        for start in range(0, len(candidates), _CHUNK):
            one = candidates[start : start + _CHUNK]
            distance = np.bitwise_count(hashes[one] ^ hashes[one + step]).sum(axis=1, dtype=np.int64)
            near = distance <= NEAR_BITS
            pairs.append(np.stack([order[one[near]], order[one[near] + step], distance[near]], axis=1))
    return pairs


def near_copies(slices: pandas.DataFrame) -> tuple[pandas.Series, pandas.Series]:
    """Return for each slice the most similar slice of another patient.

    The first column has slices of another split, the second slices of the same split; None without one.

    Args:
        slices: table with `case`, `patient`, `split`, `channel`, `slice_name`, `digest`, `perceptual`,
            `head_fraction`.
    """
    import pandas

    across = pandas.Series([None] * len(slices), index=slices.index, dtype=object)
    within = across.copy()
    seen = slices[(slices["perceptual"] != "") & (slices["head_fraction"] >= SMALLEST_HEAD)].reset_index()
    if seen.empty:
        return across, within
    hashes = np.frombuffer(bytes.fromhex("".join(seen["perceptual"])), np.uint64).reshape(len(seen), -1)
    groups, patients = (pandas.factorize(seen[name])[0].astype(np.int64) for name in ("channel", "patient"))
    pairs = near_pairs(hashes, groups, patients)
    digest, split, index = (seen[name].to_numpy() for name in ("digest", "split", "index"))
    pairs = pairs[digest[pairs[:, 0]] != digest[pairs[:, 1]]]
    both_ways = np.concatenate([pairs, pairs[:, [1, 0, 2]]])
    both_ways = both_ways[np.argsort(both_ways[:, 2], kind="stable")]
    shares_split = split[both_ways[:, 0]] == split[both_ways[:, 1]]
    names = (seen["case"] + " slice " + seen["slice_name"].astype(str)).to_numpy()
    for column, of_column in ((across, both_ways[~shares_split]), (within, both_ways[shares_split])):
        mine, nearest = np.unique(of_column[:, 0], return_index=True)
        texts = [f"{names[theirs]} ({bits} of 256 bits differ)" for _, theirs, bits in of_column[nearest]]
        column.loc[index[mine]] = texts
    return across, within
