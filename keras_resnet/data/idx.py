"""IDX files, in which MNIST and Fashion-MNIST come."""

from __future__ import annotations

import gzip
import math
import struct
from pathlib import Path

import numpy as np

from keras_resnet import limits
from keras_resnet.data.images import DataError, Images
from keras_resnet.files import reading

# Kind of split -> the beginning of its files' names.
SPLITS = {"train": "train", "test": "t10k"}


def has_idx(folder: Path) -> bool:
    """Whether a folder holds the four files."""
    return all(
        _file(folder, prefix, kind) is not None
        for prefix in SPLITS.values()
        for kind in ("images-idx3", "labels-idx1")
    )


def read_split(folder: Path, split: str) -> Images:
    """The images (n, height, width, 1) and labels of a split.

    Args:
        folder: holds `train-images-idx3-ubyte`, `t10k-labels-idx1-ubyte` and so on,
            with `.gz` or without.
        split: "train" or "test".

    Raises:
        DataError: a file is missing or damaged.
    """
    prefix = SPLITS[split]
    pixels = read_idx(_needed(folder, prefix, "images-idx3"), 3)
    labels = read_idx(_needed(folder, prefix, "labels-idx1"), 1)
    if len(pixels) != len(labels):
        raise DataError(
            f"data: {folder} has {len(pixels)} {split} images, but {len(labels)} labels"
        )
    return Images(pixels[..., np.newaxis], labels.astype(np.int64))


def read_idx(path: Path, rank: int) -> np.ndarray:
    """A file of bytes in `rank` dimensions.

    Raises:
        DataError: missing, of another kind, or cut short.
    """
    try:
        with reading():
            limits.check_regular(path)
            with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
                # Two zeros, the type (8 is unsigned bytes), the number of dimensions,
                # their sizes.
                head = file.read(4 + 4 * rank)
                if head[:4] != bytes([0, 0, 8, rank]) or len(head) < 4 + 4 * rank:
                    raise DataError(
                        f"data: {path} is not an IDX file of bytes in {rank} dimensions"
                    )
                sizes = struct.unpack(f">{rank}I", head[4:])
                content = limits.unpack(file, math.prod(sizes))
    except DataError:
        raise
    except ValueError as error:
        raise DataError(f"data: can't read {path}: {error}") from None
    if len(content) != math.prod(sizes):
        raise DataError(
            f"data: {path} has {len(content)} bytes, not the {math.prod(sizes)} that "
            "its first ones announce"
        )
    return np.frombuffer(content, np.uint8).reshape(sizes)


def _file(folder: Path, prefix: str, kind: str) -> Path | None:
    for suffix in (".gz", ""):
        # The hyphen before idx is a dot in some copies.
        for name in (f"{prefix}-{kind}", f"{prefix}-{kind}".replace("-idx", ".idx")):
            path = folder / f"{name}-ubyte{suffix}"
            if path.is_file():
                return path
    return None


def _needed(folder: Path, prefix: str, kind: str) -> Path:
    path = _file(folder, prefix, kind)
    if path is None:
        raise DataError(f"data: {folder} has no {prefix}-{kind}-ubyte, .gz or not")
    return path
