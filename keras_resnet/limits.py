"""What is read of what others hand us, and how much: docs/security.md has the table.

A limit that is passed is a `LimitError`, a `ValueError` that readers put into a line of
their own, with the file's name. Only the standard library is imported at the top.
"""

from __future__ import annotations

import os
import re
import stat
import unicodedata
import zipfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

MESSAGE = 500  # characters of a message
ANSWER = 2**26  # bytes of a server's answer
DOWNLOAD = 2**33  # bytes of a file whose length its server doesn't announce
LARGE = 2**26  # bytes of a file, from which on the free memory is looked at
SHARE = 0.8  # of the free memory may be taken by what a file decodes to
# Decoding takes some bytes for each pixel, however few those of the file are.
PIXELS = int(os.environ.get("KERAS_RESNET_MAX_PIXELS", 2**25))
# All frames of a GIF are decompressed to reach the first, by up to 2,700 to 1.
GIF = 2**18  # bytes


# What changes the direction of text, or is nothing: it may show one text as another.
_BIDI = "\u061c\u200b\u200e\u200f\ufeff" + "".join(
    map(chr, (*range(0x202A, 0x202F), *range(0x2066, 0x206A)))
)


class LimitError(ValueError):
    """More than is read, or nothing that is read at all."""


def clean(text: str) -> str:
    """A text on one line, safe in a terminal or picture.

    Space of any kind becomes a blank; control, escape and bidirectional characters, and
    halves of surrogates, become question marks.
    """
    if text.isascii() and text.isprintable():
        return text
    text = re.sub(r"[\s\x1c-\x1f\x85]+", " ", text)
    return "".join("?" if _harms(c) else c for c in text)


def is_clean(text: str) -> bool:
    """Whether a text has no control, escape or bidirectional characters."""
    return not any(map(_harms, text))


def _harms(character: str) -> bool:
    return unicodedata.category(character) in ("Cc", "Cs") or character in _BIDI


def check_names(names: Sequence[str], classes: int | None = None) -> None:
    """Refuses class names by which an answer can't tell its class.

    Args:
        names: of the classes, or some of them.
        classes: how many there are, if these are not all.

    Raises:
        LimitError: one is empty or has control characters, or several are the same.
    """
    last: dict[str, int] = {}
    for place, name in enumerate(names):
        if not name.strip():
            raise LimitError(f"class {place} has no name")
        if any(unicodedata.category(c) in ("Cc", "Cs", "Zl", "Zp") for c in name):
            raise LimitError(
                f"class {name!r} has line breaks, control characters or bytes "
                "that are not UTF-8; rename it"
            )
        before = last.setdefault(name, place)
        if before != place and (classes or len(names), name) not in _TWICE:
            raise LimitError(f"classes {before} and {place} have one name, {name!r}")


# ImageNet's own list has a bird and a machine, and two bathing suits.
_TWICE = {(1000, "crane"), (1000, "maillot")}


def hide_passwords(text: str) -> str:
    """A text in which the passwords of addresses, `//user:password@host`, are `***`."""
    return re.sub(r"(//[^/\s:@]*):[^/\s]*@", r"\1:***@", text)


def message(text: str) -> str:
    """A clean text without passwords, of at most `MESSAGE` characters, cut inside."""
    text = hide_passwords(clean(text))
    if len(text) <= MESSAGE:
        return text
    head = MESSAGE * 3 // 5
    return f"{text[:head]} ... {text[head + 5 - MESSAGE :]}"


def check_regular(path: Path | str) -> None:
    """Refuses what is no regular file: a pipe or device may give no end of bytes.

    Raises:
        OSError: it doesn't exist.
        LimitError: it is a folder, pipe, device or socket.
    """
    mode = os.stat(path).st_mode
    if not stat.S_ISREG(mode):
        kinds = {stat.S_IFDIR: "a folder", stat.S_IFIFO: "a pipe"}
        kind = kinds.get(stat.S_IFMT(mode), "a device or socket")
        raise LimitError(f"it is {kind}, not a regular file")


def free_memory() -> int | None:
    """Bytes that this process may still take; None where that can't be told."""
    found = []
    try:
        lines = Path("/proc/meminfo").read_text("utf-8").splitlines()
        facts = dict(line.split(":", 1) for line in lines)
        found.append(int(facts["MemAvailable"].split()[0]) * 1024)
    except (OSError, ValueError, KeyError):
        pass
    for limit, used in (
        ("memory.max", "memory.current"),
        ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes"),
    ):
        try:  # "max" is no number
            folder = Path("/sys/fs/cgroup")
            left = int((folder / limit).read_text("utf-8")) - int(
                (folder / used).read_text("utf-8")
            )
            found.append(max(left, 0))
        except (OSError, ValueError):
            continue
    return min(found, default=None)


def check_memory(count: int) -> None:
    """Refuses bytes for which there is no room.

    Raises:
        LimitError: there is less free memory.
    """
    free = free_memory()
    if free is not None and count > SHARE * free:
        raise LimitError(
            f"it takes {count / 2**20:,.0f} MiB of memory; {free / 2**20:,.0f} are free"
        )


def check_size(count: int, most: int) -> None:
    """Refuses more bytes than are needed, or than there is room for.

    Raises:
        LimitError: as told.
    """
    if count > most:
        raise LimitError(
            f"it unpacks to {count / 2**20:,.0f} MiB; at most {most / 2**20:,.0f} are "
            "needed"
        )
    check_memory(count)


def read_file(path: Path | str) -> bytes:
    """All bytes of a regular file, if there is room for them.

    Raises:
        OSError: it can't be read.
        LimitError: it is no regular file, or larger than the free memory.
    """
    check_regular(path)
    with open(path, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        if size > LARGE:
            check_memory(size)
        return file.read()


def read_text(path: Path | str) -> str:
    """All of a regular file of UTF-8.

    Raises:
        OSError, UnicodeDecodeError: it can't be read.
        LimitError: it is no regular file, or larger than the free memory.
    """
    return read_file(path).decode()


def read_member(archive: zipfile.ZipFile, name: str, most: int | None = None) -> bytes:
    """A member of an archive, if it is no larger than needed.

    Raises:
        KeyError: it isn't there.
        LimitError: more bytes than `most`, or than there is room for.
    """
    size = archive.getinfo(name).file_size  # no more than these are unpacked
    check_size(size, size if most is None else most)
    return archive.read(name)


def unpack(file: Any, most: int) -> bytes:
    """All bytes of a stream that unpacks itself, such as gzip's.

    Raises:
        LimitError: more than `most`.
    """
    check_memory(most)
    content: bytes = file.read(most + 1)
    if len(content) > most:
        raise LimitError(f"it unpacks to more than the {most:,} bytes it announces")
    return content


def check_numbers(arrays: Iterable[tuple[str, Any]]) -> None:
    """Refuses named arrays of weights that aren't real, finite numbers.

    Raises:
        LimitError: one holds complex numbers, NaN or infinity.
    """
    import numpy as np

    for name, array in arrays:
        if array.dtype.kind not in "fiub" and array.dtype.name != "bfloat16":
            raise LimitError(f"{clean(name)} holds {array.dtype}, not real numbers")
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise LimitError(f"{clean(name)} holds NaN or infinity")
