"""The best single threshold, against trying them all."""

from __future__ import annotations

import numpy as np
import pytest

from metseg.scoring.threshold_baseline import best_threshold, threshold_dice


def dice(truth: np.ndarray, prediction: np.ndarray) -> float:
    total = truth.sum() + prediction.sum()
    return 2 * (truth & prediction).sum() / total if total else 1.0


def test_the_best_threshold_is_found_by_trying_all():
    rng = np.random.default_rng(3)
    truths = [rng.random((3, 7, 5)) < 0.2 for _ in range(3)]
    images = [(rng.integers(0, 200, (3, 7, 5, 2)) + 55 * truth[..., None]).astype(np.uint8) for truth in truths]
    tried = {
        (channel, level): np.mean(
            [dice(t, image[..., channel] >= level) for image, t in zip(images, truths, strict=True)]
        )
        for channel in range(2)
        for level in range(256)
    }
    found = best_threshold([threshold_dice(i, t) for i, t in zip(images, truths, strict=True)], ("flair", "t1c"))
    assert found.dice == pytest.approx(max(tried.values()))
    assert tried[("flair", "t1c").index(found.channel), found.level] == pytest.approx(found.dice)


def test_a_healthy_case_is_right_where_nothing_is_called():
    scores = threshold_dice(np.full((1, 2, 2, 1), 9, np.uint8), np.zeros((1, 2, 2), bool))
    assert (scores[0, :10] == 0).all() and (scores[0, 10:] == 1).all()
