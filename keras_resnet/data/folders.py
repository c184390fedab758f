"""Folders of image files, one folder a class."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from keras_resnet.data import index
from keras_resnet.data.folder_layout import OTHERS, some, understand
from keras_resnet.data.images import DataError, Found, Images
from keras_resnet.data.index import Index, cache_of, find_out, list_files
from keras_resnet.data.options import Options
from keras_resnet.data.tree import Folder, read_tree
from keras_resnet.units import count

READ = "subfolders=True (--subfolders) reads them"
FULL = 2**7  # the high byte that the brightest 16-bit image of a data set reaches


Rows = tuple[np.ndarray, np.ndarray]  # rows of an index, and their labels


class Group(NamedTuple):
    """The files of one folder: of a split and a class, itself or below it."""

    split: str
    label: int
    folder: Folder
    below: bool


def read_folder(path: str, options: Options) -> Found:
    """`PATH/cat/x.jpg`, or `PATH/train/cat/x.jpg` with `val` and `test` beside it.

    `layout` says which folders are splits and classes, `index` which files are images.

    Raises:
        DataError: no such folder, one that can't be understood, or a class without
            images.
    """
    root = Path(path).expanduser()
    if not root.is_dir():
        what = "is not a folder" if root.exists() else "doesn't exist"
        raise DataError(f"data: folder {root} {what}")
    tree = read_tree(os.path.abspath(root))
    layout = understand(tree)
    class_names = tuple(sorted(layout.splits["train"]))
    left_out = list(layout.left_out)
    groups = _groups(layout.splits, class_names, options.subfolders, left_out)
    found = find_out(
        list_files([(group.folder.path, group.folder.names) for group in groups]),
        _joined([group.folder.sizes for group in groups]),
        _joined([group.folder.times for group in groups]),
        cache=cache_of(tree.path),
        console=options.console,
    )
    counts = [len(group.folder.names) for group in groups]
    group_of = np.repeat(np.arange(len(groups)), counts)
    used = ~found.has(index.BAD)
    if options.subfolders is None:
        used &= _alike(found, groups, group_of, left_out)
    chosen = {
        split: _rows(found, groups, group_of, used, split) for split in layout.splits
    }
    unreadable = tuple(why for _, why in sorted(found.reasons.items()))
    if unreadable and options.strict:
        raise DataError(
            f"{unreadable[0].replace('image:', 'data:', 1)}; "
            f"{count(len(unreadable), 'unreadable file')} in {tree.path}"
        )
    _check_classes(chosen["train"][1], layout.splits["train"], unreadable)
    described = describe(found, chosen, class_names, tuple(left_out))
    documents = [
        f"{folder.path}/{name}"
        for folder in (tree, *tree.below())
        for name in folder.documents
    ]
    if documents:
        what = count(len(documents), "file")
        note = f"{what} left out, no images by their names: {some(documents)}"
        described = described._replace(notes=(*described.notes, note))
    return described


def describe(
    found: Index,
    chosen: Mapping[str, Rows],
    class_names: tuple[str, ...],
    left_out: tuple[str, ...],
) -> Found:
    """What a source of files holds.

    Args:
        found: the index of its files.
        chosen: what of them is in each split, and their labels.
        class_names: by label.
        left_out: what isn't read, and why.

    Raises:
        DataError: its images have fewer than 16 bits in 16.
    """
    parts = {
        split: Images(
            found.files.take(rows),
            labels,
            found.rows["digest"][rows],
            found.rows[rows],
        )
        for split, (rows, labels) in chosen.items()
        if len(rows)
    }
    rows = found.rows[np.concatenate([rows for rows, _ in chosen.values()])]
    _check_peak(rows["peak"])
    sizes = rows["height"].astype(np.int64) << 32 | rows["width"]
    height, width = map(int, (rows["height"][0], rows["width"][0]))
    notes = [
        f"{count} {what}"
        for flag, what in (
            (index.CLEAR, "images that may be transparent: on white"),
            (index.SEVERAL, "files of several images: the first one counts"),
        )
        if (count := np.count_nonzero(rows["flags"] & flag))
    ]
    return Found(
        train=parts["train"],
        val=parts.get("val"),
        test=parts.get("test"),
        class_names=class_names,
        channels=1 if (rows["flags"] & index.GRAY).all() else 3,
        size=(height, width) if (sizes == sizes[0]).all() else None,
        unreadable=tuple(why for _, why in sorted(found.reasons.items())),
        left_out=left_out,
        notes=tuple(notes),
    )


def _groups(
    splits: Mapping[str, Mapping[str, Folder]],
    class_names: Sequence[str],
    subfolders: bool | None,
    left_out: list[str],
) -> list[Group]:
    """The folders that are read, in the order of splits and classes."""
    groups = []
    for split, classes in splits.items():
        for label, name in enumerate(class_names):
            if name not in classes:
                continue
            folder = classes[name]
            groups.append(Group(split, label, folder, below=False))
            for each in folder.below():
                groups.append(Group(split, label, each, below=True))
    kept = []
    for group in groups:
        why = ""
        if group.below and subfolders is False:
            why = "a subfolder"
        elif group.below and subfolders is None and _is_other(group):
            why = f"no photos, by the folder's name; {READ}"
        if group.folder.names and not why:
            kept.append(group)
        elif group.folder.names:
            what = count(len(group.folder.names), "image")
            left_out.append(f"{group.folder.path}: {what}, {why}")
        if masks := group.folder.masks:
            left_out.append(
                f"{group.folder.path}: {count(len(masks), 'mask')} by their names: "
                f"{some(masks)}"
            )
    return kept


def _is_other(group: Group) -> bool:
    return group.folder.name.lower() in OTHERS


def _alike(
    found: Index, groups: Sequence[Group], group_of: np.ndarray, left_out: list[str]
) -> np.ndarray:
    """Which files are in a class' folder, or below it with nothing of another kind.

    The kind of an image is whether it has colors, and a format for photos. A class
    without files of its own is told by those of all classes, or by its largest folder.
    """
    kinds = found.rows["flags"] & (index.GRAY | index.LOSSY)
    readable = ~found.has(index.BAD)
    alike = np.ones(len(kinds), bool)
    seen = [
        set(kinds[(group_of == i) & readable].tolist()) if group.below else set()
        for i, group in enumerate(groups)
    ]
    if not any(seen):
        return alike
    own: dict[int | None, set[int]] = {}
    for i, group in enumerate(groups):
        if not group.below:
            these = set(kinds[(group_of == i) & readable].tolist())
            for label in (group.label, None):
                own.setdefault(label, set()).update(these)
    for i, group in enumerate(groups):
        if not group.below or not seen[i]:
            continue
        known = own.get(group.label) or own.get(None)
        if not known:
            size = [len(g.folder.names) * (g.label == group.label) for g in groups]
            known = seen[int(np.argmax(size))]
        if not seen[i] <= known:
            alike[group_of == i] = False
            left_out.append(
                f"{group.folder.path}: {count(len(group.folder.names), 'image')}, of "
                f"another kind than the class' own; {READ}"
            )
    return alike


def _rows(
    found: Index,
    groups: Sequence[Group],
    group_of: np.ndarray,
    used: np.ndarray,
    split: str,
) -> Rows:
    """The images of a split: by class, and in each by path."""
    chosen = np.array([group.split == split for group in groups], bool)
    labels = np.array([group.label for group in groups], np.int64)
    rows = np.flatnonzero(used & chosen[group_of])
    with_below = {group.label for group in groups if group.below}
    for label in with_below:
        places = np.flatnonzero(labels[group_of[rows]] == label)
        files = found.files.take(rows[places])
        rows[places] = rows[places][sorted(range(len(files)), key=files.__getitem__)]
    return rows, labels[group_of[rows]]


def _joined(arrays: Sequence[np.ndarray]) -> np.ndarray:
    return np.concatenate(arrays) if arrays else np.zeros(0, np.int64)


def _check_peak(peaks: np.ndarray) -> None:
    """Refuses images of 16 bits which leave the upper ones empty: of 12, say.

    Raises:
        DataError: so are all that there are.
    """
    peak = int(peaks.max(initial=0))
    if 0 < peak < FULL:
        raise DataError(
            f"data: the images of 16 bits have no value above {(peak << 8) + 255:,} "
            "of 65,535, and would be dark; stretch all of them alike, or save them "
            "with 8 bits"
        )


def _check_classes(
    labels: np.ndarray, folders: Mapping[str, Folder], unreadable: Sequence[str]
) -> None:
    counts = np.bincount(labels, minlength=len(folders))
    for name, images in zip(sorted(folders), counts, strict=True):
        if images == 0:
            folder = folders[name]
            inside = [why for why in unreadable if f" {folder.path}/" in why]
            why = f" ({inside[0]})" if inside else ""
            raise DataError(f"data: class {folder.path} has no images{why}")
