"""Images decoded and shrunk once, in a file that is mapped into memory.

As FFCV does (Leclerc 2023, arXiv 2306.12517). Validation images, and training images of
which no random parts are taken, are kept as the network sees them: nothing but the time
differs. Of others the whole is kept, its shorter side at the length that evaluation
begins from: crops are taken from what has been shrunk.

A cache is a `.npy` file of uint8, named by a hash of what it is made from: names, sizes
and times of the files, and the size of each image in it.
"""

from __future__ import annotations

import hashlib
import math
import os
import shutil
import threading
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
from filelock import FileLock
from rich.console import Console

from keras_resnet.data.augment import Augment
from keras_resnet.data.chunks import in_chunks
from keras_resnet.data.decoding import Shape, load_one
from keras_resnet.data.image_files import CENTRAL
from keras_resnet.data.images import DataError, Images, Ragged, Stream
from keras_resnet.data.index import Files
from keras_resnet.units import in_units

VERSION = 1  # of what is in a file


class Kept(NamedTuple):
    """What a cache holds of some images.

    Attributes:
        images: those.
        files: where they are.
        about: their rows in the index.
        sizes: height and width of each, int64 (n, 2).
        channels: of all.
        whole: whether crops are taken from them; else they are as evaluation sees them.
    """

    images: Images
    files: Files
    about: np.ndarray
    sizes: np.ndarray
    channels: int
    whole: bool

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the array in the file."""
        if self.whole:
            return (int(self.sizes.prod(axis=1).sum()) * self.channels,)
        return (len(self.sizes), *map(int, self.sizes[0]), self.channels)

    @property
    def key(self) -> str:
        """What tells this from all else, hexadecimal."""
        files = self.files
        key = hashlib.blake2b(digest_size=12)
        key.update(repr((VERSION, self.channels, self.whole, files.folders)).encode())
        for array in (
            files.folder,
            files.ends,
            files.rows,
            self.about[["size", "time"]],
        ):
            key.update(np.ascontiguousarray(array).tobytes())
        key.update(files.names + self.sizes.tobytes())
        return key.hexdigest()


def to_keep(images: Images | Stream, shape: Shape, augment: Augment) -> Kept:
    """What is kept of images that are read at a shape, by how they are changed.

    Raises:
        DataError: they aren't in files.
    """
    about = images.about if isinstance(images, Images) else None
    if isinstance(images, Stream) or about is None:
        raise DataError(
            "cache: is for image files, of folder:, csv: or a frame; leave it out"
        )
    files: Any = images.pixels
    if not augment.crops:
        sizes = np.tile(np.array(shape[:2], np.int64), (images.count, 1))
        return Kept(images, files, about, sizes, shape[2], whole=False)
    own = np.stack([about["height"], about["width"]], axis=1)
    factor = np.minimum(shorter_side(shape, augment) / own.min(axis=1), 1)
    sizes = np.maximum(np.rint(own * factor[:, np.newaxis]), 1).astype(np.int64)
    return Kept(images, files, about, sizes, shape[2], whole=True)


def shorter_side(shape: Shape, augment: Augment) -> int:
    """Of the images that crops are taken from, in pixels; smaller ones stay."""
    if augment.resize:
        return augment.resize[1]
    return math.ceil(max(shape[:2]) / CENTRAL)


def cached(
    wanted: Mapping[str, Kept], folder: Path, console: Console | None
) -> dict[str, Images]:
    """Images from their caches, which are made if they aren't there.

    Processes that want the same one make it once. A kill leaves nothing that is taken
    for whole, nor does a full disk.

    Args:
        wanted: by split.
        folder: of the caches.
        console: where sizes and progress are shown.

    Raises:
        DataError: no room, no such folder, images that are in no files or can't be
            read.
    """
    paths = {split: folder / f"{kept.key}.npy" for split, kept in wanted.items()}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _check_room([wanted[s] for s in wanted if not paths[s].exists()], folder)
        return {
            split: _images(kept, paths[split], split, console)
            for split, kept in wanted.items()
        }
    except OSError as error:
        raise DataError(f"cache: can't write to {folder}: {error.strerror}") from None


def _check_room(missing: list[Kept], folder: Path) -> None:
    needed = sum(math.prod(kept.shape) for kept in missing)
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise DataError(
            f"cache: {in_units(needed, 'B')} are needed, and {folder} has "
            f"{in_units(free, 'B')} free"
        )


def _images(kept: Kept, path: Path, split: str, console: Console | None) -> Images:
    """Of a cache that is made if it isn't there, or isn't whole."""
    pixels = _open(path, kept.shape)
    if pixels is None:
        with FileLock(path.with_suffix(".lock")):
            pixels = _open(path, kept.shape)  # another process has made it
            if pixels is None:
                if console:
                    console.print(
                        f"cache     {kept.images.count:,} images of {split} take "
                        f"{in_units(math.prod(kept.shape), 'B')} in {path}",
                        soft_wrap=True,
                    )
                _make(kept, path, console)
                pixels = np.load(path, mmap_mode="r")
    if kept.whole:
        lengths = kept.sizes.prod(axis=1) * kept.channels
        starts = np.cumsum(lengths) - lengths
        held: Any = Ragged(pixels, starts, kept.sizes, kept.channels)
    else:
        held = pixels
    return Images(held, kept.images.labels, kept.images.digests)


def _open(path: Path, shape: tuple[int, ...]) -> np.ndarray | None:
    """The array of a file; None if it isn't there, or isn't what it was made to be."""
    try:
        found = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError):
        return None
    return found if found.shape == shape and found.dtype == np.uint8 else None


def _make(kept: Kept, path: Path, console: Console | None) -> None:
    """Writes a cache, under its lock: half of one has another name."""
    part = path.with_suffix(".part")  # of a process that was killed, maybe
    try:
        with part.open("wb") as file:
            _fill(kept, file, console)
            os.fsync(file.fileno())
        os.replace(part, path)
    finally:
        with suppress(OSError):
            part.unlink()


def _fill(kept: Kept, file: BinaryIO, console: Console | None) -> None:
    header = {"descr": "|u1", "fortran_order": False, "shape": kept.shape}
    np.lib.format.write_array_header_1_0(file, header)
    file.flush()
    lengths = kept.sizes.prod(axis=1) * kept.channels
    starts = file.tell() + np.cumsum(lengths) - lengths
    if hasattr(os, "posix_fallocate"):  # a full disk shows at once
        os.posix_fallocate(file.fileno(), 0, int(starts[-1] + lengths[-1]))

    turn = threading.Lock()

    def write(i: int) -> None:
        height, width = map(int, kept.sizes[i])
        choose = _all_of_it if kept.whole else None
        pixels = load_one(kept.files[i], (height, width, kept.channels), choose)
        with turn:
            file.seek(int(starts[i]))
            file.write(pixels.tobytes())

    in_chunks(write, np.arange(len(kept.sizes)), "decoding for the cache", console)


def _all_of_it(height: int, width: int) -> tuple[float, float, float, float]:
    return (0, 0, width, height)
