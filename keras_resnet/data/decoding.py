"""Encoded images -> arrays, in threads. Pillow decodes outside Python's lock."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from keras_resnet.data.augment import Augment
from keras_resnet.data.crops import chooser, generator
from keras_resnet.data.image_files import CENTRAL, read_crop, read_image
from keras_resnet.data.images import DataError, DataWarning, Images

Shape = tuple[int, int, int]
_POOL = ThreadPoolExecutor(thread_name_prefix="decode")


def decode_all(
    images: Images, shape: Shape, strict: bool
) -> tuple[Images, tuple[str, ...]]:
    """Images as evaluation sees them: the middle, resized. Also why some are missing.

    Raises:
        DataError: one is unreadable, and `strict` is set.
    """
    pixels, failed = _decode(
        images.pixels, shape, lambda source, _: read_image(source, shape, CENTRAL)
    )
    if failed and strict:
        raise failed[min(failed)]
    labels = np.delete(images.labels, list(failed))
    return Images(pixels, labels), tuple(str(failed[i]) for i in sorted(failed))


def decode_batch(
    sources: Sequence[Any] | np.ndarray,
    labels: np.ndarray,
    shape: Shape,
    augment: Augment,
    seed: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """A batch of images, with the crops of `augment` if it has some.

    An unreadable one is named by a warning and left out.

    Raises:
        DataError: none of them is readable.
    """

    def read(source: Any, i: int) -> np.ndarray:
        choose = chooser(augment, shape[:2], generator([*seed, i]))
        if choose is None:
            return read_image(source, shape, CENTRAL)
        return read_crop(source, shape, choose)

    pixels, failed = _decode(sources, shape, read)
    if len(failed) == len(sources):
        raise failed[0]
    for error in failed.values():
        warnings.warn(str(error), DataWarning, stacklevel=2)
    return pixels, np.delete(labels, list(failed))


def _decode(
    sources: Sequence[Any] | np.ndarray,
    shape: Shape,
    read: Callable[[Any, int], np.ndarray],
) -> tuple[np.ndarray, dict[int, DataError]]:
    """The readable ones, and what is wrong with the others by index."""
    pixels = np.empty((len(sources), *shape), np.uint8)
    failed: dict[int, DataError] = {}

    def fill(i: int) -> None:
        try:
            pixels[i] = read(sources[i], i)
        except DataError as error:
            failed[i] = error

    list(_POOL.map(fill, range(len(sources))))
    return (np.delete(pixels, list(failed), axis=0) if failed else pixels), failed
