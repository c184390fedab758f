"""Kinds of files that are often among photos and aren't read, by their first bytes."""

from __future__ import annotations

from keras_resnet.data.images import DataError

# Where, by which bytes, and what it is.
_NOT_READ = (
    *(
        (4, b"ftyp" + brand, "HEIC, which isn't read here; save it as JPEG")
        for brand in (b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis")
    ),
    (128, b"DICM", "DICOM, which isn't read here; save it as PNG"),
    (0, b"%!PS", "PostScript, a drawing; save it as PNG"),
    (0, b"version https://git-lfs", "a pointer of Git LFS; fetch it by git lfs pull"),
    (0, b"<!DOCTYPE html", "a page of HTML, as a failed download leaves it"),
    (0, b"<html", "a page of HTML, as a failed download leaves it"),
)


def check_kind(content: bytes, name: str) -> None:
    """Names what is often among photos and isn't read.

    Raises:
        DataError: it is of that kind.
    """
    for start, magic, what in _NOT_READ:
        if content[start:].lstrip().startswith(magic):
            raise DataError(f"image: {name} is {what}")
