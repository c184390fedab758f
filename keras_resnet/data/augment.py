"""Random changes of training images, whole batches at a time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from keras_resnet.data.settings import Augment


def augment_batch(
    images: Any, seed: Any, settings: Augment, fill: Sequence[float]
) -> Any:
    """Pads, crops and flips a batch, every image on its own.

    Args:
        images: uint8 (batch, height, width, channels).
        seed: int (2,), which fixes all that is random.
        settings: what to do.
        fill: a value for each channel, that padding is filled with.

    Returns:
        A batch of the same shape and type.
    """
    seeds = tf.random.split(seed, 2)
    if settings.pad:
        images = _pad_crop(images, seeds[0], settings.pad, fill)
    if settings.flip:
        flips = tf.random.stateless_uniform([tf.shape(images)[0], 1, 1, 1], seeds[1])
        images = tf.where(flips < 0.5, images, tf.reverse(images, [2]))
    return images


def _pad_crop(images: Any, seed: Any, pad: int, fill: Sequence[float]) -> Any:
    """Shifts each image by -pad .. pad pixels in both directions."""
    batch, height, width = tf.unstack(tf.shape(images)[:3])
    shifts = tf.random.stateless_uniform(
        [2, batch, 1], seed, -pad, pad + 1, dtype=tf.int32
    )
    rows, columns = tf.range(height) + shifts[0], tf.range(width) + shifts[1]
    shifted = tf.gather(
        images, tf.clip_by_value(rows, 0, height - 1), axis=1, batch_dims=1
    )
    shifted = tf.gather(
        shifted, tf.clip_by_value(columns, 0, width - 1), axis=2, batch_dims=1
    )
    inside = (
        _within(rows, height)[:, :, tf.newaxis, tf.newaxis]
        & _within(columns, width)[:, tf.newaxis, :, tf.newaxis]
    )
    return tf.where(inside, shifted, tf.cast(tf.round(fill), images.dtype))


def _within(index: Any, size: Any) -> Any:
    return (index >= 0) & (index < size)
