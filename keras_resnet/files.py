"""Files written whole or not at all, and read or refused in one line."""

from __future__ import annotations

import csv
import errno
import hashlib
import json
import os
import secrets
import shutil
import struct
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any

from keras_resnet import hdf5, limits
from keras_resnet.errors import RunFolderError, UserError, one_line

TEMPORARY = ".part-"  # how the name of a file that is being written begins

SEAL = b"sha256 "  # begins the comment of an archive that has its own checksum
_sealed: set[bytes] = set()  # checksums of what this process has written


@contextmanager
def reading() -> Iterator[None]:
    """Whatever a damaged file makes its reader raise is a ValueError of one line.

    Raises:
        ValueError: it is damaged, or passes a limit.
    """
    try:
        yield
    except UserError:
        raise
    except Exception as error:  # archives, HDF5 and Keras raise what they like
        reason = getattr(error, "strerror", None) or one_line(error)
        raise ValueError(reason) from None


@contextmanager
def open_npz(path: Path) -> Iterator[Any]:
    """The arrays of a `.npz` file: no pickles, and no more than memory is free.

    Raises:
        OSError, ValueError, zipfile.BadZipFile: missing, damaged, or too large.
    """
    import numpy as np

    check_seal(path)
    with path.open("rb") as opened:  # numpy leaves a file open that is no archive
        if zipfile.is_zipfile(opened):
            with zipfile.ZipFile(opened) as archive:
                members = archive.infolist()
            limits.check_memory(sum(member.file_size for member in members))
        opened.seek(0)
        with np.load(opened, allow_pickle=False) as arrays:
            yield arrays


def seal(path: Path) -> None:
    """Writes the checksum of an archive, `.npz` or `.keras`, into its comment.

    What is sealed is on the disk when this returns.
    """
    with path.open("r+b") as file:
        file.seek(-2, os.SEEK_END)
        file.write(struct.pack("<H", len(SEAL) + hashlib.sha256().digest_size))
        file.seek(0)
        digest = hashlib.file_digest(file, "sha256").digest()
        file.seek(0, os.SEEK_END)
        file.write(SEAL + digest)
        file.flush()
        os.fsync(file.fileno())
    _sealed.add(digest)


def check_seal(path: Path) -> bool:
    """Compares an archive with its checksum; one without is as good as it is.

    Returns:
        Whether this process has written it; a checksum alone could be anybody's.

    Raises:
        ValueError: they differ.
    """
    limits.check_regular(path)
    length = len(SEAL) + hashlib.sha256().digest_size
    content = path.stat().st_size - length
    if content <= 0:
        return False
    with path.open("rb") as file:
        file.seek(content)
        told = file.read()
        if not told.startswith(SEAL):
            return False
        file.seek(0)
        digest = hashlib.sha256()
        while content:
            chunk = file.read(min(content, 2**20))
            digest.update(chunk)
            content -= len(chunk)
    if digest.digest() != told.removeprefix(SEAL):
        raise ValueError("its checksum differs")
    return digest.digest() in _sealed


def load_keras(path: Path, **options: Any) -> Any:
    """A whole model from a `.keras` file. No code in it is run.

    Args:
        path: the file.
        **options: of `keras.models.load_model`, such as compile.

    Raises:
        ValueError: missing, damaged, leads to other files, holds what is no finite
            number, or takes more memory than is free.
    """
    import keras
    import numpy as np

    with reading():
        own = check_seal(path)
        with nullcontext(path) if own else hdf5.rewritten(path) as safe:
            model = keras.models.load_model(safe, **options)
        limits.check_numbers((w.path, np.asarray(w)) for w in model.weights)
    return model


def check_folder(path: Path, field: str) -> None:
    """Refuses a place for a folder where none can be made or written to.

    Raises:
        UserError: naming the field that it is of.
    """
    there = next(each for each in (path, *path.parents) if each.exists())
    if not there.is_dir():
        raise UserError(f"{field}: can't write to {path}: {there} is a file")
    if not os.access(there, os.W_OK):
        raise UserError(f"{field}: can't write to {path}: Permission denied")


def read_json(path: Path) -> Any:
    """A JSON file of a run.

    Raises:
        RunFolderError: missing or damaged.
    """
    try:
        return json.loads(limits.read_text(path))
    except (OSError, ValueError, RecursionError) as error:
        raise RunFolderError(f"run: can't read {path}: {one_line(error)}") from None


def write_json(path: Path, value: Any) -> None:
    """Writes JSON, sorted, by renaming."""
    write_text(path, json.dumps(value, indent=2, sort_keys=True) + "\n")


def write_text(path: Path, text: str) -> None:
    """Writes a text file by renaming."""
    with replacing(path) as temporary:
        temporary.write_text(text, "utf-8")


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
    except Exception as error:
        reason = _reason(error)
        if reason is None:
            raise
        raise RunFolderError(
            f"folder: can't write {path}: {reason}; what was written before is kept"
        ) from None
    finally:
        if temporary.is_dir():
            shutil.rmtree(temporary)
        else:
            with suppress(OSError):  # such as that its folder is a file
                temporary.unlink()


_SYSTEM = {os.strerror(number) for number in errno.errorcode}


def _reason(error: Exception) -> str | None:
    """Why a file can't be written; None if that isn't what went wrong."""
    if isinstance(error, OSError):
        return error.strerror or str(error).splitlines()[0]
    # TensorFlow's own errors are no OSError, and end with the system's words.
    told = str(getattr(error, "message", "")).rpartition("; ")[2]
    return told if told in _SYSTEM else None


def write_lines(path: Path, rows: Iterable[Any]) -> None:
    """Writes a JSON line for each row, by renaming."""
    write_text(path, "".join(json.dumps(row, sort_keys=True) + "\n" for row in rows))


def write_csv(
    path: Path, columns: Sequence[str], rows: Iterable[Sequence[object]]
) -> None:
    """Writes a table, by renaming."""
    with (
        replacing(path) as temporary,
        temporary.open("w", encoding="utf-8", newline="") as file,
    ):
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows(rows)


def read_lines(path: Path) -> list[dict[str, Any]]:
    """All lines of JSON; none if the file is missing."""
    if not path.exists():
        return []
    try:
        rows = [json.loads(line) for line in limits.read_text(path).splitlines()]
    except (OSError, ValueError, RecursionError) as error:
        raise RunFolderError(f"run: can't read {path}: {one_line(error)}") from None
    if not all(isinstance(row, dict) for row in rows):
        raise RunFolderError(f"run: {path} has a line that is no JSON object")
    return rows
