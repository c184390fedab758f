"""RandAugment and TrivialAugment: operations on an image and their ranges.

They are torchvision's. Images are uint8 (height, width, channels).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import cv2
import numpy as np

GRAY = np.array((0.299, 0.587, 0.114))  # of red, green and blue in the brightness
_LEVELS = np.arange(256)
_SMOOTH = np.array([[1, 1, 1], [1, 5, 1], [1, 1, 1]], np.float32) / 13

Pixels = np.ndarray


class Operation(NamedTuple):
    """A change by a strength.

    Attributes:
        change: image, strength, mean pixel -> image.
        rand: the strongest of RandAugment.
        trivial: the strongest of TrivialAugment, wide.
        signed: whether its sign is random.
    """

    change: Callable[[Pixels, float, Sequence[float]], Pixels]
    rand: float = 1.0
    trivial: float = 1.0
    signed: bool = False


def operate(
    image: Pixels, drawn: Sequence[float], fill: Sequence[float], *, wide: bool
) -> Pixels:
    """One operation on an image.

    Args:
        image: uint8.
        drawn: number of the operation, sign, share of the greatest strength.
        fill: the mean pixel, which comes in from outside.
        wide: whether TrivialAugment's ranges count, not RandAugment's.
    """
    operation = _LIST[int(drawn[0])]
    strength = drawn[2] * (operation.trivial if wide else operation.rand)
    return operation.change(
        image, strength * drawn[1] if operation.signed else strength, fill
    )


def linear(image: Pixels, matrix: Any, shift: Any = 0.0) -> Pixels:
    """Each color times a matrix, and moved; of gray images a number."""
    if image.shape[2] == 1:
        scale = float(np.sum(matrix) if np.ndim(matrix) else matrix)
        return lookup(image, scale * _LEVELS + shift)
    whole = np.empty((3, 4))
    whole[:, :3], whole[:, 3] = matrix, shift
    return cv2.transform(image, whole)


def lookup(image: Pixels, table: np.ndarray) -> Pixels:
    """Each value by a table: (256,), or (256, channels)."""
    levels = np.rint(table).clip(0, 255).astype(np.uint8)
    if levels.ndim == 2:
        levels = levels.reshape(256, 1, -1)
    return cv2.LUT(image, levels).reshape(image.shape)


def brightness(image: Pixels) -> float:
    """The mean of an image in gray."""
    means = cv2.mean(image)
    return float(GRAY @ means[:3]) if image.shape[2] == 3 else means[0]


def toward_gray(strength: float) -> np.ndarray:
    """The matrix that makes colors stronger by a share, or weaker if it is negative."""
    return (1 + strength) * np.eye(3) - strength * GRAY


def _affine(
    image: Pixels, a: float, b: float, c: float, d: float, fill: Sequence[float]
) -> Pixels:
    """An image under (a b; c d) about its center; the map is the inverse one."""
    x, y = (image.shape[1] - 1) / 2, (image.shape[0] - 1) / 2
    return _warp(image, ((a, b, x - a * x - b * y), (c, d, y - c * x - d * y)), fill)


def _warp(image: Pixels, matrix: Any, fill: Sequence[float]) -> Pixels:
    warped = cv2.warpAffine(
        image,
        np.array(matrix),
        (image.shape[1], image.shape[0]),
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_CONSTANT,
        borderValue=tuple(fill),
    )
    return warped.reshape(image.shape)


def _rotate(image: Pixels, degrees: float, fill: Sequence[float]) -> Pixels:
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    return _affine(image, cos, -sin, sin, cos, fill)


def _contrast(image: Pixels, strength: float, _: Any) -> Pixels:
    mean = brightness(image)
    return lookup(image, mean + (1 + strength) * (_LEVELS - mean))


def _sharpness(image: Pixels, strength: float, _: Any) -> Pixels:
    """Against Pillow's smoothed image, whose edge stays as it is."""
    smooth = cv2.filter2D(image, -1, _SMOOTH).reshape(image.shape)
    for edge in (np.s_[0], np.s_[-1], np.s_[:, 0], np.s_[:, -1]):
        smooth[edge] = image[edge]
    blended = cv2.addWeighted(image, 1 + strength, smooth, -strength, 0)
    return blended.reshape(image.shape)


def _posterize(image: Pixels, strength: float, _: Any) -> Pixels:
    """Drops `strength` of the 8 bits."""
    step = 2 ** round(strength)
    return lookup(image, _LEVELS // step * step)


def _solarize(image: Pixels, strength: float, _: Any) -> Pixels:
    bright = 255 * (1 - strength) <= _LEVELS
    return lookup(image, np.where(bright, 255 - _LEVELS, _LEVELS))


def _histograms(image: Pixels) -> np.ndarray:
    """How often each level is in each channel, (256, channels)."""
    return np.stack(
        [
            cv2.calcHist([image], [channel], None, [256], [0, 256]).reshape(256)
            for channel in range(image.shape[2])
        ],
        axis=1,
    )


def _auto_contrast(image: Pixels, _: float, __: Any) -> Pixels:
    """Stretches each channel to 0 to 255."""
    seen = _histograms(image) > 0
    low, high = seen.argmax(axis=0), 255 - seen[::-1].argmax(axis=0)
    levels = _LEVELS[:, np.newaxis]
    stretched = (levels - low) * (255 / np.maximum(high - low, 1))
    return lookup(image, np.where(high > low, stretched, levels))


def _equalize(image: Pixels, _: float, __: Any) -> Pixels:
    """Makes the histogram of each channel flat, as Pillow does."""
    histograms = _histograms(image).astype(np.int64)
    last = 255 - (histograms[::-1] > 0).argmax(axis=0)
    count = image.shape[0] * image.shape[1]
    step = (count - histograms[last, np.arange(len(last))]) // 255
    before = np.cumsum(histograms, axis=0) - histograms
    table = np.minimum((before + step // 2) // np.maximum(step, 1), 255)
    return lookup(image, np.where(step > 0, table, _LEVELS[:, np.newaxis]))


OPERATIONS: dict[str, Operation] = {
    "identity": Operation(lambda image, _, __: image),
    "shear_x": Operation(
        lambda image, s, fill: _affine(image, 1.0, s, 0.0, 1.0, fill),
        0.3, 0.99, signed=True,
    ),
    "shear_y": Operation(
        lambda image, s, fill: _affine(image, 1.0, 0.0, s, 1.0, fill),
        0.3, 0.99, signed=True,
    ),
    # Of 331 pixels 150; TrivialAugment's 32 pixels are of 224.
    "shift_x": Operation(
        lambda image, s, fill: _warp(
            image, ((1, 0, s * image.shape[1]), (0, 1, 0)), fill
        ),
        150 / 331, 32 / 224, signed=True,
    ),
    "shift_y": Operation(
        lambda image, s, fill: _warp(
            image, ((1, 0, 0), (0, 1, s * image.shape[0])), fill
        ),
        150 / 331, 32 / 224, signed=True,
    ),
    "rotate": Operation(_rotate, 30.0, 135.0, signed=True),
    "brightness": Operation(
        lambda image, s, _: lookup(image, (1 + s) * _LEVELS), 0.9, 0.99, signed=True
    ),
    "saturation": Operation(
        lambda image, s, _: linear(image, toward_gray(s) if image.shape[2] == 3 else 1),
        0.9, 0.99, signed=True,
    ),
    "contrast": Operation(_contrast, 0.9, 0.99, signed=True),
    "sharpness": Operation(_sharpness, 0.9, 0.99, signed=True),
    "posterize": Operation(_posterize, 4.0, 6.0),
    "solarize": Operation(_solarize),
    "auto_contrast": Operation(_auto_contrast),
    "equalize": Operation(_equalize),
}  # fmt: skip
_LIST = tuple(OPERATIONS.values())
