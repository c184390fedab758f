"""What an image has instead of one class: several labels, or numbers."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from keras_resnet.data.folder_layout import some
from keras_resnet.data.images import DataError
from keras_resnet.units import count

SEPARATORS = "|;,"  # between the labels of a cell; where there is none of them, blanks
_WORDS = {"true": 1.0, "false": 0.0}
# What a task's values may be: the test of an array, and in words.
_ALLOWED: dict[str, tuple[Callable[[np.ndarray], np.ndarray], str]] = {
    "labels": (lambda values: (values == 0) | (values == 1), "0 or 1"),
    "regression": (np.isfinite, "a finite number"),
}


class Targets(NamedTuple):
    """What the rows of a table have for their images.

    Attributes:
        names: of the classes, labels or numbers.
        values: classes, int64 (rows,); labels as 0 and 1 or numbers, float32 (rows,
            names).
        known: whether a row has any, (rows,).
        texts: what stands in each row.
        notes: how it was read, where that could be another way.
    """

    names: tuple[str, ...]
    values: np.ndarray
    known: np.ndarray
    texts: Sequence[str]
    notes: tuple[str, ...] = ()


def from_array(task: str, values: Any, where: str) -> np.ndarray:
    """Targets of images given as an array: float32 (images, names).

    Args:
        task: "labels" or "regression".
        values: 0 and 1, (images, labels); numbers, (images,) or (images, numbers).
        where: for messages.

    Raises:
        DataError: another shape, or a value that can't be.
    """
    array = np.asarray(values)
    if array.ndim == 1 and task == "regression":
        array = array[:, np.newaxis]
    if array.ndim != 2 or array.dtype.kind not in "biuf" or not array.shape[1]:
        wanted = "(images, labels)" if task == "labels" else "(images, numbers)"
        raise DataError(
            f"data: {where} has targets of {array.dtype} and shape {array.shape}; "
            f"task {task!r} needs {_ALLOWED[task][1]} of shape {wanted}"
        )
    with np.errstate(over="ignore"):
        found = array.astype(np.float32)
    fits, allowed = _ALLOWED[task]
    if not (right := fits(found)).all():
        row, column = np.argwhere(~right)[0]
        raise DataError(
            f"data: {where} has {array[row, column]} for image {row}, not {allowed}, "
            f"which task {task!r} needs"
        )
    return found


def names_of(task: str, given: Sequence[Any] | None, count: int) -> tuple[str, ...]:
    """A name for each column of an array, by default its number.

    Raises:
        DataError: other than `count` names.
    """
    if given is None:
        single = task == "regression" and count == 1
        return ("value",) if single else tuple(map(str, range(count)))
    if len(given) != count:
        raise DataError(f"data: {len(given)} class_names for {count} columns of labels")
    return tuple(map(str, given))


def check_spread(task: str, train: np.ndarray, names: Sequence[str]) -> None:
    """Refuses targets of which nothing can be learned.

    Raises:
        DataError: a single label, or one that is on no image or on all; a number that
            is always the same.
    """
    if task == "labels" and len(names) < 2:
        raise DataError(
            f"data: there is one label, {some(names)}; whether images have it is "
            "task 'binary', of two classes"
        )
    if not len(train):
        raise DataError("data: there are no training images")
    for name, column in zip(names, train.T, strict=True):
        if column.min() == column.max():
            what = f"is {column[0]:g} for all training images"
            if task == "labels":
                what = f"is on {'all' if column[0] else 'no'} training images"
            raise DataError(f"data: {name} {what}; nothing can be learned of it")


def read_targets(
    task: str,
    columns: Mapping[str, Sequence[str]],
    paths: Sequence[str],
    name: str,
) -> Targets:
    """Targets of a table's columns.

    Args:
        task: "labels" or "regression".
        columns: those that hold them, by name, with the text of each row.
        paths: of the rows' images, for messages.
        name: of the table, for messages.

    Raises:
        DataError: a cell that is no target.
    """
    texts = ["; ".join(row) for row in zip(*columns.values(), strict=True)]
    if task == "labels" and len(columns) == 1:
        return _read_cells(next(iter(columns.values())), name)
    filled = np.array([all(c.strip() for c in r) for r in zip(*columns.values())], bool)  # noqa: B905
    read = np.zeros((len(paths), len(columns)), np.float32)
    fits, allowed = _ALLOWED[task]
    for place, (column, cells) in enumerate(columns.items()):
        values = np.array(list(map(_number, cells)), np.float64)
        with np.errstate(over="ignore"):
            read[:, place] = values
        wrong = filled & ~fits(read[:, place])
        if wrong.any():
            row = int(np.argmax(wrong))
            raise DataError(
                f"data: {name} has {cells[row]!r} in column {column} for {paths[row]}, "
                f"not {allowed}, which task {task!r} needs"
            )
    notes = (f"{task}: the columns {some(columns)}",) if len(columns) > 1 else ()
    return Targets(tuple(columns), read, filled, texts, notes)


def _number(text: str) -> float:
    try:
        return float(_WORDS.get(text.strip().lower(), text))
    except ValueError:
        return math.nan


def _read_cells(cells: Sequence[str], name: str) -> Targets:
    """Labels of a column, several in a cell; an empty cell has none."""
    found = [each for each in SEPARATORS if any(each in cell for cell in cells)]
    if len(found) > 1:
        raise DataError(
            f"data: {name} has {' and '.join(map(repr, found))} in its column of "
            "labels; separate labels by one of them"
        )
    separator = found[0] if found else None
    rows = [{part.strip() for part in cell.split(separator)} - {""} for cell in cells]
    names = tuple(sorted(set().union(*rows)))
    numbers = {label: i for i, label in enumerate(names)}
    values = np.zeros((len(rows), len(names)), np.float32)
    for i, row in enumerate(rows):
        values[i, [numbers[label] for label in row]] = 1
    notes = [f"labels of a cell are separated by {separator or ' '!r}"]
    if without := sum(not row for row in rows):
        notes.append(f"{count(without, 'image')} without a label")
    known = np.ones(len(rows), bool)
    return Targets(names, values, known, list(cells), tuple(notes))
