"""Mean and standard deviation of the training images."""

from __future__ import annotations

from typing import Any

import numpy as np

from keras_resnet.data.decoding import Shape, make_batch
from keras_resnet.data.images import Images, Stream

SAMPLE = 2048  # images whose statistics stand for all that don't fit into memory
CHUNK = 1000  # images that are counted at a time, to need little more memory


def pixel_stats(
    images: Images | Stream, shape: Shape, seed: int, *, sample: bool
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of each channel, of all images or a sample."""
    if sample and isinstance(images, Images):
        order = np.random.default_rng(seed).permutation(images.count)
        images = images.take(order[:SAMPLE])
    pixels = images.pixels if isinstance(images, Images) else None
    if not isinstance(pixels, np.ndarray):
        sources = _sources(images, seed)
        pixels = make_batch(sources, shape)
    channels = pixels.shape[-1]
    counts = np.zeros((channels, 256))  # exact, and small beside the images
    for start in range(0, len(pixels), CHUNK):
        part = pixels[start : start + CHUNK].reshape(-1, channels)
        for channel in range(channels):
            counts[channel] += np.bincount(part[:, channel], minlength=256)
    levels, shares = np.arange(256), counts / counts[0].sum()
    mean = shares @ levels
    deviation = np.sqrt((shares * (levels - mean[:, np.newaxis]) ** 2).sum(axis=1))
    return tuple(mean.tolist()), tuple(np.maximum(deviation, 1.0).tolist())


def _sources(images: Images | Stream, seed: int) -> list[Any]:
    if isinstance(images, Images):
        return list(images.pixels)
    examples = images.examples(seed).take(SAMPLE).as_numpy_iterator()
    return [source for source, _ in examples]
