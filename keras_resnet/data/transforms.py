"""Random changes of one training image: what is drawn for them, and what is done.

Numbers are drawn in the graph, for a whole batch by its seed, so that they are the
same whatever thread has an image. What is done with them is done to uint8 pixels in
the thread that decodes the image.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import cv2
import numpy as np
import tensorflow as tf

from keras_resnet.data.augment import Augment
from keras_resnet.data.crops import DRAWN
from keras_resnet.data.policies import (
    OPERATIONS,
    brightness,
    linear,
    operate,
    toward_gray,
)

ERASED_AREA = (0.02, 0.4)  # Zhong 2017, section 4.2
ERASED_ASPECTS = (0.3, 1 / 0.3)
# Of ImageNet's colors from 0 to 1 (fb.resnet.torch): standard deviations along the
# principal components, and these as columns.
COLOR_DEVIATIONS = np.array((0.2175, 0.0188, 0.0045))
COLOR_COMPONENTS = np.array(
    (
        (-0.5675, 0.7192, 0.4009),
        (-0.5808, -0.0045, -0.8140),
        (-0.5836, -0.6948, 0.4203),
    )
)

Row = Sequence[float]


class Change(NamedTuple):
    """A change.

    Attributes:
        draw: seed, number of images, settings -> numbers (images, any).
        apply: image, its numbers, settings, mean pixel -> image, of its own memory or
            the same.
    """

    draw: Callable[[Any, Any, Augment], Any]
    apply: Callable[[np.ndarray, Row, Augment, Row], np.ndarray]


def draw_all(augment: Augment, seed: Any, count: Any) -> list[Any]:
    """What is drawn for a batch, by the fields that ask for it.

    Args:
        augment: settings.
        seed: int (2,), which fixes all that is random.
        count: number of images.

    Returns:
        float32 (count, any) for each entry of `CHANGES` that `augment` asks for.
    """
    return [
        tf.cast(change.draw(tf.random.fold_in(seed, i), count, augment), tf.float32)
        for i, (field, change) in enumerate(CHANGES.items())
        if _asked(augment, field)
    ]


def change_image(
    image: np.ndarray, rows: Sequence[Row], augment: Augment, fill: Row
) -> np.ndarray:
    """Changes an image by the numbers that were drawn for it.

    Args:
        image: uint8 (height, width, channels); stays as it is.
        rows: the image's of what `draw_all` returns.
        augment: settings.
        fill: the mean pixel.
    """
    asked = [change for field, change in CHANGES.items() if _asked(augment, field)]
    for change, row in zip(asked, rows, strict=True):
        image = change.apply(image, row, augment, fill)
    return image


def _asked(augment: Augment, field: str) -> bool:
    return getattr(augment, field) not in (None, 0, "none")


def _draw_shifts(seed: Any, count: Any, augment: Augment) -> Any:
    shifts = tf.random.stateless_uniform(
        [2, count], seed, -augment.pad, augment.pad + 1, dtype=tf.int32
    )
    return tf.transpose(shifts)


def _pad_crop(image: np.ndarray, row: Row, augment: Augment, fill: Row) -> np.ndarray:
    """Shifts an image by -pad .. pad pixels in both directions."""
    down, right = int(row[0]), int(row[1])
    height, width, channels = image.shape
    if augment.pad_mode == "reflect":
        pad = augment.pad
        padded = cv2.copyMakeBorder(image, *(pad,) * 4, cv2.BORDER_REFLECT_101)
        padded = padded.reshape(height + 2 * pad, width + 2 * pad, channels)
        return padded[pad + down :, pad + right :][:height, :width]
    shifted = np.empty_like(image)
    shifted[:] = _as_pixel(fill)
    inside = np.s_[max(down, 0) : height + down, max(right, 0) : width + right]
    to = np.s_[max(-down, 0) : height - down, max(-right, 0) : width - right]
    shifted[to] = image[inside]
    return shifted


def _draw_one(seed: Any, count: Any, augment: Augment) -> Any:
    return tf.random.stateless_uniform([count, 1], seed)


def _flip(image: np.ndarray, row: Row, augment: Augment, fill: Row) -> np.ndarray:
    return image if row[0] < 0.5 else cv2.flip(image, 1).reshape(image.shape)


def _draw_policy(seed: Any, count: Any, augment: Augment) -> Any:
    """Number of the operation, sign and strength, for each of the operations."""
    if augment.policy == "trivial":
        strengths = tf.random.stateless_uniform([count], tf.random.fold_in(seed, 0))
        return _draw_operation(seed, strengths)
    strengths = tf.fill([count], float(augment.policy_magnitude))
    operations = [
        _draw_operation(tf.random.fold_in(seed, i), strengths)
        for i in range(augment.policy_ops)
    ]
    return tf.concat(operations, axis=1)


def _draw_operation(seed: Any, strengths: Any) -> Any:
    seeds = tf.random.split(seed, 2)
    count = tf.shape(strengths)[0]
    number, sign = (
        tf.random.stateless_uniform([count], seeds[i], 0, limit, dtype=tf.int32)
        for i, limit in enumerate((len(OPERATIONS), 2))
    )
    numbers = [tf.cast(number, tf.float32), tf.cast(sign * 2 - 1, tf.float32)]
    return tf.stack([*numbers, strengths], axis=1)


def _policy(image: np.ndarray, row: Row, augment: Augment, fill: Row) -> np.ndarray:
    for i in range(0, len(row), 3):
        image = operate(image, row[i : i + 3], fill, wide=augment.policy == "trivial")
    return image


def _draw_color(seed: Any, count: Any, augment: Augment) -> Any:
    low, high = 1 - augment.color, 1 + augment.color
    seeds = tf.random.split(seed, 3)
    return tf.stack(
        [tf.random.stateless_uniform([count], seeds[i], low, high) for i in range(3)],
        axis=1,
    )


def _color(image: np.ndarray, row: Row, augment: Augment, fill: Row) -> np.ndarray:
    """Brightness, contrast and saturation, in this order, each by up to a share.

    All three are linear in the colors: one matrix and one shift, with no rounding
    between.
    """
    bright, contrast, saturation = row
    mean = bright * brightness(image)
    colors = toward_gray(saturation - 1) if image.shape[2] == 3 else 1
    return linear(image, bright * contrast * colors, (1 - contrast) * mean)


def _draw_lighting(seed: Any, count: Any, augment: Augment) -> Any:
    return tf.random.stateless_normal([count, 3], seed, stddev=augment.lighting)


def _lighting(image: np.ndarray, row: Row, augment: Augment, fill: Row) -> np.ndarray:
    """Moves an image's color along ImageNet's principal components."""
    return linear(image, np.eye(3), 255 * COLOR_COMPONENTS @ (row * COLOR_DEVIATIONS))


def _draw_box(seed: Any, count: Any, augment: Augment) -> Any:
    seeds = tf.random.split(seed, 5)
    return tf.stack(
        [tf.random.stateless_uniform([count], seeds[i]) for i in range(5)], axis=1
    )


def _erase(image: np.ndarray, row: Row, augment: Augment, fill: Row) -> np.ndarray:
    """Fills a random rectangle of some images (Zhong 2017, section 3.2)."""
    if row[4] >= augment.erase:
        return image
    height, width = image.shape[:2]
    low, high = ERASED_AREA
    area = (low + row[0] * (high - low)) * height * width
    least, most = map(math.log, ERASED_ASPECTS)
    aspect = math.exp(least + row[1] * (most - least))
    # Where it doesn't fit the paper draws again; a narrower one of the same area does.
    rows = min(max(round(math.sqrt(area * aspect)), math.ceil(area / width)), height)
    columns = min(max(round(area / rows), 1), width)
    top, left = int(row[2] * (height - rows + 1)), int(row[3] * (width - columns + 1))
    erased = image.copy()
    erased[top : top + rows, left : left + columns] = _as_pixel(fill)
    return erased


def _as_pixel(fill: Row) -> np.ndarray:
    return np.rint(np.asarray(fill, np.float32)).astype(np.uint8)


def _draw_crop(seed: Any, count: Any, augment: Augment) -> Any:
    return tf.random.stateless_uniform([count, DRAWN], seed)


def _cropped(image: np.ndarray, row: Row, augment: Augment, fill: Row) -> np.ndarray:
    return image  # as it was decoded


# Field of `Augment` that asks for it -> what it does, in the order of application.
CHANGES: dict[str, Change] = {
    "pad": Change(_draw_shifts, _pad_crop),
    "scale": Change(_draw_crop, _cropped),
    "resize": Change(_draw_crop, _cropped),
    "flip": Change(_draw_one, _flip),
    "policy": Change(_draw_policy, _policy),
    "color": Change(_draw_color, _color),
    "lighting": Change(_draw_lighting, _lighting),
    "erase": Change(_draw_box, _erase),
}
