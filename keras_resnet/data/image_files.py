"""Image files -> arrays."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from keras_resnet.data.images import DataError
from keras_resnet.errors import one_line

Shape = tuple[int | None, int | None, int]
Box = tuple[float, float, float, float]  # left, top, right, bottom in pixels
# Decoding takes some bytes for each pixel, however few those of the file are.
MAX_PIXELS = 2**25
# All frames of a GIF are decompressed to reach the first, by up to 2,700 to 1.
MAX_GIF = 2**18
CENTRAL = 0.875  # of the shorter side is kept in evaluation: 224 of 256 pixels
_MODES = {1: "L", 3: "RGB"}
_GRAY = ("1", "L", "LA", "I;16", "I;16B", "I;16L", "I;16N")


class Header(NamedTuple):
    """What the first bytes of an image file tell."""

    size: tuple[int, int]  # height, width
    gray: bool


def read_header(path: str) -> Header:
    """Size and kind of an image file, without decoding it.

    Raises:
        DataError: missing or no image.
    """
    with _opened(path) as image:
        return Header((image.height, image.width), image.mode in _GRAY)


def read_image(
    source: Path | str | bytes, shape: Shape, central: float | None = None
) -> np.ndarray:
    """An image file as uint8 (height, width, channels), resized if it isn't that size.

    Turned as its camera says, transparency on white, the first frame of several.

    Args:
        source: a file that Pillow reads, or its bytes.
        shape: what is wanted; an open height or width keeps the file's.
        central: the share of the shorter side that is kept, from the middle, with
            the image's aspect; None stretches the whole image.

    Raises:
        DataError: missing, unreadable or no image, of floating point, or channels
            other than 1 or 3.
    """
    height, width, channels = shape

    def whole_or_central(image: Image.Image) -> Box | None:
        if central is None or image.size == (width, height):
            return None
        return central_box(image.height, image.width, height, width, central)

    return _read(source, (height, width), channels, whole_or_central)


def read_crop(
    source: Path | str | bytes,
    shape: tuple[int, int, int],
    choose: Callable[[int, int], Box],
) -> np.ndarray:
    """A part of an image file, resized, as uint8 (height, width, channels).

    Args:
        source: a file that Pillow reads, or its bytes.
        shape: what is wanted.
        choose: height and width in the file -> the part.

    Raises:
        DataError: as `read_image`.
    """
    height, width, channels = shape

    def crop(image: Image.Image) -> Box:
        full_height, full_width = image.height, image.width
        box = choose(full_height, full_width)
        share = min((box[2] - box[0]) / width, (box[3] - box[1]) / height)
        # A JPEG can be decoded at 1/2, 1/4 or 1/8: less work, and an average.
        image.draft(None, (int(full_width / share), int(full_height / share)))
        x, y = image.width / full_width, image.height / full_height
        return (box[0] * x, box[1] * y, box[2] * x, box[3] * y)

    return _read(source, (height, width), channels, crop)


def central_box(
    height: int, width: int, to_height: int | None, to_width: int | None, share: float
) -> Box:
    """The part of an image that, resized, is the middle of it with the same aspect."""
    scale = share * min(height / (to_height or height), width / (to_width or width))
    box_width, box_height = scale * (to_width or width), scale * (to_height or height)
    left, top = (width - box_width) / 2, (height - box_height) / 2
    return (left, top, left + box_width, top + box_height)


def _read(
    source: Path | str | bytes,
    size: tuple[int | None, int | None],
    channels: int,
    choose: Callable[[Image.Image], Box | None],
) -> np.ndarray:
    if channels not in _MODES:
        raise DataError(
            f"image: {_name(source)} can't be read as {channels} channels, only as 1 "
            "or 3"
        )
    with _opened(source) as file:
        turned = file.getexif().get(0x0112, 1) != 1
        box = None if turned else choose(file)
        image = _as_eight_bits(ImageOps.exif_transpose(file), source)
        image = image.convert(_MODES[channels])
        if turned:
            box = choose(image)
    to = (size[1] or image.width, size[0] or image.height)
    if image.size != to or box:
        image = image.resize(to, Image.Resampling.BILINEAR, box)
    return np.asarray(image).reshape(to[1], to[0], channels)


@contextmanager
def _opened(source: Path | str | bytes) -> Iterator[Image.Image]:
    """An image file; whatever Pillow finds wrong with it is a DataError."""
    try:
        file = io.BytesIO(source) if isinstance(source, bytes) else source
        with Image.open(file) as image:
            yield image
    except UnidentifiedImageError:
        raise DataError(f"image: {_name(source)} is not an image file") from None
    except DataError:
        raise
    except Exception as error:  # Pillow's plugins raise what they like
        reason = getattr(error, "strerror", None) or one_line(error)
        raise DataError(f"image: can't read {_name(source)}: {reason}") from None


def _name(source: Path | str | bytes) -> str:
    return f"of {len(source)} bytes" if isinstance(source, bytes) else str(source)


def _as_eight_bits(image: Image.Image, source: Path | str | bytes) -> Image.Image:
    """Pixels from 0 to 255, without transparency."""
    if image.mode.startswith("I;16"):
        wide = np.asarray(image).astype(np.uint16)
        return Image.fromarray((wide >> 8).astype(np.uint8))
    if image.mode in ("I", "F"):
        raise DataError(
            f"image: {_name(source)} has pixels of 32 bits, whose range is not known; "
            "save it with 8 or 16"
        )
    if image.has_transparency_data:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(white, image)
    return image
