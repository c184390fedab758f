"""Where images come from: arrays of uint8 with their labels and class names."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from keras_resnet.errors import UserError


class DataError(UserError):
    """A data source that is unknown or unreadable."""


class Images(NamedTuple):
    """Labelled images.

    Attributes:
        images: uint8 (n, height, width, channels).
        labels: int64 (n,).
        class_names: a name for each label.
    """

    images: np.ndarray
    labels: np.ndarray
    class_names: tuple[str, ...]


def digits() -> Images:
    """scikit-learn's 1,797 scanned digits of 8x8 pixels, which come with it."""
    from sklearn.datasets import load_digits

    bunch = load_digits()
    pixels = np.rint(bunch.images * (255 / 16)).astype(np.uint8)  # 17 levels of ink
    return Images(
        pixels[..., np.newaxis], bunch.target.astype(np.int64), tuple("0123456789")
    )


SOURCES = {"digits": digits}


def read(source: str) -> Images:
    """The images of a source by its name.

    Raises:
        DataError: no such source.
    """
    if not isinstance(source, str) or source not in SOURCES:
        raise DataError(
            f"data: {source!r} is not one of {', '.join(map(repr, SOURCES))}"
        )
    return SOURCES[source]()
