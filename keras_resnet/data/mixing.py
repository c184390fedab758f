"""Mixup and cutmix: pairs of images, and labels that are shares of classes.

keras.layers.MixUp and CutMix draw a share an image from a state of their own; the
papers' code, torchvision and timm draw one a batch.
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import tensorflow as tf

from keras_resnet.data.augment import Augment
from keras_resnet.data.images import new_batch


def draw_mix(seed: Any, augment: Augment, height: int, width: int) -> Any:
    """How a batch is mixed: float32 (6,), by its seed (2,).

    The share of the first images; whether a box of the second ones replaces them, not
    a mean of both; top, bottom, left and right of that box.
    """
    seeds = tf.random.split(seed, 2)
    draws = [
        lambda draw=draw, alpha=alpha: draw(seeds[0], alpha, height, width)
        for draw, alpha in ((_mixup, augment.mixup), (_cutmix, augment.cutmix))
        if alpha
    ]
    if len(draws) == 1:
        return draws[0]()
    return tf.cond(tf.random.stateless_uniform([], seeds[1]) < 0.5, *draws)


def mix_labels(labels: Any, drawn: Any, classes: int | None) -> Any:
    """Labels of both images by their shares, float32.

    Args:
        labels: of a batch: classes, or labels and numbers of any shape.
        drawn: as `draw_mix` says.
        classes: how many, of which shares (batch, classes) are made; None: the means
            of labels that are numbers themselves.
    """
    labels = tf.one_hot(labels, classes) if classes else tf.cast(labels, tf.float32)
    return drawn[0] * labels + (1 - drawn[0]) * tf.roll(labels, 1, axis=0)


def mix_images(images: np.ndarray, drawn: np.ndarray) -> np.ndarray:
    """Each image with the one before it, the first with the last.

    Args:
        images: uint8 (batch, height, width, channels), in random order; overwritten.
        drawn: as `draw_mix` says.
    """
    share, cut, top, bottom, left, right = drawn.tolist()
    if not cut:
        flat = images.reshape(len(images), -1)
        mixed = new_batch(flat.shape)
        for first, second, to in (
            (flat[1:], flat[:-1], mixed[1:]),
            (flat[:1], flat[-1:], mixed[:1]),
        ):
            if len(to):
                cv2.addWeighted(first, share, second, 1 - share, 0, dst=to)
        return mixed.reshape(images.shape)
    box = np.s_[int(top) : int(bottom), int(left) : int(right)]
    last = images[-1][box].copy()
    for i in range(len(images) - 1, 0, -1):
        images[i][box] = images[i - 1][box]
    images[0][box] = last
    return images


def _mixup(seed: Any, alpha: float, height: int, width: int) -> Any:
    """A mean of two images (Zhang 2017)."""
    return tf.stack([_beta(seed, alpha), 0.0, 0.0, 0.0, 0.0, 0.0])


def _cutmix(seed: Any, alpha: float, height: int, width: int) -> Any:
    """A rectangle of a second image in the first (Yun 2019, section 3.1)."""
    seeds = tf.random.split(seed, 3)
    side = tf.sqrt(1 - _beta(seeds[0], alpha))
    ends = []
    for size, place in ((float(height), seeds[1]), (float(width), seeds[2])):
        # Centers are uniform over the image: the box may stick out, and is cut.
        center = tf.floor(tf.random.stateless_uniform([], place) * size)
        half = tf.floor(size * side) / 2
        ends += [
            tf.maximum(tf.floor(center - half), 0),
            tf.minimum(tf.floor(center + half), size),
        ]
    top, bottom, left, right = ends
    share = 1 - (bottom - top) * (right - left) / (height * width)
    return tf.stack([share, 1.0, top, bottom, left, right])


def _beta(seed: Any, alpha: float) -> Any:
    """A number from Beta(alpha, alpha)."""
    seeds = tf.random.split(seed, 2)
    # By logarithms of two gammas: for a small alpha the gammas themselves are 0.
    gammas = tf.random.stateless_gamma([2], seeds[0], alpha + 1)
    uniform = tf.random.stateless_uniform([2], seeds[1], 1e-30, 1)
    logarithms = tf.math.log(gammas) + tf.math.log(uniform) / alpha
    return tf.sigmoid(logarithms[0] - logarithms[1])
