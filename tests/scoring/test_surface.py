"""Surface distances against hand-computed values and a brute-force distance matrix."""

import numpy as np
import pytest
from scipy.spatial.distance import cdist

from metseg.scoring.surface import surface_scores


def single(*voxel: int) -> np.ndarray:
    mask = np.zeros((4, 6, 8), bool)
    mask[voxel] = True
    return mask


@pytest.mark.parametrize(
    ("voxel", "distance"), [((1, 2, 3), 0.0), ((2, 2, 3), 5.0), ((1, 4, 3), 1.0), ((2, 2, 7), np.hypot(5, 3))]
)
def test_distance_honours_anisotropic_spacing(voxel, distance):
    scores = surface_scores(single(1, 2, 3), single(*voxel), (5.0, 0.5, 0.75))
    assert scores.hd95_mm == pytest.approx(distance)
    assert scores.surface_dice == (1.0 if distance <= 1 else 0.0)


def test_empty_masks():
    empty, full = np.zeros((4, 6, 8), bool), single(1, 1, 1)
    assert (surface_scores(empty, empty, (1, 1, 1)).hd95_mm, surface_scores(empty, empty, (1, 1, 1)).surface_dice) == (
        0,
        1,
    )
    for pair in ((empty, full), (full, empty)):
        assert (surface_scores(*pair, (1, 1, 1)).hd95_mm, surface_scores(*pair, (1, 1, 1)).surface_dice) == (374.0, 0)


def brute_surface(mask: np.ndarray) -> np.ndarray:
    padded = np.pad(mask, 1)
    steps = [(0, 1), (0, -1), (1, 1), (1, -1), (2, 1), (2, -1)]
    inner = np.logical_and.reduce([np.roll(padded, shift, axis) for axis, shift in steps])
    return np.argwhere((padded & ~inner)[1:-1, 1:-1, 1:-1])


def test_random_masks_agree_with_the_full_distance_matrix():
    rng = np.random.default_rng(3)
    spacing = np.array([3.0, 0.7, 0.9])
    for _ in range(25):
        truth, prediction = (rng.random((5, 7, 9)) < rng.choice([0.05, 0.3, 0.8]) for _ in range(2))
        if not (truth.any() and prediction.any()):
            continue
        matrix = cdist(brute_surface(truth) * spacing, brute_surface(prediction) * spacing)
        near = [matrix.min(axis=1), matrix.min(axis=0)]
        scores = surface_scores(truth, prediction, tuple(spacing), tolerance_mm=1.0)
        assert scores.hd95_mm == pytest.approx(max(np.percentile(d, 95) for d in near))
        assert scores.surface_dice == pytest.approx(np.mean(np.concatenate(near) <= 1.0))
