"""Where images come from: a table of sources."""

from __future__ import annotations

import glob
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from keras_resnet.data.arrays import read_given, read_npz
from keras_resnet.data.examples import read_dataset, read_tfrecord
from keras_resnet.data.folder_layout import understand
from keras_resnet.data.folders import read_folder
from keras_resnet.data.idx import has_idx, read_split
from keras_resnet.data.images import DataError, Found, Images
from keras_resnet.data.options import Options
from keras_resnet.data.tables import check_csv, read_csv, read_frame
from keras_resnet.data.tfds_source import check_tfds, read_tfds
from keras_resnet.data.tree import read_tree
from keras_resnet.limits import LimitError, check_names
from keras_resnet.tasks import TASKS

# Where Debian's package dataset-fashion-mnist puts its files.
FASHION_MNIST = Path("/usr/share/datasets/fashion-mnist")
SIDES = {"digits": 8, "fashion_mnist": 28}  # of images, where it is known
CLOTHES = (
    "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker",
    "Bag", "Ankle boot",
)  # fmt: skip


def read_digits(_: str, options: Options) -> Found:
    """scikit-learn's 1,797 scanned digits of 8x8 pixels, which come with it."""
    from sklearn.datasets import load_digits

    bunch = load_digits()
    pixels = np.rint(bunch.images * (255 / 16)).astype(np.uint8)  # 17 levels of ink
    images = Images(pixels[..., np.newaxis], bunch.target.astype(np.int64))
    return Found(images, tuple("0123456789"), 1, _size("digits"))


def _size(name: str) -> tuple[int, int]:
    return SIDES[name], SIDES[name]


def read_fashion_mnist(_: str, options: Options) -> Found:
    """Zalando's 70,000 images of clothes, 28x28 pixels, gray (Xiao 2017).

    From IDX files in `data_dir` or of Debian's package, or from TFDS.
    """
    folder = _look_at_fashion("", options)
    if folder is None:
        return read_tfds("fashion_mnist", options)
    train = read_split(folder, "train")
    return Found(
        train, CLOTHES, 1, _size("fashion_mnist"), test=read_split(folder, "test")
    )


def _look_at_fashion(_: str, options: Options) -> Path | None:
    """The folder of its IDX files; None if TFDS has it."""
    folder = Path(options.data_dir or FASHION_MNIST)
    if has_idx(folder):
        return folder
    prepared = options.data_dir or os.environ.get(
        "TFDS_DATA_DIR", "~/tensorflow_datasets"
    )
    if options.download or (Path(prepared).expanduser() / "fashion_mnist").is_dir():
        return None
    raise DataError(
        f"data: fashion_mnist is not in {folder}; `apt install dataset-fashion-mnist` "
        "brings it, data_dir names a folder with its IDX files, download=True "
        "(--download) fetches it by TFDS"
    )


def _look_at_folder(path: str, _: Options) -> None:
    understand(read_tree(os.path.abspath(Path(path).expanduser())))


def _look_at_files(pattern: str, _: Options) -> None:
    if not glob.glob(os.path.expanduser(pattern)):
        raise DataError(f"data: no file fits {pattern}")


# What can be told before anything is decoded.
_LOOKS: dict[Any, Callable[[str, Options], Any]] = {
    read_fashion_mnist: _look_at_fashion,
    read_tfds: check_tfds,
    read_folder: _look_at_folder,
    read_csv: check_csv,
    read_tfrecord: _look_at_files,
}


# Kind -> reader and the form of the name. What follows the colon is the reader's.
SOURCES: dict[str, tuple[Callable[[str, Options], Found], str]] = {
    "digits": (read_digits, "digits"),
    "fashion_mnist": (read_fashion_mnist, "fashion_mnist"),
    "tfds": (read_tfds, "tfds:NAME[:CONFIG]"),
    "folder": (read_folder, "folder:PATH"),
    "csv": (read_csv, "csv:FILE"),
    "tfrecord": (read_tfrecord, "tfrecord:FILES"),
    "npz": (read_npz, "FILE.npz"),
}


def read(source: Any, options: Options) -> Found:
    """The images of a source: a name of the table, arrays, a frame or a data set.

    Raises:
        DataError: no such source, what its reader raises, or names of classes that no
            figure could show or tell apart.
    """
    found = _read(source, options)
    try:
        check_names(found.class_names)
    except LimitError as error:
        raise DataError(f"data: {error}") from None
    return found


def _read(source: Any, options: Options) -> Found:
    if hasattr(source, "element_spec"):
        _check_kind("a tf.data.Dataset", options.task)
        return read_dataset(source, options)
    if hasattr(source, "iloc"):
        return read_frame(source, options)
    if not isinstance(source, str):
        return read_given(source, options.task)
    reader, argument = find(source, options.task)
    return reader(argument, options)


def look(
    source: str,
    task: str = "classes",
    label_columns: Sequence[str] | None = None,
    *,
    data_dir: Path | None = None,
    download: bool = False,
    **_: Any,
) -> None:
    """Refuses what can be seen not to be a source, before any image is read.

    Other arguments of `load` are taken, and say nothing here.

    Raises:
        DataError: `find`'s; a folder of no classes, a table whose columns or rows have
            no such targets; a data set that is neither there nor to be fetched.
    """
    reader, argument = find(source, task)
    columns = None if label_columns is None else tuple(label_columns)
    if reader in _LOOKS:
        asked = Options(
            task=task, label_columns=columns, data_dir=data_dir, download=download
        )
        _LOOKS[reader](argument, asked)


def known_shape(
    source: str, side: int | tuple[int, int] | None = None
) -> tuple[tuple[int, int, int], int] | None:
    """Shape of images (height, width, channels) and classes, where the name tells.

    Args:
        source: a name.
        side: of the images, or both, if not their own.
    """
    if source not in SIDES:
        return None
    sides = side or SIDES[source]
    height, width = (sides, sides) if isinstance(sides, int) else sides
    return (height, width, 1), 10


def find(
    source: str, task: str = "classes"
) -> tuple[Callable[[str, Options], Found], str]:
    """A source's reader and what is to be read; nothing is read, but files are there.

    Raises:
        DataError: no such source, folder or file, or none that a task's targets are in.
    """
    kind, colon, argument = source.partition(":")
    if source.endswith(".npz"):
        kind, colon, argument = "npz", ":", source
    reader, form = SOURCES.get(kind, (None, ""))
    if (
        reader is None
        or bool(argument) != (form != kind)
        or bool(colon and not argument)
    ):
        if source and Path(source).expanduser().is_dir():
            raise DataError(f"data: {source} is a folder; write folder:{source}")
        if source.startswith(("/", ".", "~")):
            raise DataError(
                f"data: {source} doesn't exist; a folder of images is named by "
                f"folder:{source}"
            )
        forms = ", ".join(repr(form) for _, form in SOURCES.values())
        raise DataError(f"data: {source!r} is not one of {forms}")
    if kind in ("folder", "npz", "csv") and not Path(argument).expanduser().exists():
        what = f"folder {argument} doesn't exist"
        if kind != "folder":
            what = f"can't read {argument}: No such file or directory"
        raise DataError(f"data: {what}")
    _check_kind(kind, task)
    return reader, argument


def _check_kind(kind: str, task: str) -> None:
    """Refuses a kind of source that has one class for each image."""
    able = TASKS[task].sources
    if able and kind not in able:
        raise DataError(
            f"data: {kind} has one class for each image; the recipe's task, {task!r}, "
            "needs csv:FILE, FILE.npz, arrays or a pandas frame"
        )
