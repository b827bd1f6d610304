"""The contact sheet of a training batch."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from metseg.report.training_batch_figure import batch_sheet


def pixels_of(path) -> np.ndarray:
    with Image.open(path) as picture:
        return np.asarray(picture.convert("RGB")).astype(int)


def outlined(picture: np.ndarray) -> np.ndarray:
    # The line is antialiased: what it covers in part is still clearly redder than grey.
    return (picture[..., 0] - picture[..., 2] > 60).nonzero()[1]


def test_the_mask_is_outlined_on_every_channel_of_its_slice_alone(tmp_path):
    images = np.full((2, 24, 24, 2), 0.5, np.float32)
    masks = np.zeros((2, 24, 24, 1), np.float32)
    batch_sheet(tmp_path / "none.png", images, masks, ("t1c", "t2f"), "batch")
    assert outlined(pixels_of(tmp_path / "none.png")).size == 0
    masks[1, 8:16, 8:16] = 1
    batch_sheet(tmp_path / "one.png", images, masks, ("t1c", "t2f"), "batch")
    columns = outlined(pixels_of(tmp_path / "one.png"))
    # An 8 × 8 square, ten times enlarged, on two channels: an outline of about 4 × 80 pixels each.
    assert 2 * 250 < columns.size < 2 * 400
    assert columns.min() > pixels_of(tmp_path / "one.png").shape[1] // 2


def test_of_stacked_neighbours_the_slice_itself_is_shown(tmp_path):
    images = np.zeros((1, 24, 24, 6), np.float32)
    images[..., 2], images[..., 3] = 0.2, 0.8
    batch_sheet(tmp_path / "sheet.png", images, np.zeros((1, 24, 24, 1), np.float32), ("a", "b"), "batch")
    levels, counts = np.unique(pixels_of(tmp_path / "sheet.png")[..., 0], return_counts=True)
    tiles = dict(zip(levels.tolist(), counts.tolist(), strict=True))
    assert tiles[51] >= 240 * 240 and tiles[204] >= 240 * 240


def test_channels_that_do_not_fit_are_refused(tmp_path):
    with pytest.raises(ValueError, match="4 network channels"):
        batch_sheet(tmp_path / "x.png", np.zeros((1, 8, 8, 4)), np.zeros((1, 8, 8, 1)), ("a", "b"), "batch")
