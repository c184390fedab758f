"""Tables of image files and labels: CSV files and pandas' frames."""

from __future__ import annotations

import csv
import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from keras_resnet.data.folder_layout import some, split_of
from keras_resnet.data.folders import describe
from keras_resnet.data.images import DataError, Found
from keras_resnet.data.index import BAD, cache_of, find_out, locate_files
from keras_resnet.data.options import Options
from keras_resnet.data.table_rows import read_rows
from keras_resnet.data.targets import Targets, check_spread, read_targets
from keras_resnet.data.tree import read_tree
from keras_resnet.limits import LimitError, check_regular
from keras_resnet.tasks import has_classes
from keras_resnet.units import count

# What a column holds -> the names that it goes by, in any case.
COLUMNS = {
    "path": (
        "path", "file", "filename", "file_name", "filepath", "image", "image_path",
        "image_id", "image_name", "img", "img_path", "photo", "id_code", "name", "id",
    ),
    "label": ("label", "labels", "class", "class_name", "category", "target", "breed",
              "species", "diagnosis"),
    "split": ("split", "subset", "set", "partition"),
}  # fmt: skip


def read_csv(path: str, options: Options) -> Found:
    """A file with a row of column names: path, label or labels, perhaps split.

    Paths are relative to the file or to `data_dir`; a name alone, with its ending or
    without, is looked for below.

    Raises:
        DataError: no such file, other columns, or what `read_table` refuses.
    """
    file, columns = _columns_of(path)
    return read_table(columns, str(file), options.data_dir or file.parent, options)


def check_csv(path: str, options: Options) -> None:
    """Refuses a file whose rows can't be of the task; images aren't looked for.

    Raises:
        DataError: as `read_csv`.
    """
    file, columns = _columns_of(path)
    _, splits, targets = _understood(columns, str(file), options)
    chosen = _by_split(targets.known, splits, targets.values)
    _check_training(chosen, targets.names, str(file), options.task)


def _columns_of(path: str) -> tuple[Path, dict[str, list[str]]]:
    """A file, and its columns by their names."""
    file = Path(path).expanduser().absolute()
    try:
        check_regular(file)
        with file.open(newline="", encoding="utf-8-sig") as opened:
            header, *rows = read_rows(opened, str(file))
    except DataError:
        raise
    except LimitError as error:
        raise DataError(f"data: can't read {file}: {error}") from None
    except (OSError, UnicodeDecodeError, csv.Error, ValueError) as error:
        reason = getattr(error, "strerror", None) or "it is no table of UTF-8 text"
        raise DataError(f"data: can't read {file}: {reason}") from None
    if twice := [name for name in header if name and header.count(name) > 1]:
        raise DataError(f"data: {file} has several columns {twice[0]!r}")
    for number, row in enumerate(rows, 2):
        if row and len(row) != len(header):
            raise DataError(
                f"data: {file} has {len(row)} fields in row {number}, not the "
                f"{len(header)} of its first"
            )
    return file, {
        name: [row[i] for row in rows if row] for i, name in enumerate(header)
    }


def read_frame(frame: Any, options: Options) -> Found:
    """A pandas frame of the same columns; paths are relative to `data_dir`."""
    frame = frame.astype(object).where(frame.notna(), "").astype(str).drop_duplicates()
    columns = {str(name): values.tolist() for name, values in frame.items()}
    return read_table(columns, "the frame", options.data_dir or Path.cwd(), options)


def read_table(
    columns: Mapping[str, Sequence[str]], name: str, base: Path, options: Options
) -> Found:
    """Images of a table.

    Args:
        columns: by name, values of all rows.
        name: for messages.
        base: what paths are relative to.
        options: how data is loaded.

    Raises:
        DataError: a column is missing or there twice, a split of no known name, a file
            with two labels, or no file that can be read.
    """
    paths, splits, targets = _understood(columns, name, options)
    located = list(_located(paths, base))
    index = find_out(
        locate_files([(folder, file) for folder, file, _, _ in located]),
        np.array([size for _, _, size, _ in located], np.int64),
        np.array([time for _, _, _, time in located], np.int64),
        cache=cache_of(name if os.path.isabs(name) else str(base / "frame")),
        console=options.console,
    )
    used = targets.known & ~index.has(BAD)
    if not used.any():
        why = index.reasons.get(0, "no row has a label")
        raise DataError(f"data: {name} has no image that can be read: {why}")
    if index.reasons and options.strict:
        raise DataError(
            f"{index.reasons[min(index.reasons)].replace('image:', 'data:', 1)}; "
            f"{count(len(index.reasons), 'unreadable file')} in {name}"
        )
    chosen = _by_split(used, splits, targets.values)
    _check_training(chosen, targets.names, name, options.task)
    lost = len(paths) - int(targets.known.sum())
    left_out = (f"{name}: {count(lost, 'row')} without a label",) if lost else ()
    found = describe(index, chosen, targets.names, left_out)
    return found._replace(notes=(*targets.notes, *found.notes))


def _understood(
    columns: Mapping[str, Sequence[str]], name: str, options: Options
) -> tuple[Sequence[str], Sequence[str | None], Targets]:
    """The path, the split and the targets of each row."""
    paths = columns[_column(columns, "path") or _no_column(columns, "path", name)]
    splits = _splits(columns, len(paths), name)
    targets = _targets(columns, paths, name, options)
    _check_once(paths, targets.texts, name)
    return paths, splits, targets


def _by_split(
    used: np.ndarray, splits: Sequence[str | None], values: np.ndarray
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """The rows of each split that are used, and what they hold."""
    chosen = {}
    for split in ("train", "val", "test"):
        rows = np.flatnonzero(used & (np.array(splits) == split))
        if len(rows):
            chosen[split] = rows, values[rows]
    return chosen


def _column(columns: Mapping[str, Sequence[str]], kind: str) -> str | None:
    """The name of a kind's column; of several the one whose name comes first."""
    known = COLUMNS[kind]
    fitting = [column for column in columns if column.strip().lower() in known]
    fitting.sort(key=lambda column: known.index(column.strip().lower()))
    return fitting[0] if fitting else None


def _no_column(columns: Mapping[str, Any], kind: str, name: str) -> NoReturn:
    named = ", or name it by label_columns (--label-columns)" * (kind == "label")
    raise DataError(
        f"data: {name} has no column for the {kind}, only {some(columns)}; call it "
        f"{' or '.join(COLUMNS[kind][:3])}{named}"
    )


def _splits(
    columns: Mapping[str, Sequence[str]], rows: int, name: str
) -> list[str | None]:
    """The split of each row, "train" where nothing is said."""
    column = _column(columns, "split")
    values = columns[column] if column else [""] * rows
    splits = ["train" if not value else split_of(value) for value in values]
    for value, split in zip(values, splits, strict=True):
        if split is None:
            raise DataError(f"data: {name} has split {value!r}, not train, val or test")
    return splits


def _targets(
    columns: Mapping[str, Sequence[str]],
    paths: Sequence[str],
    name: str,
    options: Options,
) -> Targets:
    """What the rows have for their images."""
    chosen = _label_columns(columns, name, options)
    if not has_classes(options.task):
        named = {column: columns[column] for column in chosen}
        return read_targets(options.task, named, paths, name)
    labels = [label.strip() for label in columns[chosen[0]]]
    known = np.array(list(map(bool, labels)), bool)
    names = _class_names(set(filter(None, labels)))
    numbers = {label: i for i, label in enumerate(names)}
    classes = np.array([numbers.get(label, 0) for label in labels], np.int64)
    return Targets(names, classes, known, labels)


def _label_columns(
    columns: Mapping[str, Sequence[str]], name: str, options: Options
) -> Sequence[str]:
    """As asked for; else what is named so; of several labels, else all others."""
    asked = options.label_columns
    if asked is None:
        found = _column(columns, "label")
        if found is None and options.task == "labels":
            others = (_column(columns, "path"), _column(columns, "split"))
            asked = tuple(column for column in columns if column not in others)
        if found or not asked:
            return (found or _no_column(columns, "label", name),)
    for column in asked:
        if column not in columns:
            raise DataError(
                f"label_columns: {name} has no column {column!r}, only {some(columns)}"
            )
    if has_classes(options.task) and len(asked) != 1:
        raise DataError(
            f"label_columns: {some(asked)} are {len(asked)} columns; an image has one "
            f"class; a recipe's task may be 'labels' or 'regression'"
        )
    return asked


def _class_names(labels: set[str]) -> tuple[str, ...]:
    """Sorted, numbers by their value."""
    known: dict[str, str] = {}
    for label in sorted(labels):
        other = known.setdefault(label.casefold(), label)
        if len(label) > 1 and other != label:
            raise DataError(
                f"data: labels {other!r} and {label!r} differ in case alone; spell "
                "them alike"
            )
    if all(label.isdecimal() for label in labels):
        return tuple(sorted(labels, key=int))
    return tuple(sorted(labels))


def _check_once(paths: Sequence[str], labels: Sequence[str], name: str) -> None:
    known: dict[str, str] = {}
    for path, label in zip(paths, labels, strict=True):
        if known.setdefault(path, label) != label:
            raise DataError(
                f"data: {name} gives {path} the labels {known[path]!r} and {label!r}; "
                "a classifier learns one an image"
            )
    if len(known) < len(paths):
        again = next(path for path, times in Counter(paths).items() if times > 1)
        raise DataError(
            f"data: {name} has {again} in several rows, but an image counts once; "
            "leave one of them"
        )


def _check_training(
    chosen: Mapping[str, tuple[np.ndarray, np.ndarray]],
    class_names: Sequence[str],
    name: str,
    task: str,
) -> None:
    if not has_classes(task):
        _, targets = chosen.get("train", ((), np.zeros((0, len(class_names)))))
        check_spread(task, targets, class_names)
        return
    if len(class_names) < 2:
        raise DataError(
            f"data: {name} has {count(len(class_names), 'label')}; a classifier needs "
            "two or more"
        )
    _, train = chosen.get("train", ((), np.zeros(0, np.int64)))
    missing = np.flatnonzero(np.bincount(train, minlength=len(class_names)) == 0)
    if len(missing):
        raise DataError(
            f"data: class {class_names[missing[0]]} of {name} has no training images"
        )


def _located(paths: Sequence[str], base: Path) -> Iterator[tuple[str, bytes, int, int]]:
    """Folder, name, size and time of each file; of one that isn't there zeros.

    Raises:
        DataError: a name alone is that of several files.
    """
    by_name: dict[str, list[tuple[str, bytes]]] | None = None
    for path in paths:
        place = os.path.join(base, os.path.expanduser(path))
        if "\\" in path and not os.path.isfile(place):  # of Windows
            place = place.replace("\\", "/")
        if not os.path.isfile(place) and "/" not in path:
            if by_name is None:
                by_name = _names_below(base)
            fitting = by_name.get(path, [])
            if len(fitting) > 1:
                one, other = (f"{f}/{os.fsdecode(n)}" for f, n in fitting[:2])
                raise DataError(
                    f"data: {path} may be {one} or {other}; give the path from {base}"
                )
            if fitting:
                place = f"{fitting[0][0]}/{os.fsdecode(fitting[0][1])}"
        folder, file = os.path.split(place)
        try:
            found = os.stat(place)
            yield folder, os.fsencode(file), found.st_size, found.st_mtime_ns
        except (OSError, ValueError):  # none of that name, or no name
            yield folder, os.fsencode(file), 0, 0


def _names_below(base: Path) -> dict[str, list[tuple[str, bytes]]]:
    """Files below a folder by their names, and by these without the ending."""
    tree = read_tree(str(base))
    found: dict[str, list[tuple[str, bytes]]] = {}
    for folder in (tree, *tree.below()):
        for name in folder.names:
            text = os.fsdecode(name)
            for key in {text, text.rpartition(".")[0] or text}:
                found.setdefault(key, []).append((folder.path, name))
    return found
