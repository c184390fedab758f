"""What a source gives: labelled images, in memory or still encoded."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from keras_resnet.errors import UserError

ALIGNED = 64  # bytes, to which TensorFlow's tensors are


class DataError(UserError):
    """A data source that is unknown or unreadable."""


class DataWarning(UserWarning):
    """Something in the data that is worth a look, on one line."""


class LeftOutWarning(DataWarning):
    """What isn't read of the data, and why."""


@dataclasses.dataclass(frozen=True, eq=False)
class Ragged(Sequence[np.ndarray]):
    """Images of different sizes, one after the other in one array.

    Attributes:
        pixels: uint8 (any,).
        starts: where each begins, int64 (n,).
        sizes: height and width of each, int64 (n, 2).
        channels: of all.
    """

    pixels: np.ndarray
    starts: np.ndarray
    sizes: np.ndarray
    channels: int

    def __len__(self) -> int:
        return len(self.starts)

    def __getitem__(self, i: Any) -> Any:
        height, width = self.sizes[i].tolist()
        start = int(self.starts[i])
        pixels = self.pixels[start : start + height * width * self.channels]
        return pixels.reshape(height, width, self.channels)

    def take(self, indices: np.ndarray) -> Ragged:
        """Some of them."""
        starts, sizes = self.starts[indices], self.sizes[indices]
        return dataclasses.replace(self, starts=starts, sizes=sizes)


@dataclasses.dataclass(frozen=True, eq=False)
class Images:
    """Labelled images of which any can be had.

    Attributes:
        pixels: uint8 (n, height, width, channels), or such of different sizes, or n
            encoded images: paths of files, or their bytes.
        labels: classes, int64 (n,); several labels as 0 and 1, or numbers, float32
            (n, names).
        digests: what tells each from others, 16 bytes, where it is known.
        about: the row of each in the index of files, where they are some.
    """

    pixels: np.ndarray | Sequence[Any]
    labels: np.ndarray
    digests: np.ndarray | None = None
    about: np.ndarray | None = None

    @property
    def count(self) -> int:
        """Number of images."""
        return len(self.labels)

    @property
    def encoded(self) -> bool:
        """Whether they have to be decoded."""
        return not isinstance(self.pixels, np.ndarray | Ragged)

    @property
    def ragged(self) -> bool:
        """Whether they are pixels of different sizes."""
        return isinstance(self.pixels, Ragged)

    def take(self, indices: np.ndarray) -> Images:
        """Some of them."""
        digests, about = (
            known if known is None else known[indices]
            for known in (self.digests, self.about)
        )
        pixels = self.pixels
        if isinstance(pixels, np.ndarray):
            taken: Any = pixels[indices]
        elif hasattr(pixels, "take"):
            taken = pixels.take(indices)
        else:
            taken = [pixels[i] for i in indices]
        return Images(taken, self.labels[indices], digests, about)


@dataclasses.dataclass(frozen=True, eq=False)
class Stream:
    """Labelled images that come one after the other: too many for the memory.

    Attributes:
        examples: a `tf.data.Dataset` of encoded images and their labels, shuffled by
            the seed that it is given or, for None, in a fixed order.
        part: the same of the images from one place to another, in a ring.
        count: number of images.
    """

    examples: Callable[[int | None], Any]
    part: Callable[[int, int], Stream]
    count: int


def new_batch(shape: tuple[int, ...]) -> np.ndarray:
    """An empty uint8 array where TensorFlow takes it without a copy."""
    length = math.prod(shape)
    memory = np.empty(length + ALIGNED, np.uint8)
    start = -memory.ctypes.data % ALIGNED
    return memory[start : start + length].reshape(shape)


class Found(NamedTuple):
    """What a source holds, in its own splits.

    Attributes:
        train: to train on, or all that there is.
        class_names: a name for each class, label or number.
        channels: 1 or 3 where images are encoded.
        size: (height, width) that all images have; None if they differ.
        val: its own validation split.
        test: its own test split.
        unreadable: what is no image, and why.
        left_out: what else isn't read, and why.
        notes: what is read in a way that may not be expected.
        version: says which state of the source this is, where it can.
    """

    train: Images | Stream
    class_names: tuple[str, ...]
    channels: int
    size: tuple[int, int] | None
    val: Images | Stream | None = None
    test: Images | Stream | None = None
    unreadable: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    version: str = ""
