"""A folder and what is in it: names, sizes and times, in few bytes a file."""

from __future__ import annotations

import dataclasses
import os
import re
from collections.abc import Iterator

import numpy as np

from keras_resnet.data.images import DataError

# What systems and archives leave beside photos; hidden names aren't read either.
CLUTTER = {
    "__macosx", "@eadir", "$recycle.bin", "system volume information", "lost+found",
    "thumbs.db", "ehthumbs.db", "desktop.ini", "picasa.ini",
}  # fmt: skip
# Endings of what comes with photos and is none.
DOCUMENTS = (
    b".txt", b".md", b".rst", b".pdf", b".doc", b".docx", b".csv", b".tsv", b".xls",
    b".xlsx", b".json", b".jsonl", b".xml", b".yml", b".yaml", b".htm", b".html",
    b".log", b".ini", b".cfg", b".db", b".sqlite", b".py", b".ipynb", b".sh", b".zip",
    b".gz", b".tgz", b".tar", b".7z", b".rar", b".npy", b".npz", b".mat", b".h5",
    b".hdf5", b".pkl", b".parquet", b".tfrecord", b".mp4", b".avi", b".mov", b".mp3",
    b".wav",
)  # fmt: skip
_WORDS = rb"(mask|masks|seg|segmentation|annotation)"
# photo_mask.png beside photo.png
MASK = re.compile(rb"(.+)[ _-]" + _WORDS + rb"([ _-]?\d+)?\.\w+$", re.IGNORECASE)


@dataclasses.dataclass(eq=False)
class Folder:
    """A folder.

    Attributes:
        path: where it is.
        folders: those in it, by name, without empty clutter.
        names: its files that may be photos, sorted.
        sizes: of these in bytes, int64.
        times: when they were changed, in nanoseconds, int64.
        documents: its files that are none by their names.
        masks: its files that are masks of others, by their names.
    """

    path: str
    folders: dict[str, Folder]
    names: list[bytes]
    sizes: np.ndarray
    times: np.ndarray
    documents: list[str]
    masks: list[str]

    @property
    def name(self) -> str:
        """The last part of the path."""
        return os.path.basename(self.path)

    @property
    def count(self) -> int:
        """Files that may be photos, in it and below."""
        return len(self.names) + sum(each.count for each in self.folders.values())

    @property
    def empty(self) -> bool:
        """Whether there is no file at all, in it and below."""
        own = self.names or self.documents or self.masks
        return not own and all(each.empty for each in self.folders.values())

    def below(self) -> Iterator[Folder]:
        """All folders below it, each before its own."""
        for each in self.folders.values():
            yield each
            yield from each.below()


def read_tree(root: str) -> Folder:
    """A folder with all below it; links are followed, but never back.

    Raises:
        DataError: one can't be read.
    """
    return _read(root, (os.path.realpath(root),))


def _read(path: str, real: tuple[str, ...]) -> Folder:
    """A folder whose own real path and those of the folders around it are `real`."""
    folders: list[tuple[str, str]] = []
    files: list[tuple[bytes, int, int]] = []
    documents: list[str] = []
    try:
        with os.scandir(path) as entries:
            for entry in entries:
                name = entry.name
                if name.startswith(".") or name.lower() in CLUTTER:
                    continue
                if entry.is_dir():
                    linked = entry.is_symlink()
                    to = os.path.realpath(entry.path) if linked else ""
                    folders.append((name, to or f"{real[-1]}/{name}"))
                elif (encoded := os.fsencode(name)).lower().endswith(DOCUMENTS):
                    documents.append(name)
                else:
                    size, time = _size_and_time(entry)
                    files.append((encoded, size, time))
    except OSError as error:
        raise DataError(f"data: can't read folder {path}: {error.strerror}") from None
    masks = _masks({name for name, _, _ in files})
    files = sorted(file for file in files if file[0] not in masks)
    return Folder(
        path,
        {
            name: _read(f"{path}/{name}", (*real, to))
            for name, to in sorted(folders)
            if to not in real
        },
        [name for name, _, _ in files],
        np.array([size for _, size, _ in files], np.int64),
        np.array([time for _, _, time in files], np.int64),
        sorted(documents),
        sorted(map(os.fsdecode, masks)),
    )


def _size_and_time(entry: os.DirEntry[str]) -> tuple[int, int]:
    try:
        found = entry.stat()
    except OSError:  # a link to nothing: named when it is decoded
        return 0, 0
    return found.st_size, found.st_mtime_ns


def _masks(names: set[bytes]) -> set[bytes]:
    """Those that are called as others with a word for a mask behind."""
    if not re.search(_WORDS, b"\0".join(names), re.IGNORECASE):  # quick
        return set()
    found = {name: match[1] for name in names if (match := MASK.match(name))}
    stems = {name.rpartition(b".")[0] for name in names}
    return {name for name, stem in found.items() if stem in stems}
