"""Mixup and cutmix: pairs of images, and labels that are shares of classes."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import tensorflow as tf

from keras_resnet.data.augment import Augment
from keras_resnet.data.transforms import inside_box


def mix_batch(
    images: Any, labels: Any, seed: Any, augment: Augment, classes: int
) -> tuple[Any, Any]:
    """Mixes each image with its neighbor in the batch, all by one share.

    keras.layers.MixUp and CutMix draw a share an image from a state of their own; the
    papers' code, torchvision and timm draw one a batch.

    Args:
        images: uint8 (batch, height, width, channels), in random order.
        labels: int (batch,).
        seed: int (2,), which fixes all that is random.
        augment: `mixup` and `cutmix`, alphas of the Beta distribution.
        classes: number of classes.

    Returns:
        Images of the same shape and type; labels float32 (batch, classes).
    """
    seeds = tf.random.split(seed, 2)
    labels = tf.one_hot(labels, classes)
    mixes: list[Callable[[], tuple[Any, Any]]] = [
        partial(mix, images, labels, seeds[0], alpha)
        for mix, alpha in ((_mixup, augment.mixup), (_cutmix, augment.cutmix))
        if alpha
    ]
    if len(mixes) == 1:
        return mixes[0]()
    mixed: tuple[Any, Any] = tf.cond(
        tf.random.stateless_uniform([], seeds[1]) < 0.5, *mixes
    )
    return mixed


def _mixup(images: Any, labels: Any, seed: Any, alpha: float) -> tuple[Any, Any]:
    """A mean of two images (Zhang 2017)."""
    share = _beta(seed, alpha)
    pixels = tf.cast(images, tf.float32)
    mixed = share * pixels + (1 - share) * tf.roll(pixels, 1, axis=0)
    return tf.cast(tf.round(mixed), images.dtype), _shared(labels, share)


def _cutmix(images: Any, labels: Any, seed: Any, alpha: float) -> tuple[Any, Any]:
    """A rectangle of a second image in the first (Yun 2019, section 3.1)."""
    seeds = tf.random.split(seed, 3)
    height, width = tf.unstack(tf.cast(tf.shape(images)[1:3], tf.float32))
    side = tf.sqrt(1 - _beta(seeds[0], alpha))
    ends = []
    for size, place in ((height, seeds[1]), (width, seeds[2])):
        # Centers are uniform over the image: the box may stick out, and is cut.
        center = tf.floor(tf.random.stateless_uniform([], place) * size)
        half = tf.floor(size * side) / 2
        ends += [
            tf.maximum(tf.floor(center - half), 0),
            tf.minimum(tf.floor(center + half), size),
        ]
    top, bottom, left, right = ends
    mixed = tf.where(
        inside_box(images, top, left, bottom, right), tf.roll(images, 1, axis=0), images
    )
    share = 1 - (bottom - top) * (right - left) / (height * width)
    return mixed, _shared(labels, share)


def _shared(labels: Any, share: Any) -> Any:
    return share * labels + (1 - share) * tf.roll(labels, 1, axis=0)


def _beta(seed: Any, alpha: float) -> Any:
    """A number from Beta(alpha, alpha)."""
    seeds = tf.random.split(seed, 2)
    # By logarithms of two gammas: for a small alpha the gammas themselves are 0.
    gammas = tf.random.stateless_gamma([2], seeds[0], alpha + 1)
    uniform = tf.random.stateless_uniform([2], seeds[1], 1e-30, 1)
    logarithms = tf.math.log(gammas) + tf.math.log(uniform) / alpha
    return tf.sigmoid(logarithms[0] - logarithms[1])
