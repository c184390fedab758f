"""IDX files, in which MNIST and Fashion-MNIST come."""

from __future__ import annotations

import gzip
import math
import struct
import zlib
from pathlib import Path

import numpy as np

from keras_resnet.data.images import DataError, Images

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
        content = path.read_bytes()
        if path.suffix == ".gz":
            content = gzip.decompress(content)
    except (OSError, EOFError, zlib.error) as error:
        reason = getattr(error, "strerror", None) or error
        raise DataError(f"data: can't read {path}: {reason}") from None
    # Two zeros, the type (8 is unsigned bytes), the number of dimensions, their sizes.
    start = 4 + 4 * rank
    if len(content) < start or content[:4] != bytes([0, 0, 8, rank]):
        raise DataError(
            f"data: {path} is not an IDX file of bytes in {rank} dimensions"
        )
    sizes = struct.unpack(f">{rank}I", content[4:start])
    if len(content) - start != math.prod(sizes):
        raise DataError(
            f"data: {path} has {len(content) - start} bytes, not the "
            f"{math.prod(sizes)} that its first ones announce"
        )
    return np.frombuffer(content, np.uint8, offset=start).reshape(sizes)


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
