"""Which images are kept in memory, at the size of the batches."""

from __future__ import annotations

import math

import numpy as np
import tensorflow as tf

from keras_resnet.data.cache import cached, to_keep
from keras_resnet.data.decoding import AS_THEY_ARE, Shape, decode_all
from keras_resnet.data.images import Images, Stream
from keras_resnet.data.options import Options
from keras_resnet.data.resizing import central_box

CHUNK = 1000  # images that are resized at a time, to need little more memory


def keep(
    parts: dict[str, Images | Stream], shape: Shape, test_shape: Shape, options: Options
) -> dict[str, Images | Stream]:
    """The splits with what fits decoded; arrays are resized.

    Test images are decoded when they are asked for, and crops from what is in a file;
    with a cache, all but test images are there.

    Raises:
        DataError: an image can't be read, or `cached`'s.
    """
    kept = dict(parts)
    wanted = {}
    for name, images in parts.items():
        to = shape if name == "train" else test_shape
        augment = options.augment if name == "train" else AS_THEY_ARE
        if options.cache and name != "test":
            wanted[name] = to_keep(images, to, augment)
        elif isinstance(images, Stream):
            continue
        elif not images.encoded:
            kept[name] = resize(images, to)
        elif (
            name != "test"
            and not augment.crops
            and images.count * math.prod(to) <= options.memory
        ):
            kept[name] = decode_all(images, to)
    if options.cache:
        kept |= cached(wanted, options.cache, options.console)
    return kept


def resize(images: Images, shape: Shape) -> Images:
    """Arrays of another size, with the aspect of each image: the middle is kept."""
    pixels = np.asarray(images.pixels)
    height, width = pixels.shape[1:3]
    if (height, width) == shape[:2]:
        return images
    left, top, right, bottom = map(round, central_box((height, width), shape[:2], 1.0))
    resized = np.empty((len(pixels), *shape), np.uint8)
    for start in range(0, len(pixels), CHUNK):
        part = pixels[start : start + CHUNK, top:bottom, left:right]
        part = tf.image.resize(part, shape[:2], antialias=True)
        resized[start : start + CHUNK] = tf.saturate_cast(tf.round(part), tf.uint8)
    return Images(resized, images.labels)
