from __future__ import annotations

import numpy as np
import pytest
from images import noise
from PIL import Image, ImageEnhance, ImageOps

from keras_resnet.data import Augment
from keras_resnet.data.decoding import make_batch
from keras_resnet.data.policies import OPERATIONS
from keras_resnet.data.transforms import draw_all

IMAGES = np.concatenate([noise(3, (12, 16, 3)), noise(1, (12, 16, 3)) // 3 + 60])
GRADIENT = np.stack(np.broadcast_arrays(*np.ogrid[:12, :16], 100), 2).astype(np.uint8)


def operate(name, images, strength, fill=(0, 0, 0)):
    change = OPERATIONS[name].change
    return np.stack([change(image, strength, fill) for image in images])


def applied(images, settings, seed, fill):
    drawn = [numbers.numpy() for numbers in draw_all(settings, seed, len(images))]
    return make_batch(images, images.shape[1:], settings, drawn, fill)


def enhanced(enhance, images, strength):
    """As Pillow's enhancers by 1 + strength."""
    return np.stack(
        [
            np.asarray(enhance(Image.fromarray(image)).enhance(1 + strength))
            for image in images
        ]
    )


@pytest.mark.parametrize("strength", [-0.9, -0.3, 0.5, 0.99])
@pytest.mark.parametrize(
    ("name", "enhance"),
    [
        ("brightness", ImageEnhance.Brightness),
        ("saturation", ImageEnhance.Color),
        ("contrast", ImageEnhance.Contrast),
        ("sharpness", ImageEnhance.Sharpness),
    ],
)
def test_enhancements_are_pillows(name, enhance, strength):
    out = operate(name, IMAGES, strength)
    # Pillow rounds in between.
    np.testing.assert_allclose(out, enhanced(enhance, IMAGES, strength), atol=2.1)


@pytest.mark.parametrize("name", ["brightness", "contrast", "sharpness"])
def test_enhancements_of_gray(name):
    gray = IMAGES[..., :1]
    colors = np.repeat(gray, 3, axis=-1)
    out, expected = operate(name, gray, 0.5), operate(name, colors, 0.5)
    np.testing.assert_allclose(out.astype(int), expected[..., :1], atol=1)


@pytest.mark.parametrize(
    ("name", "strength", "expected"),
    [
        ("equalize", 0, ImageOps.equalize),
        ("auto_contrast", 0, ImageOps.autocontrast),
        ("posterize", 3, lambda image: ImageOps.posterize(image, 5)),
        ("posterize", 0, lambda image: image),
        ("solarize", 0.5, lambda image: ImageOps.solarize(image, 128)),
        ("solarize", 1, ImageOps.invert),
        ("identity", 1, lambda image: image),
    ],
)
def test_operations_on_levels_are_pillows(name, strength, expected):
    flat = np.full((1, 12, 16, 3), 7, np.uint8)
    images = np.concatenate([IMAGES, flat, GRADIENT[np.newaxis]])
    images = np.concatenate([images, np.where(images > 99, 99, images)])
    wanted = np.stack([np.asarray(expected(Image.fromarray(i))) for i in images])
    np.testing.assert_allclose(operate(name, images, strength), wanted, atol=1)


@pytest.mark.parametrize(
    ("name", "strength", "matrix"),
    [
        ("shear_x", 0.3, (1, 0.3, 0, 0, 1, 0)),
        ("shear_y", -0.5, (1, 0, 0, -0.5, 1, 0)),
        ("shift_x", 0.25, (1, 0, 4, 0, 1, 0)),
        ("shift_y", -0.25, (1, 0, 0, 0, 1, -3)),
        ("rotate", 90, (0, -1, 0, 1, 0, 0)),
        ("rotate", 30, (0.8660, -0.5, 0, 0.5, 0.8660, 0)),
    ],
)
def test_geometry_is_affine_about_the_center(name, strength, matrix):
    out = operate(name, GRADIENT[np.newaxis], strength)[0]
    y, x = np.mgrid[:12, :16] - np.array([5.5, 7.5])[:, np.newaxis, np.newaxis]
    from_x = matrix[0] * x + matrix[1] * y + matrix[2] + 7.5
    from_y = matrix[3] * x + matrix[4] * y + matrix[5] + 5.5
    inside = (from_x >= 0) & (from_x <= 15) & (from_y >= 0) & (from_y <= 11)
    assert 60 < inside.sum() < 192
    # The nearest whole number; places are to a thirty-second of a pixel.
    np.testing.assert_allclose(out[inside][:, 1], from_x[inside], atol=0.55)
    np.testing.assert_allclose(out[inside][:, 0], from_y[inside], atol=0.55)
    outside = (from_x < -1) | (from_x > 16) | (from_y < -1) | (from_y > 12)
    assert outside.any()
    assert (out[outside] == 0).all()


def test_an_operation_an_image_with_the_mean_pixel_around():
    """Images of the mean pixel: what moves pixels can't be seen on them."""
    fill = (90.0, 120.0, 30.0)
    images = np.empty((400, 8, 8, 3), np.uint8)
    images[:] = fill
    settings = Augment(policy="trivial")
    out = applied(images, settings, (1, 2), fill)
    same = (out == images).all(axis=(1, 2, 3))
    # Identity, five movements, and sharpness, auto-contrast and equalize on a flat one.
    assert same.mean() == pytest.approx(9 / 14, abs=0.1)


def test_strength_of_rand_augment():
    settings = Augment(policy="rand", policy_ops=1, policy_magnitude=0.5)
    images = np.repeat(GRADIENT[np.newaxis], 300, axis=0)
    out = applied(images, settings, (3, 4), (0, 0, 0)).astype(int)
    wanted = []
    for name, operation in OPERATIONS.items():
        for sign in (1, -1) if operation.signed else (1,):
            strength = sign * 0.5 * operation.rand
            wanted.append(operate(name, GRADIENT[np.newaxis], strength))
    wanted = np.concatenate(wanted)
    differences = np.abs(out[:, np.newaxis] - wanted).max(axis=(2, 3, 4))
    assert differences.min(axis=1).max() == 0, "each is one of the operations'"
    assert differences.min(axis=0).max() == 0, "and each of them is seen"
