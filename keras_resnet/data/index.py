"""What image files hold, found out once by decoding all of them.

An index is kept in a cache and holds while names, sizes and times of its files do;
of files that have changed only these are decoded again. It takes about 80 bytes an
image.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from keras_resnet.data.chunks import in_chunks
from keras_resnet.data.image_files import Header, examine
from keras_resnet.data.images import DataError
from keras_resnet.files import replacing
from keras_resnet.limits import clean, read_file

VERSION = 1  # of the file
DIGEST = 16  # bytes that tell an image from others
ENDS = 4096  # bytes of a large file that tell it from others of its length
WHOLE = 2**32  # bytes of all files, over which their lengths and ends tell them apart
# Of a row, as numpy stores it: what `Header` says, packed.
ROW = np.dtype(
    [
        ("size", np.int64),
        ("time", np.int64),
        ("height", np.int32),
        ("width", np.int32),
        ("flags", np.uint8),
        ("peak", np.uint8),
        ("digest", f"V{DIGEST}"),
    ]
)
GRAY, LOSSY, CLEAR, SEVERAL, BAD = 1, 2, 4, 8, 16


@dataclasses.dataclass(frozen=True, eq=False)
class Files(Sequence[str]):
    """Paths of files, in few bytes each.

    Attributes:
        folders: paths of folders.
        folder: the number of each file's, int32 (n,).
        names: of all, one after the other.
        ends: where each name ends, int64 (n,).
        rows: which of these files, in this order; int64 (m,).
    """

    folders: tuple[str, ...]
    folder: np.ndarray
    names: bytes
    ends: np.ndarray
    rows: np.ndarray

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, i: Any) -> Any:
        row = self.rows[i]
        name = self.names[self.ends[row - 1] if row else 0 : self.ends[row]]
        return f"{self.folders[self.folder[row]]}/{os.fsdecode(name)}"

    def take(self, indices: np.ndarray) -> Files:
        """Some of them."""
        return dataclasses.replace(self, rows=self.rows[indices])


def list_files(folders: Iterable[tuple[str, Sequence[bytes]]]) -> Files:
    """Files by folder and name."""
    folders = list(folders)
    names = [name for _, names in folders for name in names]
    counts = [len(names) for _, names in folders]
    return Files(
        tuple(path for path, _ in folders),
        np.repeat(np.arange(len(folders), dtype=np.int32), counts),
        b"".join(names),
        np.cumsum(np.fromiter(map(len, names), np.int64, len(names))),
        np.arange(len(names)),
    )


def locate_files(places: Sequence[tuple[str, bytes]]) -> Files:
    """Files by folder and name, in any order."""
    numbers: dict[str, int] = {}
    folder = [numbers.setdefault(path, len(numbers)) for path, _ in places]
    lengths = np.array([len(name) for _, name in places], np.int64)
    return Files(
        tuple(numbers),
        np.array(folder, np.int32),
        b"".join(name for _, name in places),
        np.cumsum(lengths),
        np.arange(len(places)),
    )


@dataclasses.dataclass(frozen=True, eq=False)
class Index:
    """What files hold.

    Attributes:
        files: all of them, by row.
        rows: of `ROW`, (n,).
        reasons: why some can't be read, by row.
    """

    files: Files
    rows: np.ndarray
    reasons: Mapping[int, str]

    def has(self, flag: int) -> np.ndarray:
        """Which rows have a flag."""
        return self.rows["flags"] & flag > 0


def find_out(
    files: Files,
    sizes: np.ndarray,
    times: np.ndarray,
    *,
    cache: Path | None,
    console: Console | None = None,
) -> Index:
    """The index of files, as far as it goes from a cache.

    Args:
        files: all that there are.
        sizes: of each in bytes.
        times: when each was changed, in nanoseconds.
        cache: where it is kept; nowhere if None.
        console: where progress is shown, if it takes long.
    """
    rows = np.zeros(len(files), ROW)
    rows["size"], rows["time"] = sizes, times
    whole = int(sizes.sum()) <= WHOLE
    reasons: dict[int, str] = {}
    missing = np.arange(len(files))
    if cache and (known := _read(cache, whole)):
        missing = _reuse(known, files, rows, reasons)
    if len(missing):
        _examine_all(files, missing, rows, reasons, whole, console)
    index = Index(files, rows, reasons)
    if cache and len(missing):
        _write(cache, index, whole)
    return index


def cache_of(root: str) -> Path:
    """Where the index of a folder is kept, for all runs of a user."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    name = hashlib.blake2b(os.fsencode(os.path.abspath(root)), digest_size=12)
    return Path(base) / "keras-resnet" / f"{name.hexdigest()}.npz"


def _examine_all(
    files: Files,
    missing: np.ndarray,
    rows: np.ndarray,
    reasons: dict[int, str],
    whole: bool,
    console: Console | None,
) -> None:
    """Decodes what isn't known yet, in threads."""

    def look(i: int) -> None:
        path = files[i]
        try:
            content = read_file(path)
            rows[i]["digest"] = digest(content, whole)
            _note(rows[i], examine(content, path))
        except DataError as error:
            reasons[i] = str(error)
        except (OSError, ValueError) as error:  # a LimitError, or no name of a file
            reason = getattr(error, "strerror", None) or error
            reasons[i] = clean(f"image: can't read {path}: {reason}")
        if i in reasons:
            rows[i]["flags"] = BAD

    in_chunks(look, missing, "decoding all once", console)


def _note(row: Any, header: Header) -> None:
    row["height"], row["width"] = header.size
    row["peak"] = header.peak
    row["flags"] = (
        GRAY * header.gray
        | LOSSY * header.lossy
        | CLEAR * header.clear
        | SEVERAL * (header.frames > 1)
    )


def digest(content: bytes, whole: bool = True) -> bytes:
    """What tells an encoded image from others: equal for equal images.

    Args:
        content: of the file.
        whole: whether all of it counts, or its length and ends.
    """
    if not whole:
        start, end = content[:ENDS], content[max(len(content) - ENDS, 0) :]
        content = b"%d" % len(content) + start + end
    return hashlib.blake2b(content, digest_size=DIGEST).digest()


def _keys(files: Files, rows: np.ndarray) -> Iterator[tuple[Any, ...]]:
    sizes, times = rows["size"].tolist(), rows["time"].tolist()
    for i, size, time in zip(range(len(files)), sizes, times, strict=True):
        yield files[i], size, time


def _reuse(
    known: Index, files: Files, rows: np.ndarray, reasons: dict[int, str]
) -> np.ndarray:
    """Fills in what is known of files that are as they were; the others' rows."""
    old = known.rows
    if (
        known.files.folders == files.folders
        and known.files.names == files.names
        and np.array_equal(known.files.ends, files.ends)
        and np.array_equal(known.files.folder, files.folder)
    ):
        numbers = np.arange(len(files))
        same = (old["size"] == rows["size"]) & (old["time"] == rows["time"])
        new, before = numbers[same], numbers[same]
    else:
        places = {key: i for i, key in enumerate(_keys(known.files, old))}
        found = np.fromiter(
            (places.get(key, -1) for key in _keys(files, rows)), np.int64, len(files)
        )
        new = np.flatnonzero(found >= 0)
        before = found[new]
    rows[new] = old[before]
    for place in np.flatnonzero(np.isin(before, list(known.reasons))):
        reasons[int(new[place])] = known.reasons[int(before[place])]
    return np.setdiff1d(np.arange(len(files)), new, assume_unique=True)


def _read(path: Path, whole: bool) -> Index | None:
    """An index that was kept; None if there is none of this version."""
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            about = json.loads(arrays["about"].tobytes())
            if (about["version"], about["whole"]) != (VERSION, whole):
                return None
            ends = arrays["ends"]
            files = Files(
                tuple(about["folders"]),
                arrays["folder"],
                arrays["names"].tobytes(),
                ends,
                np.arange(len(ends)),
            )
            reasons = {int(i): why for i, why in about["reasons"].items()}
            return Index(files, arrays["rows"].view(ROW).reshape(-1), reasons)
    except Exception:  # missing, damaged, of another form: made anew
        return None


def _write(path: Path, index: Index, whole: bool) -> None:
    """Keeps an index; a cache that can't be written to is no harm."""
    files = index.files
    about = {
        "version": VERSION,
        "whole": whole,
        "folders": files.folders,
        "reasons": index.reasons,
    }
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as temporary:
            np.savez(
                temporary,
                about=np.frombuffer(json.dumps(about).encode(), np.uint8),
                folder=files.folder,
                names=np.frombuffer(files.names, np.uint8),
                ends=files.ends,
                rows=index.rows.view(np.uint8),
            )
    except (OSError, ValueError):
        pass
