"""Batches of images: each is decoded, cropped and changed in one thread, as uint8."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from keras_resnet.data.augment import Augment
from keras_resnet.data.crops import chooser
from keras_resnet.data.image_files import CENTRAL, read_crop, read_image
from keras_resnet.data.images import Images, Ragged, new_batch
from keras_resnet.data.resizing import Choose, resize_part
from keras_resnet.data.transforms import change_image

Shape = tuple[int, int, int]
THREADS = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 2
CHUNK = 4  # images that a thread is handed at a time, at least
_POOL = ThreadPoolExecutor(THREADS, thread_name_prefix="decode")
AS_THEY_ARE = Augment()


def decode_all(images: Images, shape: Shape) -> Images:
    """Images as evaluation sees them: the middle, resized.

    Raises:
        DataError: one is unreadable, though it wasn't when the source was read.
    """
    return Images(make_batch(images.pixels, shape), images.labels, images.digests)


def make_batch(
    sources: Sequence[Any] | np.ndarray | Ragged,
    shape: Shape,
    augment: Augment = AS_THEY_ARE,
    drawn: Sequence[np.ndarray] = (),
    fill: Sequence[float] = (),
) -> np.ndarray:
    """Images of one shape, changed: uint8 (batch, height, width, channels).

    Args:
        sources: paths, contents of files, or pixels.
        shape: height, width, channels.
        augment: what to do to each.
        drawn: what `transforms.draw_all` drew for them.
        fill: the mean pixel.

    Raises:
        DataError: one is unreadable.
    """
    batch = new_batch((len(sources), *shape))
    rows = [numbers.tolist() for numbers in drawn]

    def make(first: int, last: int) -> None:
        for i in range(first, last):
            drawn_here = [numbers[i] for numbers in rows]
            choose = chooser(augment, shape[:2], drawn_here[0]) if rows else None
            image = load_one(sources[i], shape, choose)
            batch[i] = change_image(image, drawn_here, augment, fill)

    if isinstance(sources, np.ndarray | Ragged):  # the caller is one of several threads
        make(0, len(sources))
        return batch
    chunk = max(len(sources) // (2 * THREADS), CHUNK)
    starts = range(0, len(sources), chunk)
    ends = [min(start + chunk, len(sources)) for start in starts]
    list(_POOL.map(make, starts, ends))
    return batch


def load_one(source: Any, shape: Shape, choose: Choose | None) -> np.ndarray:
    """An image of this shape: a part that is chosen, or the middle.

    Args:
        source: a path, the content of a file, or pixels.
        shape: height, width, channels.
        choose: the part; pixels without one are as they should be.

    Raises:
        DataError: it is unreadable.
    """
    if not isinstance(source, np.ndarray):
        if choose is None:
            return read_image(source, shape, CENTRAL)
        return read_crop(source, shape, choose)
    if choose is None:
        return source
    return resize_part(source, choose(*source.shape[:2]), shape[:2])
