"""RandAugment and TrivialAugment on batches, each image by its own operation.

The images are dealt to the operations, so that a batch costs about one operation
instead of all of them. Operations and ranges are torchvision's.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import tensorflow as tf

from keras_resnet.data.augment import Augment
from keras_resnet.data.resample import resample


class Operation(NamedTuple):
    """A change by a strength.

    Attributes:
        change: float32 images (batch, height, width, channels) of 0 to 255, strengths
            (batch, 1, 1, 1) -> images.
        rand: the strongest of RandAugment.
        trivial: the strongest of TrivialAugment, wide.
        signed: whether its sign is random.
        geometric: whether it moves pixels: the mean pixel comes in.
    """

    change: Callable[[Any, Any], Any]
    rand: float = 1.0
    trivial: float = 1.0
    signed: bool = False
    geometric: bool = False


def apply_policy(images: Any, seed: Any, augment: Augment, fill: Any) -> Any:
    """Changes each image by one or more random operations; float32."""
    images = tf.cast(images, tf.float32)
    if augment.policy == "trivial":
        count = tf.shape(images)[0]
        strengths = tf.random.stateless_uniform([count], tf.random.fold_in(seed, 0))
        return _deal(images, seed, strengths, fill, wide=True)
    for i in range(augment.policy_ops):
        strengths = tf.fill([tf.shape(images)[0]], float(augment.policy_magnitude))
        images = _deal(images, tf.random.fold_in(seed, i), strengths, fill, wide=False)
    return images


def _deal(images: Any, seed: Any, strengths: Any, fill: Any, *, wide: bool) -> Any:
    """One random operation an image."""
    seeds = tf.random.split(seed, 2)
    count = tf.shape(images)[0]
    choice = tf.random.stateless_uniform(
        [count], seeds[0], 0, len(OPERATIONS), dtype=tf.int32
    )
    signs = tf.random.stateless_uniform([count], seeds[1], 0, 2, dtype=tf.int32) * 2 - 1
    dealt = tf.dynamic_partition(images, choice, len(OPERATIONS))
    places = tf.dynamic_partition(tf.range(count), choice, len(OPERATIONS))
    changed = []
    for operation, some, place in zip(OPERATIONS.values(), dealt, places, strict=True):
        strength = tf.gather(strengths, place)
        strength *= operation.trivial if wide else operation.rand
        if operation.signed:
            strength *= tf.cast(tf.gather(signs, place), tf.float32)
        strength = strength[:, tf.newaxis, tf.newaxis, tf.newaxis]
        offset = fill if operation.geometric else 0.0
        changed.append(operation.change(some - offset, strength) + offset)
    mixed = tf.dynamic_stitch(places, changed)
    return tf.ensure_shape(tf.clip_by_value(mixed, 0, 255), images.shape)


def gray(images: Any) -> Any:
    """The brightness (batch, height, width, 1) of colors."""
    return tf.image.rgb_to_grayscale(images) if images.shape[-1] == 3 else images


def _affine(images: Any, a: Any, b: Any, c: Any, d: Any, x: Any, y: Any) -> Any:
    """Images under (a b; c d) about their center, then moved; the map is inverse."""
    size = tf.cast(tf.shape(images)[1:3], tf.float32)
    center_y, center_x = (size[0] - 1) / 2, (size[1] - 1) / 2
    # Numbers or (batch, 1, 1, 1): both become columns.
    count = tf.shape(images)[0]
    a, b, c, d, x, y = (
        tf.broadcast_to(tf.reshape(v, [-1]), [count]) for v in (a, b, c, d, x, y)
    )
    zeros = tf.zeros_like(a)
    a2 = center_x - a * center_x - b * center_y + x
    b2 = center_y - c * center_x - d * center_y + y
    return resample(images, tf.stack([a, b, a2, c, d, b2, zeros, zeros], axis=1))


def _rotate(images: Any, degrees: Any) -> Any:
    angle = degrees * (math.pi / 180)
    cos, sin = tf.cos(angle), tf.sin(angle)
    return _affine(images, cos, -sin, sin, cos, 0.0, 0.0)


def _shift(images: Any, share: Any, axis: int) -> Any:
    pixels = share * tf.cast(tf.shape(images)[axis], tf.float32)
    x, y = (pixels, 0.0) if axis == 2 else (0.0, pixels)
    return _affine(images, 1.0, 0.0, 0.0, 1.0, x, y)


def _blend(images: Any, other: Any, strength: Any) -> Any:
    """Away from `other` for a positive strength, towards it for a negative one."""
    return tf.clip_by_value(other + (1 + strength) * (images - other), 0, 255)


def _contrast(images: Any, strength: Any) -> Any:
    mean = tf.reduce_mean(gray(images), axis=[1, 2, 3], keepdims=True)
    return _blend(images, mean, strength)


def _sharpness(images: Any, strength: Any) -> Any:
    """Against Pillow's smoothed image, whose edge stays as it is."""
    channels = images.shape[-1]
    kernel = tf.constant([[1, 1, 1], [1, 5, 1], [1, 1, 1]], tf.float32) / 13
    kernel = tf.tile(kernel[:, :, tf.newaxis, tf.newaxis], [1, 1, channels, 1])
    # "VALID" would do, but gives a wrong shape where no image was dealt.
    smooth = tf.nn.depthwise_conv2d(images, kernel, [1, 1, 1, 1], "SAME")
    height, width = tf.unstack(tf.shape(images)[1:3])
    inner = tf.pad(
        tf.ones([height - 2, width - 2, 1], tf.bool), [[1, 1], [1, 1], [0, 0]]
    )
    return _blend(images, tf.where(inner, smooth, images), strength)


def _posterize(images: Any, strength: Any) -> Any:
    """Drops `strength` of the 8 bits."""
    step = 2 ** tf.round(strength)
    return tf.floor(images / step) * step


def _solarize(images: Any, strength: Any) -> Any:
    return tf.where(images >= 255 * (1 - strength), 255 - images, images)


def _auto_contrast(images: Any, strength: Any) -> Any:
    low = tf.reduce_min(images, axis=[1, 2], keepdims=True)
    high = tf.reduce_max(images, axis=[1, 2], keepdims=True)
    stretched = (images - low) * (255 / tf.maximum(high - low, 1))
    return tf.where(high > low, stretched, images)


def _equalize(images: Any, strength: Any) -> Any:
    """Makes the histogram of each channel flat, as Pillow does."""
    count, height, width, channels = tf.unstack(tf.shape(images))
    values = tf.cast(tf.round(images), tf.int32)
    values = tf.reshape(tf.transpose(values, [0, 3, 1, 2]), [-1, height * width])
    histogram = tf.math.bincount(values, minlength=256, maxlength=256, axis=-1)
    last = tf.reduce_max(values, axis=1, keepdims=True)
    step = (height * width - tf.gather(histogram, last, batch_dims=1)) // 255
    table = tf.cumsum(histogram, axis=1, exclusive=True) + step // 2
    table = tf.minimum(table // tf.maximum(step, 1), 255)
    table = tf.where(step > 0, table, tf.range(256))
    mapped = tf.gather(table, values, batch_dims=1)
    mapped = tf.reshape(mapped, [count, channels, height, width])
    return tf.cast(tf.transpose(mapped, [0, 2, 3, 1]), tf.float32)


OPERATIONS: dict[str, Operation] = {
    "identity": Operation(lambda images, _: images),
    "shear_x": Operation(
        lambda images, s: _affine(images, 1.0, s, 0.0, 1.0, 0.0, 0.0),
        0.3, 0.99, signed=True, geometric=True,
    ),
    "shear_y": Operation(
        lambda images, s: _affine(images, 1.0, 0.0, s, 1.0, 0.0, 0.0),
        0.3, 0.99, signed=True, geometric=True,
    ),
    # Of 331 pixels 150; TrivialAugment's 32 pixels are of 224.
    "shift_x": Operation(
        lambda images, s: _shift(images, s, 2), 150 / 331, 32 / 224,
        signed=True, geometric=True,
    ),
    "shift_y": Operation(
        lambda images, s: _shift(images, s, 1), 150 / 331, 32 / 224,
        signed=True, geometric=True,
    ),
    "rotate": Operation(_rotate, 30.0, 135.0, signed=True, geometric=True),
    "brightness": Operation(
        lambda images, s: _blend(images, 0.0, s), 0.9, 0.99, signed=True
    ),
    "saturation": Operation(
        lambda images, s: _blend(images, gray(images), s), 0.9, 0.99, signed=True
    ),
    "contrast": Operation(_contrast, 0.9, 0.99, signed=True),
    "sharpness": Operation(_sharpness, 0.9, 0.99, signed=True),
    "posterize": Operation(_posterize, 4.0, 6.0),
    "solarize": Operation(_solarize),
    "auto_contrast": Operation(_auto_contrast),
    "equalize": Operation(_equalize),
}  # fmt: skip
