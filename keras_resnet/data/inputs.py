"""The image files that a user names: files, folders and patterns."""

from __future__ import annotations

import glob
import os
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path

from keras_resnet.data.folder_layout import OTHERS, PHOTOS, some
from keras_resnet.data.image_files import open_image
from keras_resnet.data.images import DataError, DataWarning
from keras_resnet.data.tree import Folder, read_tree
from keras_resnet.units import count


def list_images(named: Iterable[Path | str]) -> list[Path]:
    """Files, those in folders and below, and those that patterns fit, in this order.

    Of folders all files count but those that are no images by their names, and masks
    and the like beside photos, as in training; a `DataWarning` says which.

    Raises:
        DataError: there is no such file, or none in a folder or of a pattern.
    """
    found: list[Path] = []
    for name in map(str, named):
        name = os.path.expanduser(name)
        if os.path.isdir(name):
            tree = read_tree(name)
            inside = [
                Path(folder.path, os.fsdecode(file))
                for folder in _photos(tree)
                for file in folder.names
            ]
            if not inside:
                raise DataError(f"image: {name} is a folder without images")
            found += inside
        elif os.path.exists(name) or not glob.has_magic(name):
            found.append(Path(name))
        else:
            fitting = sorted(glob.glob(name, recursive=True))
            if not fitting:
                raise DataError(f"image: no file fits {name}")
            found += list_images(fitting)
    return found


def _photos(folder: Folder) -> Iterator[Folder]:
    """A folder and those below, without those of other things beside photos."""
    yield folder
    if folder.masks:
        _note(
            folder,
            f"{count(len(folder.masks), 'mask')} by their names: {some(folder.masks)}",
        )
    beside = folder.names or any(name.lower() in PHOTOS for name in folder.folders)
    for name, each in folder.folders.items():
        if beside and name.lower() in OTHERS and each.count:
            _note(each, f"{count(each.count, 'image')}, no photos by the folder's name")
        else:
            yield from _photos(each)


def _note(folder: Folder, what: str) -> None:
    warnings.warn(f"image: left out: {folder.path}: {what}", DataWarning, stacklevel=4)


def why_none(images: Iterable[Path]) -> list[tuple[Path, DataError]]:
    """What is wrong with each image; nothing as soon as one of them can be opened."""
    lost: list[tuple[Path, DataError]] = []
    for path in images:
        try:
            open_image(path, 3)
        except DataError as error:
            lost.append((path, error))
        else:
            return []
    return lost
