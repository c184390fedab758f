"""Networks for images of other channels than they were trained on: one rule.

The old channels are taken in turn: of four from red, green and blue, the fourth one
is red again. Copies of a channel share its kernel equally; where there are fewer new
channels, the kernels of those that fall on one are summed, all three for gray. So
images whose channels repeat the old ones, gray ones above all, give the same outputs as
before. To one channel or a multiple of the old ones it is timm's rule.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from keras_resnet.plan import stage_of


def adapted(
    arrays: Mapping[str, list[np.ndarray]], layers: Mapping[str, Any]
) -> dict[str, list[np.ndarray]]:
    """Arrays by layer, with a first kernel for the input channels of the model's."""
    first = next((name for name in layers if stage_of(name) == "conv1"), None)
    result = dict(arrays)
    if first in result and result[first][0].ndim == 4:
        kernel, *rest = result[first]
        result[first] = [adapted_kernel(kernel, layers[first].weights[0].shape[2])]
        result[first] += rest
    return result


def adapted_kernel(kernel: np.ndarray, wanted: int) -> np.ndarray:
    """A kernel (height, width, channels, filters) for so many channels."""
    held = kernel.shape[2]
    copies = np.bincount(np.arange(wanted) % held, minlength=held)
    result = np.zeros((*kernel.shape[:2], wanted, kernel.shape[3]), kernel.dtype)
    for channel in range(max(held, wanted)):
        old = channel % held
        result[:, :, channel % wanted] += kernel[:, :, old] / max(copies[old], 1)
    return result


def adapted_stats(
    stats: tuple[Sequence[float], Sequence[float]], wanted: int | None
) -> tuple[Sequence[float], Sequence[float]]:
    """Mean and deviation of each channel for so many channels, by the same rule."""
    held = len(stats[0])
    wanted = wanted or held
    places = [range(new, max(held, wanted), wanted) for new in range(wanted)]
    mean, std = (
        tuple(float(np.mean(np.take(numbers, olds, mode="wrap"))) for olds in places)
        for numbers in stats
    )
    return mean, std
