from __future__ import annotations

import numpy as np
import pytest
from images import noise

from keras_resnet.data import Augment
from keras_resnet.data.crops import DRAWN, by_area, by_side
from keras_resnet.data.decoding import make_batch
from keras_resnet.data.transforms import COLOR_COMPONENTS, COLOR_DEVIATIONS, draw_all

FILL = (200.4, 210, 220)


def changed(images, augment, seed=(0, 0), fill=FILL):
    """A batch under augmentation."""
    drawn = [numbers.numpy() for numbers in draw_all(augment, seed, len(images))]
    before = images.copy()
    out = make_batch(images, images.shape[1:], augment, drawn, fill)
    np.testing.assert_array_equal(images, before)
    return out


EVERYTHING = [
    Augment(pad=2),
    Augment(pad=2, pad_mode="reflect"),
    Augment(scale=(0.1, 1)),
    Augment(resize=(9, 12)),
    Augment(flip=True),
    Augment(policy="trivial"),
    Augment(policy="rand", policy_magnitude=0.9),
    Augment(color=0.4),
    Augment(lighting=0.5),
    Augment(erase=0.5),
]


@pytest.mark.parametrize("settings", EVERYTHING)
def test_a_seed_fixes_what_happens(settings):
    images = noise(16)
    first = changed(images, settings, (1, 2))
    np.testing.assert_array_equal(first, changed(images, settings, (1, 2)))
    assert not np.array_equal(first, changed(images, settings, (1, 3)))
    assert not np.array_equal(first, images)
    # Each image by itself: a constant batch comes out with differences.
    same = np.repeat(images[:1], 16, axis=0)
    assert len(np.unique(changed(same, settings), axis=0)) > 1


def test_nothing_asked_nothing_done():
    images = noise(4)
    np.testing.assert_array_equal(changed(images, Augment()), images)


@pytest.mark.parametrize("mode", ["mean", "reflect"])
def test_shifts_keep_pixels_and_fill_the_rest(mode):
    images = np.arange(1, 2 * 5 * 5 * 3 + 1, dtype=np.uint8).reshape(2, 5, 5, 3)
    edges = ((2, 2), (2, 2), (0, 0))
    moved = set()
    for seed in range(60):
        out = changed(images, Augment(pad=2, pad_mode=mode), (seed, 0))
        for image, result in zip(images, out, strict=True):
            if mode == "reflect":
                padded = np.pad(image, edges, mode="reflect")
            else:
                padded = np.empty((9, 9, 3), np.uint8)
                padded[:] = (200, 210, 220)
                padded[2:7, 2:7] = image
            matches = [
                (y, x)
                for y in range(5)
                for x in range(5)
                if np.array_equal(padded[y : y + 5, x : x + 5], result)
            ]
            assert len(matches) == 1
            moved.add(matches[0])
    assert len(moved) > 20  # of 25 places


def test_flips_half_of_the_images():
    images = np.arange(18, dtype=np.uint8).reshape(1, 2, 3, 3).repeat(400, axis=0)
    out = changed(images, Augment(flip=True), (1, 2))
    flipped = [np.array_equal(image, images[0][:, ::-1]) for image in out]
    kept = [np.array_equal(image, images[0]) for image in out]
    assert sum(flipped) + sum(kept) == 400
    assert 150 < sum(flipped) < 250


def test_crops_by_area_stay_in_their_ranges():
    random = np.random.default_rng(0)
    height, width = 120, 200
    boxes = np.array(
        [by_area(height, width, 0.08, 1, random.random(DRAWN)) for _ in range(4000)]
    )
    left, top, right, bottom = boxes.T
    assert left.min() >= 0
    assert top.min() >= 0
    assert right.max() <= width
    assert bottom.max() <= height
    area = (right - left) * (bottom - top) / (height * width)
    aspect = (right - left) / (bottom - top)
    assert 0.075 < area.min() < 0.1
    assert 0.75 < area.max() <= 0.8  # 160x120
    assert 0.72 < aspect.min() < 0.78
    assert 1.29 < aspect.max() < 1.37
    # Uniform, among those small enough to fit nearly always.
    assert (area[area < 0.3] < 0.15).mean() == pytest.approx(0.07 / 0.22, abs=0.05)
    assert np.log(aspect).mean() == pytest.approx(0, abs=0.04)
    small = area < 0.4
    left, top, right, bottom = boxes[small].T
    across = left / (width - (right - left))
    down = top / (height - (bottom - top))
    assert across.mean() == pytest.approx(0.5, abs=0.03)
    assert down.mean() == pytest.approx(0.5, abs=0.03)


def test_a_crop_that_fits_nowhere_is_the_middle():
    random = np.random.default_rng(0)
    box = by_area(10, 1000, 0.9, 1, random.random(DRAWN))
    assert box == pytest.approx((493.33, 0, 506.67, 10), abs=0.01)
    left, top, right, bottom = by_area(1000, 10, 0.9, 1, random.random(DRAWN))
    assert (right - left) / (bottom - top) == pytest.approx(3 / 4)


def test_crops_by_side_are_what_he_2015_takes():
    random = np.random.default_rng(0)
    boxes = np.array(
        [
            by_side(300, 400, (224, 224), 256, 480, random.random(DRAWN))
            for _ in range(2000)
        ]
    )
    left, top, right, bottom = boxes.T
    np.testing.assert_allclose(right - left, bottom - top)
    # 224 pixels of an image whose shorter side became 256 to 480.
    assert (bottom - top).max() == pytest.approx(300 * 224 / 256)
    assert (bottom - top).min() == pytest.approx(300 * 224 / 480, rel=0.01)
    assert left.min() >= 0
    assert right.max() <= 400 + 1e-9
    assert top.min() >= 0
    assert bottom.max() <= 300 + 1e-9


def test_cropped_batches_are_resized_parts():
    y, x = np.mgrid[:16, :16]
    image = np.stack([10 * x, 10 * y, 0 * x], axis=2).astype(np.uint8)
    out = changed(np.repeat(image[np.newaxis], 64, axis=0), Augment(scale=(0.2, 0.5)))
    out = out.astype(float)
    assert (out[..., 2] == 0).all(), "no edge is filled"
    # Columns grow by a crop's width over the image's, the same in all rows.
    across = np.diff(out[:, 8, 2:-2, 0].astype(float), axis=1).mean(axis=1) / 10
    down = np.diff(out[:, 2:-2, 8, 1].astype(float), axis=1).mean(axis=1) / 10
    assert ((across * down > 0.15) & (across * down < 0.55)).all()
    assert ((across / down > 0.65) & (across / down < 1.5)).all()
    np.testing.assert_array_equal(out[:, 1, :, 0], out[:, 14, :, 0])
    assert np.ptp(out[:, 0, 0, 0]) > 20, "at different places"


def test_a_crop_of_the_whole_is_the_image():
    images = noise(8)
    np.testing.assert_array_equal(changed(images, Augment(resize=(8, 8))), images)


def test_colors_change_by_up_to_their_share():
    gray = np.full((500, 4, 4, 3), 100, np.uint8)
    out = changed(gray, Augment(color=0.4))
    levels = out[:, 0, 0, 0].astype(int)
    assert (np.abs(out - levels[:, np.newaxis, np.newaxis, np.newaxis]) <= 1).all()
    assert 60 <= levels.min() < 65  # brightness only: a gray has no other change
    assert 135 < levels.max() <= 140
    assert levels.mean() == pytest.approx(100, abs=3)
    contrasts = np.full((500, 2, 2, 1), 100, np.uint8)
    contrasts[:, 1] = 150
    out = changed(contrasts, Augment(color=0.4), fill=(0,)).astype(float)
    ratio = (out[:, 1] - out[:, 0]) / (out[:, 1] + out[:, 0])
    assert 0.1 < ratio.min() < 0.14  # 0.2 times 0.6 to 1.4
    assert 0.26 < ratio.max() < 0.3
    red = np.zeros((500, 2, 2, 3), np.uint8) + np.array([150, 100, 100], np.uint8)
    out = changed(red, Augment(color=0.4)).astype(float)
    spread = (out[..., 0] - out[..., 1]) / (0.299 * out[..., 0] + 0.701 * out[..., 1])
    # Contrast and saturation, both 0.6 to 1.4, multiply 50 / 114.95.
    assert 0.15 < spread.min() < 0.2
    assert 0.7 < spread.max() < 0.86


def test_lighting_moves_along_the_principal_components():
    images = np.full((3000, 1, 1, 3), 128, np.uint8)
    out = changed(images, Augment(lighting=0.1)).reshape(-1, 3).astype(float) - 128
    vectors = np.array(COLOR_COMPONENTS)
    np.testing.assert_allclose(vectors.T @ vectors, np.eye(3), atol=2e-3)
    along = out @ vectors
    expected = 25.5 * np.array(COLOR_DEVIATIONS)
    np.testing.assert_allclose(along.std(axis=0), expected, atol=0.3)
    np.testing.assert_allclose(along.mean(axis=0), 0, atol=0.3)


def test_erased_rectangles_are_the_mean_pixel_and_in_their_range():
    images = np.zeros((2000, 32, 24, 3), np.uint8)
    out = changed(images, Augment(erase=0.5))
    erased = (out == (200, 210, 220)).all(axis=3)
    assert (out[~erased] == 0).all()
    hit = erased.any(axis=(1, 2))
    assert hit.mean() == pytest.approx(0.5, abs=0.04)
    rows, columns = erased.any(axis=2).sum(axis=1), erased.any(axis=1).sum(axis=1)
    assert (rows * columns == erased.sum(axis=(1, 2))).all(), "rectangles"
    area = erased[hit].mean(axis=(1, 2))
    assert area.min() == pytest.approx(0.02, abs=0.01)
    assert area.max() == pytest.approx(0.4, abs=0.03)
    assert area.mean() == pytest.approx(0.21, abs=0.02)
    large = erased.sum(axis=(1, 2)) > 60
    aspects = rows[large] / columns[large]
    assert 0.26 < aspects.min() < 0.5
    assert 2 < aspects.max() < 3.9
    assert erased[:, 0].any()
    assert erased[:, -1].any()
    assert erased[:, :, 0].any()
    assert erased[:, :, -1].any()
