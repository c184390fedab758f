"""Random crops of images of any size. No TensorFlow."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from keras_resnet.data.augment import Augment

ASPECTS = (3 / 4, 4 / 3)  # width over height of a crop by area (Inception)
TRIES = 10

Generator = np.random.Generator
# height and width -> left, top, right, bottom in pixels
Choose = Callable[[int, int], tuple[float, float, float, float]]


def generator(seed: Any) -> Generator:
    """Random numbers by a TensorFlow seed, whose integers may be negative."""
    return np.random.default_rng(np.asarray(seed).astype(np.uint32))


def chooser(
    augment: Augment, size: tuple[int, int], random: Generator
) -> Choose | None:
    """What draws the part of an image that becomes `size`; None if it is the whole."""
    if augment.scale:
        low, high = augment.scale
        return lambda height, width: by_area(height, width, low, high, random)
    if augment.resize:
        least, most = augment.resize
        return lambda height, width: by_side(height, width, size, least, most, random)
    return None


def by_area(
    height: int, width: int, low: float, high: float, random: Generator
) -> tuple[float, float, float, float]:
    """A part of `low` to `high` of the area, of an aspect from 3/4 to 4/3.

    As fb.resnet.torch: ten tries, then the largest central part of a right aspect.
    """
    shares = random.uniform(low, high, TRIES)
    aspects = np.exp(random.uniform(math.log(ASPECTS[0]), math.log(ASPECTS[1]), TRIES))
    for area, aspect in zip(shares * height * width, aspects, strict=True):
        box_width = round(math.sqrt(area * aspect))
        box_height = round(math.sqrt(area / aspect))
        if 0 < box_width <= width and 0 < box_height <= height:
            left = int(random.integers(width - box_width + 1))
            top = int(random.integers(height - box_height + 1))
            return (left, top, left + box_width, top + box_height)
    aspect = min(max(width / height, ASPECTS[0]), ASPECTS[1])
    most_wide, most_high = min(width, height * aspect), min(height, width / aspect)
    x, y = (width - most_wide) / 2, (height - most_high) / 2
    return (x, y, x + most_wide, y + most_high)


def by_side(
    height: int,
    width: int,
    size: tuple[int, int],
    least: int,
    most: int,
    random: Generator,
) -> tuple[float, float, float, float]:
    """The part that `size` is of the image, its shorter side `least` to `most` pixels.

    He 2015, section 3.4.
    """
    shrink = min(height, width) / random.integers(least, most + 1)
    box_height, box_width = min(size[0] * shrink, height), min(size[1] * shrink, width)
    top = random.uniform(0, height - box_height)
    left = random.uniform(0, width - box_width)
    return (left, top, left + box_width, top + box_height)
