"""Surface elements and distances against hand-computed values, the established package and brute force."""

import math
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from surface_distance import lookup_tables, metrics

from metseg.scoring.surface import surface_scores
from metseg.scoring.surface_elements import surface_of

UNIT = (1.0, 1.0, 1.0)


def single(*voxel: int) -> np.ndarray:
    mask = np.zeros((4, 6, 8), bool)
    mask[voxel] = True
    return mask


def box(slices: slice, rows: slice, columns: slice, shape=(12, 14, 16)) -> np.ndarray:
    mask = np.zeros(shape, bool)
    mask[slices, rows, columns] = True
    return mask


@pytest.mark.parametrize(
    ("voxel", "distance"), [((1, 2, 3), 0.0), ((2, 2, 3), 5.0), ((1, 4, 3), 1.0), ((2, 2, 7), np.hypot(5, 3))]
)
def test_distance_honours_anisotropic_spacing(voxel, distance):
    hd95 = surface_scores(single(1, 2, 3), single(*voxel), (5.0, 0.5, 0.75)).hd95_mm
    # A voxel's surface has its eight corners for elements; half of them lie a voxel nearer.
    assert hd95 == pytest.approx(distance)


def test_surface_dice_counts_area_within_the_tolerance():
    # A voxel and the one above share four of their eight corners; the others lie 5 mm apart.
    above = surface_scores(single(1, 2, 3), single(2, 2, 3), (5.0, 0.5, 0.75))
    assert above.surface_dice == pytest.approx(0.5)
    assert surface_scores(single(1, 2, 3), single(1, 4, 3), (5.0, 0.5, 0.75)).surface_dice == 1.0
    assert surface_scores(single(1, 2, 3), single(3, 2, 7), (5.0, 0.5, 0.75)).surface_dice == 0.0
    wide = surface_scores(single(1, 2, 3), single(2, 2, 3), (5.0, 0.5, 0.75), tolerance_mm=5.0)
    assert wide.surface_dice == 1.0, "the tolerance itself is within it"


def test_a_slab_that_grows_by_one_slice_moves_one_face():
    # 10 × 10 voxels of 2 × 1 × 1 mm: one slice more is 2 mm more, on one of the two large faces and around it.
    thin, thick = (box(slice(2, last), slice(2, 12), slice(2, 12)) for last in (6, 7))
    scores = surface_scores(thin, thick, (2.0, 1.0, 1.0))
    assert scores.hd95_mm == pytest.approx(2.0)
    assert 0.5 < scores.surface_dice < 1.0


def test_area_of_a_voxel_is_that_of_the_octahedron_through_its_faces():
    assert surface_of(single(1, 1, 1), UNIT).areas.sum() == pytest.approx(math.sqrt(3))


def test_area_of_a_box_by_hand():
    # Flat elements of 1 mm² on the faces, of √½ mm² along the edges, the eight corners of an octahedron.
    sides = (4, 5, 6)
    mask = box(*(slice(1, 1 + side) for side in sides))
    a, b, c = (side - 1 for side in sides)
    by_hand = 2 * (a * b + b * c + a * c) + 4 * (a + b + c) * math.sqrt(0.5) + math.sqrt(3)
    assert surface_of(mask, UNIT).areas.sum() == pytest.approx(by_hand)
    assert surface_of(mask, (2.0, 2.0, 2.0)).areas.sum() == pytest.approx(4 * by_hand)


def test_a_mask_at_the_border_has_a_surface_there():
    inside, filled = box(slice(1, 3), slice(1, 3), slice(1, 3), (4, 4, 4)), np.ones((2, 2, 2), bool)
    assert surface_of(filled, UNIT).areas.sum() == pytest.approx(surface_of(inside, UNIT).areas.sum())


def test_elements_of_a_crop_lie_where_those_of_the_volume_lie():
    mask = np.random.default_rng(0).random((6, 7, 8)) < 0.3
    whole, crop = np.zeros((9, 11, 13), bool), (slice(2, 8), slice(3, 10), slice(4, 12))
    whole[crop] = mask
    spacing = (3.0, 0.5, 0.7)
    np.testing.assert_allclose(surface_of(mask, spacing, (2, 3, 4)).points, surface_of(whole, spacing).points)


def test_empty_masks():
    empty, full = np.zeros((4, 6, 8), bool), single(1, 1, 1)
    both = surface_scores(empty, empty, UNIT)
    assert (both.hd95_mm, both.surface_dice) == (0, 1)
    for pair in ((empty, full), (full, empty)):
        one = surface_scores(*pair, UNIT)
        assert (one.hd95_mm, one.surface_dice) == (374.0, 0)


SIDES = st.sampled_from([0.3, 0.5, 0.94, 1.0, 1.5, 3.0, 6.5])
SPACINGS = st.tuples(SIDES, SIDES, SIDES)


@settings(max_examples=30, deadline=None)
@given(SPACINGS)
def test_every_element_has_the_area_that_the_established_package_gives_it(spacing):
    table = lookup_tables.create_table_neighbour_code_to_surface_area(spacing)
    kernel = lookup_tables.ENCODE_NEIGHBOURHOOD_3D_KERNEL
    for code in range(1, 255):
        mask = (kernel & code) > 0
        surface = surface_of(mask, spacing)
        centre = np.isclose(surface.points, np.asarray(spacing)).all(axis=1)
        assert surface.areas[centre] == pytest.approx([table[code]])


def random_masks(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Two masks that are alike in part, neither empty."""
    rng = np.random.default_rng(seed)
    shape = tuple(rng.integers(2, 12, 3))
    first = rng.random(shape) < rng.choice([0.03, 0.3, 0.8])
    second = np.roll(first, int(rng.integers(-2, 3)), int(rng.integers(0, 3))) ^ (rng.random(shape) < 0.05)
    first.flat[0] = second.flat[-1] = True
    return first, second


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 100_000), SPACINGS, st.sampled_from([0.5, 1.0, 2.5]))
def test_random_masks_agree_with_the_established_package(seed, spacing, tolerance):
    first, second = random_masks(seed)
    distances = metrics.compute_surface_distances(first, second, spacing)
    # The package holds rounded distances against the tolerance; a hair more takes in those that equal it.
    surface_dice = metrics.compute_surface_dice_at_tolerance(distances, tolerance + 1e-9)
    ours = surface_scores(first, second, spacing, tolerance)
    assert ours.hd95_mm == pytest.approx(metrics.compute_robust_hausdorff(distances, 95), rel=1e-9)
    assert ours.surface_dice == pytest.approx(surface_dice, rel=1e-9)


def brute_elements(mask: np.ndarray, spacing: tuple[float, ...]) -> list[tuple[tuple[float, ...], float]]:
    """Place and area of every element, point by point; areas from the package's table."""
    table = lookup_tables.create_table_neighbour_code_to_surface_area(spacing)
    kernel = lookup_tables.ENCODE_NEIGHBOURHOOD_3D_KERNEL
    padded = np.pad(mask, 1)
    elements = []
    for place in product(*(range(size + 1) for size in mask.shape)):
        code = sum(int(kernel[d]) for d in product((0, 1), repeat=3) if padded[tuple(np.add(place, d))])
        if code not in (0, 255):
            elements.append((tuple(p * s for p, s in zip(place, spacing, strict=True)), float(table[code])))
    return elements


def brute_nearest(elements: list, others: list) -> list[tuple[float, float]]:
    return sorted((min(math.dist(place, other) for other, _ in others), area) for place, area in elements)


@pytest.mark.parametrize("seed", range(12))
def test_random_masks_agree_with_brute_force(seed):
    rng, spacing = np.random.default_rng(seed), (3.0, 0.7, 0.9)
    masks = [rng.random((3, 4, 5)) < rng.choice([0.1, 0.4, 0.8]) for _ in range(2)]
    for mask in masks:
        mask[1, 1, 1] = True
    first, second = (brute_elements(mask, spacing) for mask in masks)
    directed, near, everything = [], 0.0, 0.0
    for pairs in (brute_nearest(first, second), brute_nearest(second, first)):
        total, passed = sum(area for _, area in pairs), 0.0
        near += sum(area for distance, area in pairs if distance <= 1.0)
        everything += total
        for distance, area in pairs:
            passed += area
            if passed >= 0.95 * total:
                directed.append(distance)
                break
    scores = surface_scores(*masks, spacing)
    assert scores.hd95_mm == pytest.approx(max(directed))
    assert scores.surface_dice == pytest.approx(near / everything)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 100_000), SPACINGS)
def test_distances_are_symmetric_and_grow_with_the_spacing(seed, spacing):
    first, second = random_masks(seed)
    scores, swapped = surface_scores(first, second, spacing), surface_scores(second, first, spacing)
    assert scores.hd95_mm == swapped.hd95_mm and scores.surface_dice == pytest.approx(swapped.surface_dice)
    doubled = surface_scores(first, second, tuple(2 * side for side in spacing), 2.0)
    assert doubled.hd95_mm == pytest.approx(2 * scores.hd95_mm)
    assert doubled.surface_dice == pytest.approx(scores.surface_dice)
