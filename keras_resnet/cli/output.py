"""What commands print and write: tables, numbers, files, warnings."""

from __future__ import annotations

import contextlib
import functools
import json
import math
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from keras_resnet.errors import UserError
from keras_resnet.limits import clean

_STDOUT = "keras_resnet.stdout"  # of a command whose other output is held off it


def save_text(path: Path, text: str) -> None:
    """Writes a new text file, whole."""
    from keras_resnet import files

    check_new(path)
    files.write_text(path, text)


def check_new(path: Path) -> None:
    """Refuses a file that `save_text` couldn't write.

    Raises:
        UserError: it exists, or its folder can't be made.
    """
    from keras_resnet import files

    if path.exists():
        raise UserError(f"file: {path} exists; name a new one")
    files.check_folder(path.parent, "file")
    if not path.parent.exists() and not path.parent.parent.exists():
        raise UserError(f"file: can't write {path}: its folder doesn't exist")


def table_of(*columns: str, title: str | None = None) -> Any:
    """A table; a ">" marks numbers."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    class Clean(Table):
        """What cells hold may be named by others."""

        def add_row(self, *cells: Any, **how: Any) -> None:
            super().add_row(*(clean(str(cell)) for cell in cells), **how)

    table = Clean(box=SIMPLE_HEAD, title=title, title_justify="left", pad_edge=False)
    for column in columns:
        table.add_column(
            column.rstrip(">"),
            justify="right" if column.endswith(">") else "left",
            # Where it is narrow, only the source is folded.
            no_wrap=column != "source",
        )
    return table


def print_table(table: Any) -> None:
    """Prints a table as wide as it needs where nothing limits it."""
    from rich.console import Console

    console = Console()
    # A pipe has no width to keep to; a row that can't be folded is worth two lines.
    folds = any(not column.no_wrap for column in table.columns)
    wide = Console(width=200)
    if not console.is_terminal or (
        not folds and wide.measure(table).maximum > console.width
    ):
        console = wide
    console.print(table)


def print_classes(
    answers: Sequence[tuple[Path, Mapping[str, float]]],
    failed: Sequence[tuple[Path, UserError]],
    as_json: bool,
    task: str = "classes",
) -> None:
    """Prints the classes of images, and what is wrong with others; exits with 1 then.

    Args:
        answers: images, and their classes with probabilities, the likeliest first; or
            their values, of a regression.
        failed: images that have none, and why.
        as_json: whether as JSON.
        task: what the answers are of.
    """
    key, form = ("values", ".4g") if task == "regression" else ("classes", ".1%")
    if as_json:
        found: list[dict[str, Any]] = [
            {"image": str(path), key: dict(c)} for path, c in answers
        ]
        lost = [{"image": str(path), "error": str(error)} for path, error in failed]
        print_json([*found, *lost])
    else:
        for path, classes in answers:
            guesses = "  ".join(f"{name} {p:{form}}" for name, p in classes.items())
            click.echo(clean(f"{path}: {guesses}"))
    for _, error in failed:
        click.echo(clean(f"Error: {error}"), err=True)
    if failed:
        raise SystemExit(1)


def json_alone(command: Callable[..., None]) -> Callable[..., None]:
    """A command that has --json, with which it prints JSON and nothing else.

    Whatever it and the libraries below it print besides goes to standard error.
    """

    @functools.wraps(command)
    def guarded(**values: Any) -> None:
        if not values["as_json"]:
            return command(**values)
        click.get_current_context().meta[_STDOUT] = sys.stdout
        with contextlib.redirect_stdout(sys.stderr):
            return command(**values)

    return guarded


def print_json(value: Any, indent: int | None = 2) -> None:
    """Prints what --json asks for, from a command that is `json_alone`.

    Args:
        value: of what JSON has; NaN and infinity become null.
        indent: None: all on one line, for those who read line by line.
    """
    stdout = click.get_current_context().meta.get(_STDOUT)
    text = json.dumps(_finite(value), indent=indent, allow_nan=False)
    click.echo(text, file=stdout)


def _finite(value: Any) -> Any:
    """The value with null for what JSON has no number for: NaN and infinity."""
    if isinstance(value, Mapping):
        return {key: _finite(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(each) for each in value]
    finite = not isinstance(value, float) or math.isfinite(value)
    return value if finite else None


def macs_text(macs: int | None) -> str:
    """Multiply-adds in millions or billions."""
    if macs is None:
        return "?"
    return f"{macs / 1e9:.3f} G" if macs >= 1e9 else f"{macs / 1e6:.3f} M"


def shape_text(shape: list[int | None]) -> str:
    """Such as 32x32x3; open sides are question marks."""
    return "x".join("?" if side is None else str(side) for side in shape)


@contextlib.contextmanager
def warnings_as_lines() -> Iterator[None]:
    """Shows what is wrong with data and runs without a place in the code."""
    from keras_resnet.data import DataWarning
    from keras_resnet.errors import ExportWarning, WeightsWarning
    from keras_resnet.figures import FontWarning
    from keras_resnet.run import RunWarning

    ours = (DataWarning, ExportWarning, RunWarning, FontWarning, WeightsWarning)
    show = warnings.showwarning
    said: set[str] = set()  # a search loads its data again and again

    def say(message: Any, category: type[Warning], *place: Any) -> None:
        if not issubclass(category, ours):
            show(message, category, *place)
        elif str(message) not in said:
            said.add(str(message))
            click.echo(f"warning: {message}", err=True)

    with warnings.catch_warnings():
        for category in ours:
            warnings.simplefilter("always", category)
        warnings.showwarning = say  # type: ignore[assignment]  # it takes any place
        yield
