"""Files written whole or not at all, and read or refused in one line."""

from __future__ import annotations

import csv
import json
import os
import secrets
import shutil
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from keras_resnet.errors import RunFolderError

TEMPORARY = ".part-"  # how the name of a file that is being written begins

# What Keras raises at a model file that is none, or has a byte that is wrong.
DAMAGES = (
    OSError,
    ValueError,
    KeyError,
    TypeError,
    EOFError,
    RuntimeError,
    zipfile.BadZipFile,
    zlib.error,
)


def read_json(path: Path) -> Any:
    """A JSON file of a run.

    Raises:
        RunFolderError: missing or damaged.
    """
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise RunFolderError(f"run: can't read {path}: {error}") from None


def write_json(path: Path, value: Any) -> None:
    """Writes JSON, sorted, by renaming."""
    write_text(path, json.dumps(value, indent=2, sort_keys=True) + "\n")


def write_text(path: Path, text: str) -> None:
    """Writes a text file by renaming."""
    with replacing(path) as temporary:
        temporary.write_text(text)


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary path of the same suffix, renamed to `path` if the body succeeds.

    Its folder is made if only that is missing.

    Raises:
        RunFolderError: the disk is full, or the folder can't be written to.
    """
    temporary = path.with_name(f"{TEMPORARY}{secrets.token_hex(4)}-{path.name}")
    try:
        path.parent.mkdir(exist_ok=True)
        yield temporary
        os.replace(temporary, path)
    except OSError as error:
        raise RunFolderError(
            f"folder: can't write {path}: {_reason(error)}; what was written before is "
            "kept"
        ) from None
    finally:
        if temporary.is_dir():
            shutil.rmtree(temporary)
        else:
            with suppress(OSError):  # such as that its folder is a file
                temporary.unlink()


def _reason(error: OSError) -> str:
    return error.strerror or str(error).splitlines()[0]


def write_lines(path: Path, rows: Iterable[Any]) -> None:
    """Writes a JSON line for each row, by renaming."""
    write_text(path, "".join(json.dumps(row, sort_keys=True) + "\n" for row in rows))


def write_csv(
    path: Path, columns: Sequence[str], rows: Iterable[Sequence[object]]
) -> None:
    """Writes a table, by renaming."""
    with replacing(path) as temporary, temporary.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows(rows)


def read_lines(path: Path) -> list[dict[str, Any]]:
    """All lines of JSON; none if the file is missing."""
    if not path.exists():
        return []
    try:
        return [json.loads(line) for line in path.read_text().splitlines()]
    except ValueError as error:
        raise RunFolderError(f"run: can't read {path}: {error}") from None
