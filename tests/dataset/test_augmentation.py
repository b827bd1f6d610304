"""Augmentation moves image and mask together, and is a function of the random state alone."""

from __future__ import annotations

import numpy as np

from metseg.dataset.augmentation import augment


def picture() -> tuple[np.ndarray, np.ndarray]:
    image = np.full((64, 60, 2), 0.2, np.float32)
    mask = np.zeros((64, 60), np.uint8)
    mask[20:36, 24:44] = 1
    image[mask == 1] = 0.9
    return image, mask


def test_mask_follows_the_image():
    image, mask = picture()
    for seed in range(60):
        moved, labels = augment(image, mask, np.random.default_rng(seed))
        assert moved.shape == image.shape and moved.dtype == np.float32
        assert set(np.unique(labels)) <= {0, 1}
        bright = moved[..., 0] > (moved[..., 0][labels == 1].mean() + moved[..., 0][labels == 0].mean()) / 2
        overlap = 2 * np.count_nonzero(bright & (labels == 1)) / (bright.sum() + labels.sum())
        assert overlap > 0.85, seed


def test_values_stay_in_range():
    rng = np.random.default_rng(0)
    image = rng.random((40, 40, 3)).astype(np.float32)
    for _ in range(40):
        moved, _ = augment(image, np.zeros((40, 40), np.uint8), rng)
        assert moved.min() >= 0.0 and moved.max() <= 1.0


def test_same_state_same_variant_and_inputs_untouched():
    image, mask = picture()
    before = image.copy()
    first = augment(image, mask, np.random.default_rng(5))
    second = augment(image, mask, np.random.default_rng(5))
    np.testing.assert_array_equal(first[0], second[0])
    np.testing.assert_array_equal(first[1], second[1])
    np.testing.assert_array_equal(image, before)


def test_variants_differ():
    image, mask = picture()
    variants = {augment(image, mask, np.random.default_rng(seed))[1].tobytes() for seed in range(20)}
    assert len(variants) > 10


def test_neighbouring_slices_vary_alike():
    """A slice and copies of it as its neighbours, two channels each: the copies stay alike, the channels do not."""
    rng = np.random.default_rng(8)
    image = np.concatenate([rng.uniform(0.3, 0.6, (40, 40, 2)).astype(np.float32)] * 3, axis=-1)
    apart = []
    for seed in range(30):
        moved, _ = augment(image, np.zeros((40, 40), np.uint8), np.random.default_rng(seed), slices=3)
        means = moved.reshape(-1, 3, 2).mean(axis=0)
        # Noise is drawn for every pixel: of 1,600 of them at most 0.06 strong, the mean moves by 0.0015.
        np.testing.assert_allclose(means, np.broadcast_to(means[:1], (3, 2)), rtol=0, atol=0.01)
        apart.append(abs(means[0, 0] - means[0, 1]))
    assert max(apart) > 0.05
