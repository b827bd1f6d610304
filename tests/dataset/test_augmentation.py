"""Augmentation moves image and mask together, and is a function of the random state alone."""

from __future__ import annotations

import cv2
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


def test_background_stays_zero_unless_noise_falls_on_it():
    """Three in ten variants have noise; brightness must leave what is outside the head alone."""
    empty = np.zeros((24, 20, 2), np.float32), np.zeros((24, 20), np.uint8)
    black = [not augment(*empty, np.random.default_rng(seed))[0].any() for seed in range(200)]
    assert 0.6 < np.mean(black) < 0.8


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


def bar() -> tuple[np.ndarray, np.ndarray]:
    """A dark square with a bright bar of 40 × 10 pixels, above and left of the middle."""
    mask = np.zeros((96, 96), np.uint8)
    mask[30:40, 20:60] = 1
    return (0.25 + 0.5 * mask[..., None]).astype(np.float32), mask


def many(count: int = 300) -> list[tuple[np.ndarray, np.ndarray]]:
    image, mask = bar()
    rng = np.random.default_rng(11)
    return [augment(image, mask, rng) for _ in range(count)]


def test_shapes_are_flipped_turned_scaled_shifted_and_bent():
    _, mask = bar()
    moved = [labels for _, labels in many()]
    centres = np.array([np.argwhere(labels).mean(axis=0) for labels in moved])
    flipped = centres[:, 1] > 47.5
    assert 0.4 < flipped.mean() < 0.6
    # A rectangle around the bar, turned with it, tells angle and size; what of it is no bar tells the bending.
    boxes = [cv2.minAreaRect(np.argwhere(labels).astype(np.float32)) for labels in moved]
    tilts = np.array([min(angle % 90, 90 - angle % 90) for _, _, angle in boxes])
    assert 14 < np.percentile(tilts, 95) < 21 and np.percentile(tilts, 20) < 1
    sizes = np.array([labels.sum() / mask.sum() for labels in moved])
    small, large = np.percentile(sizes, [5, 95])
    assert 0.7 < small < 0.85 and 1.2 < large < 1.45
    assert np.ptp(centres[~flipped][:, 0]) > 8
    filled = np.array(
        [labels.sum() / ((box[0] + 1) * (box[1] + 1)) for labels, (_, box, _) in zip(moved, boxes, strict=True)]
    )
    assert filled.min() < 0.75 < np.median(filled)


def test_intensities_are_brightened_stretched_made_noisy_and_blurred():
    varied = many()
    inside = [cv2.erode(labels, np.ones((5, 5), np.uint8)) > 0 for _, labels in varied]
    outside = [cv2.dilate(labels, np.ones((9, 9), np.uint8)) == 0 for _, labels in varied]
    bright = np.array([image[..., 0][place].mean() for (image, _), place in zip(varied, inside, strict=True)])
    # Pixels that the turning brings in from outside the picture are 0 and do not count.
    dark = np.array([np.median(image[..., 0][place]) for (image, _), place in zip(varied, outside, strict=True)])
    assert dark.min() < 0.2 and dark.max() > 0.35
    contrast = bright - dark
    assert contrast.min() < 0.42 and contrast.max() > 0.58
    noise = np.array([image[..., 0][place].std() for (image, _), place in zip(varied, inside, strict=True)])
    assert 0.15 < (noise > 0.01).mean() < 0.45
    assert noise.max() < 0.08
    quiet = noise < 0.005
    steepest = np.array([np.abs(np.diff(image[..., 0], axis=0)).max() for image, _ in varied]) / contrast
    # Blurred or coarse pictures rise over several pixels; turned ones by interpolation over two at most.
    assert 0.02 < (steepest[quiet] < 0.5).mean() < 0.4
