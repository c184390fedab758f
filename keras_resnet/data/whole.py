"""What is done to all images of a split at once: resizing, statistics."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from keras_resnet.data.augment import Augment
from keras_resnet.data.decoding import Shape, decode_batch
from keras_resnet.data.image_files import central_box
from keras_resnet.data.images import Images, Stream

SAMPLE = 2048  # images whose statistics stand for all that don't fit into memory
CHUNK = 1000  # images that are handled at a time, to need little more memory


def resize_all(images: Images, shape: Shape) -> Images:
    """Arrays of another size, with the aspect of each image: the middle is kept."""
    pixels = np.asarray(images.pixels)
    height, width = pixels.shape[1:3]
    if (height, width) == shape[:2]:
        return images
    left, top, right, bottom = map(round, central_box(height, width, *shape[:2], 1.0))
    resized = np.empty((len(pixels), *shape), np.uint8)
    for start in range(0, len(pixels), CHUNK):
        part = pixels[start : start + CHUNK, top:bottom, left:right]
        part = tf.image.resize(part, shape[:2], antialias=True)
        resized[start : start + CHUNK] = tf.saturate_cast(tf.round(part), tf.uint8)
    return Images(resized, images.labels)


def pixel_stats(
    images: Images | Stream, shape: Shape, seed: int, *, sample: bool
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of each channel, of all images or a sample."""
    if sample and isinstance(images, Images):
        order = np.random.default_rng(seed).permutation(images.count)
        images = images.take(order[:SAMPLE])
    pixels = images.pixels if isinstance(images, Images) else None
    if not isinstance(pixels, np.ndarray):
        taken = _examples(images, seed)
        pixels, _ = decode_batch(*taken, shape, Augment(), np.zeros(2))
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


def _examples(
    images: Images | Stream, seed: int
) -> tuple[list[str] | list[bytes], np.ndarray]:
    if isinstance(images, Images):
        return list(images.pixels), images.labels
    examples = images.examples(seed).take(SAMPLE).as_numpy_iterator()
    sources, labels = zip(*examples, strict=True)
    return list(sources), np.array(labels)
