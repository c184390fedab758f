"""The rows of a text file with a table, as spreadsheets and programs write them."""

from __future__ import annotations

import csv
from collections.abc import Iterable

from keras_resnet.data.images import DataError

DELIMITERS = ",;\t"
# What stands for nothing: pandas', R's and spreadsheets' words for it.
MISSING = {"nan", "na", "n/a", "<na>", "#n/a", "null"}
_SPLITS = {"is_train", "is_valid", "is_val", "is_test"}


def read_rows(lines: Iterable[str], name: str) -> list[list[str]]:
    """The cells of each row, the names of the columns first.

    Separated by whichever of comma, semicolon and tab the first row has most of;
    without the blanks around them, empty where a word says so. A row that is there
    again is empty.

    Args:
        lines: of the file.
        name: for messages.

    Raises:
        DataError: a column tells splits in a way that isn't read.
        csv.Error: it is no table.
    """
    lines = list(lines)
    if not lines:
        raise csv.Error("it is empty")
    rows = csv.reader(lines, delimiter=max(DELIMITERS, key=lines[0].count))
    cells = [[_known(cell.strip()) for cell in row] for row in rows]
    for column in cells[0]:
        if column.lower() in _SPLITS:
            raise DataError(
                f"data: {name} has a column {column}; call it split, with train, val "
                "or test in its rows"
            )
    known: set[tuple[str, ...]] = set()
    for row in cells[1:]:
        if tuple(row) in known:
            row.clear()
        known.add(tuple(row))
    return cells


def _known(cell: str) -> str:
    return "" if cell.lower() in MISSING else cell
