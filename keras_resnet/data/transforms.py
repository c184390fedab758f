"""Random changes of training images, whole batches at a time.

Keras' own layers were measured (`docs/data.md`) and aren't used: none is faster, they
draw from a state of their own, so that one seed doesn't fix a parallel `map`,
RandomErasing has no mean pixel for gray images and another distribution of areas, and
RandAugment applies one choice to a whole batch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from keras_resnet.data.augment import Augment
from keras_resnet.data.crops import chooser, generator
from keras_resnet.data.policies import apply_policy, gray
from keras_resnet.data.resample import resample

ERASED_AREA = (0.02, 0.4)  # Zhong 2017, section 4.2
ERASED_ASPECTS = (0.3, 1 / 0.3)
# Of ImageNet's colors from 0 to 1 (fb.resnet.torch): standard deviations along the
# principal components, and these as columns.
COLOR_DEVIATIONS = (0.2175, 0.0188, 0.0045)
COLOR_COMPONENTS = (
    (-0.5675, 0.7192, 0.4009),
    (-0.5808, -0.0045, -0.8140),
    (-0.5836, -0.6948, 0.4203),
)


def augment_batch(
    images: Any, seed: Any, augment: Augment, fill: Sequence[float]
) -> Any:
    """Changes every image of a batch on its own; mixing is in `mixing`.

    Args:
        images: uint8 (batch, height, width, channels).
        seed: int (2,), which fixes all that is random.
        augment: what to do.
        fill: a value for each channel: the mean pixel.

    Returns:
        A batch of the same shape and type.
    """
    for i, (field, change) in enumerate(_CHANGES.items()):
        if getattr(augment, field) not in (None, 0, "none"):
            changed = change(images, tf.random.fold_in(seed, i), augment, fill)
            images = tf.ensure_shape(changed, images.shape)
    return images


def _pad_crop(images: Any, seed: Any, augment: Augment, fill: Any) -> Any:
    """Shifts each image by -pad .. pad pixels in both directions."""
    pad = augment.pad
    batch, height, width = tf.unstack(tf.shape(images)[:3])
    shifts = tf.random.stateless_uniform(
        [2, batch, 1], seed, -pad, pad + 1, dtype=tf.int32
    )
    rows, columns = tf.range(height) + shifts[0], tf.range(width) + shifts[1]
    inside = _mirrored if augment.pad_mode == "reflect" else _clipped
    shifted = tf.gather(images, inside(rows, height), axis=1, batch_dims=1)
    shifted = tf.gather(shifted, inside(columns, width), axis=2, batch_dims=1)
    if augment.pad_mode == "reflect":
        return shifted
    within = (
        _within(rows, height)[:, :, tf.newaxis, tf.newaxis]
        & _within(columns, width)[:, tf.newaxis, :, tf.newaxis]
    )
    return tf.where(within, shifted, _as_pixels(fill))


def _clipped(index: Any, size: Any) -> Any:
    return tf.clip_by_value(index, 0, size - 1)


def _mirrored(index: Any, size: Any) -> Any:
    """As numpy's padding "reflect": the edge itself isn't repeated."""
    return (size - 1) - tf.abs((size - 1) - tf.abs(index))


def _within(index: Any, size: Any) -> Any:
    return (index >= 0) & (index < size)


def _crop(images: Any, seed: Any, augment: Augment, fill: Any) -> Any:
    """Takes a part of each image and resizes it to the whole, bilinearly."""
    height, width = images.shape[1:3]

    def draw(seed: np.ndarray, count: int) -> np.ndarray:
        choose = chooser(augment, (height, width), generator(seed))
        boxes = [choose(height, width) for _ in range(count)] if choose else []
        return np.array(boxes, np.float32)

    boxes = tf.numpy_function(draw, [seed, tf.shape(images)[0]], tf.float32)
    left, top, right, bottom = tf.unstack(tf.ensure_shape(boxes, [None, 4]), axis=1)
    x, y = (right - left) / width, (bottom - top) / height
    zeros = tf.zeros_like(x)
    # Pixels are their centers: the first one is at a half.
    rows = [x, zeros, left + x / 2 - 0.5, zeros, y, top + y / 2 - 0.5, zeros, zeros]
    return _to_pixels(
        resample(tf.cast(images, tf.float32), tf.stack(rows, axis=1), "NEAREST")
    )


def _flip(images: Any, seed: Any, augment: Augment, fill: Any) -> Any:
    flips = _uniform(images, seed)
    return tf.where(flips < 0.5, images, tf.reverse(images, [2]))


def _color(images: Any, seed: Any, augment: Augment, fill: Any) -> Any:
    """Brightness, contrast and saturation, in this order, each by up to a share."""
    low, high = 1 - augment.color, 1 + augment.color
    seeds = tf.random.split(seed, 3)
    brightness, contrast, saturation = (
        _uniform(images, seeds[i], low, high) for i in range(3)
    )
    images = tf.cast(images, tf.float32) * brightness
    mean = tf.reduce_mean(gray(images), axis=[1, 2, 3], keepdims=True)
    images = mean + contrast * (images - mean)
    if images.shape[-1] == 3:
        grays = gray(images)
        images = grays + saturation * (images - grays)
    return _to_pixels(images)


def _lighting(images: Any, seed: Any, augment: Augment, fill: Any) -> Any:
    """Moves each image's color along ImageNet's principal components."""
    alphas = tf.random.stateless_normal(
        [tf.shape(images)[0], 3], seed, stddev=augment.lighting
    )
    shifts = tf.linalg.matmul(
        alphas * COLOR_DEVIATIONS, COLOR_COMPONENTS, transpose_b=True
    )
    shifts = 255 * shifts[:, tf.newaxis, tf.newaxis, :]
    return _to_pixels(tf.cast(images, tf.float32) + shifts)


def _erase(images: Any, seed: Any, augment: Augment, fill: Any) -> Any:
    """Fills a random rectangle of some images (Zhong 2017, section 3.2)."""
    seeds = tf.random.split(seed, 5)
    height, width = images.shape[1:3]
    area = _uniform(images, seeds[0], *ERASED_AREA) * height * width
    aspect = tf.exp(_uniform(images, seeds[1], *np.log(ERASED_ASPECTS)))
    # Where it doesn't fit the paper draws again; a narrower one of the same area does.
    rows = tf.round(tf.sqrt(area * aspect))
    rows = tf.clip_by_value(rows, tf.math.ceil(area / width), height)
    columns = tf.clip_by_value(tf.round(area / rows), 1, width)
    top = tf.floor(_uniform(images, seeds[2]) * (height - rows + 1))
    left = tf.floor(_uniform(images, seeds[3]) * (width - columns + 1))
    erased = inside_box(images, top, left, top + rows, left + columns)
    erased &= _uniform(images, seeds[4]) < augment.erase
    return tf.where(erased, _as_pixels(fill), images)


def inside_box(images: Any, top: Any, left: Any, bottom: Any, right: Any) -> Any:
    """Which pixels (batch, height, width, 1) are in a box (1s that broadcast)."""
    rows = tf.cast(tf.range(tf.shape(images)[1]), tf.float32)[:, tf.newaxis, tf.newaxis]
    columns = tf.cast(tf.range(tf.shape(images)[2]), tf.float32)[:, tf.newaxis]
    return (rows >= top) & (rows < bottom) & (columns >= left) & (columns < right)


def _policy(images: Any, seed: Any, augment: Augment, fill: Any) -> Any:
    return _to_pixels(apply_policy(images, seed, augment, fill))


def _uniform(images: Any, seed: Any, low: Any = 0.0, high: Any = 1.0) -> Any:
    """A number for each image, (batch, 1, 1, 1)."""
    return tf.random.stateless_uniform([tf.shape(images)[0], 1, 1, 1], seed, low, high)


def _as_pixels(fill: Any) -> Any:
    return tf.cast(tf.round(fill), tf.uint8)


def _to_pixels(images: Any) -> Any:
    return tf.saturate_cast(tf.round(images), tf.uint8)


Change = Callable[[Any, Any, Augment, Any], Any]

# Field of `Augment` that asks for it -> what it does, in the order of application.
_CHANGES: dict[str, Change] = {
    "pad": _pad_crop,
    "scale": _crop,
    "resize": _crop,
    "flip": _flip,
    "policy": _policy,
    "color": _color,
    "lighting": _lighting,
    "erase": _erase,
}
