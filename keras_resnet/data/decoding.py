"""Encoded images -> arrays, in threads. Pillow decodes outside Python's lock."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from keras_resnet.data.augment import Augment
from keras_resnet.data.crops import chooser, generator
from keras_resnet.data.image_files import CENTRAL, read_crop, read_image
from keras_resnet.data.images import Images

Shape = tuple[int, int, int]
_POOL = ThreadPoolExecutor(thread_name_prefix="decode")


def decode_all(images: Images, shape: Shape) -> Images:
    """Images as evaluation sees them: the middle, resized.

    Raises:
        DataError: one is unreadable, though it wasn't when the source was read.
    """
    pixels = _decode(
        images.pixels, shape, lambda source, _: read_image(source, shape, CENTRAL)
    )
    return Images(pixels, images.labels)


def decode_batch(
    sources: Sequence[Any] | np.ndarray,
    shape: Shape,
    augment: Augment,
    seed: np.ndarray,
) -> np.ndarray:
    """A batch of images, with the crops of `augment` if it has some.

    Raises:
        DataError: one is unreadable.
    """

    def read(source: Any, i: int) -> np.ndarray:
        choose = chooser(augment, shape[:2], generator([*seed, i]))
        if choose is None:
            return read_image(source, shape, CENTRAL)
        return read_crop(source, shape, choose)

    return _decode(sources, shape, read)


def _decode(
    sources: Sequence[Any] | np.ndarray,
    shape: Shape,
    read: Callable[[Any, int], np.ndarray],
) -> np.ndarray:
    pixels = np.empty((len(sources), *shape), np.uint8)

    def fill(i: int) -> None:
        pixels[i] = read(sources[i], i)

    list(_POOL.map(fill, range(len(sources))))
    return pixels
