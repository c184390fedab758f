"""Folders of image files, one folder a class."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from keras_resnet.data.image_files import Header, read_header
from keras_resnet.data.images import DataError, Found, Images
from keras_resnet.data.options import Options

# Split -> the folder names that it goes by.
SPLITS = {
    "train": ("train", "training"),
    "val": ("val", "validation", "valid"),
    "test": ("test", "testing"),
}


def read_folder(path: str, options: Options) -> Found:
    """`PATH/cat/x.jpg`, or `PATH/train/cat/x.jpg` with `val` and `test` beside it.

    Class names are the folders' of the training images, sorted. Each file's first
    bytes are read; one that is no image is left out, and named. Links are followed,
    and what is hidden is not read.

    Raises:
        DataError: no such folder, fewer than two classes, a class without images, a
            class of validation or test without training images; two folders of one
            split, or none of the training.
    """
    root = Path(path).expanduser()
    if not root.is_dir():
        what = "is not a folder" if root.exists() else "doesn't exist"
        raise DataError(f"data: folder {root} {what}")
    folders = _splits(root)
    class_names = _folders(folders["train"])
    if len(class_names) < 2:
        raise DataError(
            f"data: {folders['train']} has {len(class_names)} folders of images; a "
            "classifier needs one for each of two classes or more"
        )
    parts, headers, unreadable = {}, [], []
    for split, folder in folders.items():
        files, labels = _files(folder, class_names)
        found = _headers(files)
        broken = [(f, str(h)) for f, h in zip(files, found, strict=True) if _bad(h)]
        if broken and options.strict:
            raise DataError(
                f"{broken[0][1].replace('image:', 'data:', 1)}; {len(broken)} "
                f"unreadable files in {folder}"
            )
        unreadable += [reason for _, reason in broken]
        kept = [i for i, header in enumerate(found) if not _bad(header)]
        headers += [header for header in found if isinstance(header, Header)]
        parts[split] = Images(
            [files[i] for i in kept], np.array(labels, np.int64)[kept]
        )
    _check_classes(parts["train"], class_names, folders["train"], unreadable)
    sizes = {header.size for header in headers}
    return Found(
        train=parts["train"],
        val=_nonempty(parts.get("val")),
        test=_nonempty(parts.get("test")),
        class_names=tuple(class_names),
        channels=1 if all(header.gray for header in headers) else 3,
        size=sizes.pop() if len(sizes) == 1 else None,
        unreadable=tuple(unreadable),
    )


def _splits(root: Path) -> dict[str, Path]:
    """Split -> folder: `root` itself, of training, where its folders are classes."""
    found: dict[str, Path] = {}
    names = _folders(root)
    for split, known in SPLITS.items():
        fitting = [name for name in names if name.lower() in known]
        if len(fitting) > 1:
            raise DataError(
                f"data: {root} has {fitting[0]} and {fitting[1]}, both for {split}; "
                "leave one of them"
            )
        if fitting:
            found[split] = root / fitting[0]
    if "train" in found:
        return found
    # A class may be called "valid" or "test", if it holds images and isn't alone.
    if len(found) > 1 or any(map(_folders, found.values())):
        names = sorted(folder.name for folder in found.values())
        raise DataError(f"data: {root} has {', '.join(names)}, but no train folder")
    return {"train": root}


def _bad(header: Header | DataError) -> bool:
    return isinstance(header, DataError)


def _nonempty(images: Images | None) -> Images | None:
    return images if images and images.count else None


def _folders(folder: Path) -> list[str]:
    with os.scandir(folder) as entries:
        return sorted(
            entry.name
            for entry in entries
            if entry.is_dir() and not entry.name.startswith(".")
        )


def _files(folder: Path, class_names: Sequence[str]) -> tuple[list[str], list[int]]:
    """All files below the class folders, sorted, and the class of each."""
    unknown = sorted(set(_folders(folder)) - set(class_names))
    if unknown:
        raise DataError(
            f"data: {folder / unknown[0]} is a class that has no training images"
        )
    files: list[str] = []
    labels: list[int] = []
    for label, name in enumerate(class_names):
        below = sorted(_below(folder / name))
        files += below
        labels += [label] * len(below)
    return files, labels


def _below(folder: Path) -> Iterator[str]:
    """Paths of the files in a folder and those in it, never of those around it."""
    seen = set(map(str, folder.resolve().parents))
    for parent, folders, names in os.walk(folder, followlinks=True):
        real = os.path.realpath(parent)
        if real in seen:  # a link back
            folders.clear()
            continue
        seen.add(real)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in names:
            if not name.startswith("."):
                yield os.path.join(parent, name)


def _headers(files: Sequence[str]) -> list[Header | DataError]:
    def read(file: str) -> Header | DataError:
        try:
            return read_header(file)
        except DataError as error:
            return error

    with ThreadPoolExecutor() as pool:
        return list(pool.map(read, files))


def _check_classes(
    images: Images, class_names: Sequence[str], folder: Path, unreadable: list[str]
) -> None:
    counts = np.bincount(images.labels, minlength=len(class_names))
    for name, count in zip(class_names, counts, strict=True):
        if count == 0:
            why = f" ({unreadable[0]})" if unreadable else ""
            raise DataError(f"data: class {folder / name} has no images{why}")
