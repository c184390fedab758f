"""Random crops of images of any size, by numbers that were drawn. No TensorFlow."""

from __future__ import annotations

import math
from collections.abc import Sequence

from keras_resnet.data.augment import Augment
from keras_resnet.data.resizing import Box, Choose

ASPECTS = (3 / 4, 4 / 3)  # width over height of a crop by area (Inception)
TRIES = 10
DRAWN = 2 * TRIES + 2  # numbers from 0 to 1 for a crop


def chooser(
    augment: Augment, size: tuple[int, int], drawn: Sequence[float]
) -> Choose | None:
    """What chooses the part of an image that becomes `size`; None if it is the whole.

    Args:
        augment: `scale` or `resize`.
        size: height and width.
        drawn: `DRAWN` numbers from 0 to 1.
    """
    if augment.scale:
        low, high = augment.scale
        return lambda height, width: by_area(height, width, low, high, drawn)
    if augment.resize:
        least, most = augment.resize
        return lambda height, width: by_side(height, width, size, least, most, drawn)
    return None


def by_area(
    height: int, width: int, low: float, high: float, drawn: Sequence[float]
) -> Box:
    """A part of `low` to `high` of the area, of an aspect from 3/4 to 4/3.

    As fb.resnet.torch: ten tries, then the largest central part of a right aspect.
    """
    least, most = map(math.log, ASPECTS)
    for i in range(TRIES):
        area = (low + drawn[i] * (high - low)) * height * width
        aspect = math.exp(least + drawn[TRIES + i] * (most - least))
        box_width = round(math.sqrt(area * aspect))
        box_height = round(math.sqrt(area / aspect))
        if 0 < box_width <= width and 0 < box_height <= height:
            left = int(drawn[-2] * (width - box_width + 1))
            top = int(drawn[-1] * (height - box_height + 1))
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
    drawn: Sequence[float],
) -> Box:
    """The part that `size` is of the image, its shorter side `least` to `most` pixels.

    He 2015, section 3.4.
    """
    shrink = min(height, width) / (least + int(drawn[0] * (most - least + 1)))
    box_height, box_width = min(size[0] * shrink, height), min(size[1] * shrink, width)
    left, top = drawn[-2] * (width - box_width), drawn[-1] * (height - box_height)
    return (left, top, left + box_width, top + box_height)
