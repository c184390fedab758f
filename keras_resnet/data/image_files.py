"""Image files -> arrays: upright, on white, the first frame of several.

JPEGs are decoded by simplejpeg, whose pixels are Pillow's in half of the time, all else
and whatever it doesn't take by Pillow.
"""

from __future__ import annotations

import io
import re
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np
import simplejpeg
from PIL import Image, ImageOps, UnidentifiedImageError

from keras_resnet import limits
from keras_resnet.data.images import DataError
from keras_resnet.data.kinds import check_kind
from keras_resnet.data.resizing import Choose, central_box, resize_part
from keras_resnet.errors import one_line

Shape = tuple[int | None, int | None, int]
MAX_PIXELS, MAX_GIF = limits.PIXELS, limits.GIF
CENTRAL = 0.875  # of the shorter side is kept in evaluation: 224 of 256 pixels
DARK = 16  # a 16-bit image of which no high byte reaches it has 12 bits or fewer
_MODES = {1: "L", 3: "RGB"}
_GRAY = ("1", "L", "LA", "I;16", "I;16B", "I;16L", "I;16N")
_LOSSY = ("JPEG", "MPO", "WEBP", "AVIF", "HEIF", "JPEG2000")
_JPEG = b"\xff\xd8\xff"
_SCAN = b"\xff\xda"  # where a JPEG's notes end and its pixels begin
_SPACES = ("Gray", "YCbCr", "RGB")
_XMP_TURN = re.compile(rb'tiff:Orientation(?:="|>)([0-9])')
_ORIENTATION = 0x0112  # the tag of Exif and TIFF


class Header(NamedTuple):
    """What kind of image a file holds.

    Attributes:
        size: height and width, upright.
        gray: whether it has no colors.
        lossy: whether it is of a format for photos.
        clear: whether parts may be transparent: they become white.
        frames: how many it has: the first one counts.
        peak: the greatest high byte of one of 16 bits; 0 of others.
    """

    size: tuple[int, int]
    gray: bool
    lossy: bool = True
    clear: bool = False
    frames: int = 1
    peak: int = 0


class Opened(NamedTuple):
    """An image file of which the header has been read.

    Attributes:
        header: its kind.
        load: a number that height and width may be divided by, 1, 2, 4 or 8 -> pixels,
            upright uint8 (height, width, channels); larger if not so divided.
    """

    header: Header
    load: Callable[[int], np.ndarray]


def examine(content: bytes, name: str) -> Header:
    """The kind of an image file, which is decoded whole.

    Raises:
        DataError: as `read_image`.
    """
    with _in_one_line(name):
        opened = _open_jpeg(content, None, name) or _open_any(content, None, name)
        opened.load(1)
        return opened.header


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
        DataError: missing, unreadable or no image, larger than `MAX_PIXELS`, of
            floating point or of 16 bits that are hardly used, or channels other than 1
            or 3.
    """
    height, width, channels = shape
    pixels = open_image(source, channels).load(1)
    size = (pixels.shape[0], pixels.shape[1])
    to = (height or size[0], width or size[1])
    if size == to:
        return pixels
    box = None if central is None else central_box(size, to, central)
    image = Image.fromarray(pixels[..., 0] if channels == 1 else pixels)
    resized = image.resize(to[::-1], Image.Resampling.BILINEAR, box)
    return np.asarray(resized).reshape(*to, channels)


def open_image(
    source: Path | str | bytes, channels: int, name: str | None = None
) -> Opened:
    """An image file, to be decoded in one size or another.

    Args:
        source: a file that Pillow reads, or its bytes.
        channels: 1 or 3.
        name: for messages, instead of the file's.

    Raises:
        DataError: as `read_image`; `load` too.
    """
    if name is None:
        name = f"of {len(source)} bytes" if isinstance(source, bytes) else str(source)
    if channels not in _MODES:
        raise DataError(
            f"image: {name} can't be read as {channels} channels, only as 1 or 3"
        )
    with _in_one_line(name):
        content = source if isinstance(source, bytes) else limits.read_file(source)
        opened = _open_jpeg(content, channels, name)
        opened = opened or _open_any(content, channels, name)

    def load(divisor: int) -> np.ndarray:
        with _in_one_line(name):
            return opened.load(divisor)

    return Opened(opened.header, load)


def read_crop(
    source: Path | str | bytes,
    shape: tuple[int, int, int],
    choose: Choose,
) -> np.ndarray:
    """A part of an image file, resized, as uint8 (height, width, channels).

    Args:
        source: a file that Pillow reads, or its bytes.
        shape: what is wanted.
        choose: height and width in the file -> the part.

    Raises:
        DataError: as `read_image`.
    """
    opened = open_image(source, shape[2])
    height, width = opened.header.size
    left, top, right, bottom = choose(height, width)
    share = min((right - left) / shape[1], (bottom - top) / shape[0])
    pixels = opened.load(next(d for d in (8, 4, 2, 1) if d <= max(share, 1)))
    x, y = pixels.shape[1] / width, pixels.shape[0] / height
    return resize_part(pixels, (left * x, top * y, right * x, bottom * y), shape[:2])


def _open_jpeg(content: bytes, channels: int | None, name: str) -> Opened | None:
    """A JPEG of gray or colors, which simplejpeg decodes; None if it doesn't.

    Args:
        content: of the file.
        channels: 1 or 3; None for the file's.
        name: for messages.
    """
    if not content.startswith(_JPEG):
        return None
    try:
        height, width, space, _ = simplejpeg.decode_jpeg_header(content)
    except ValueError:
        return None
    if space not in _SPACES or height * width > MAX_PIXELS:
        return None
    turn = _turn(content)
    gray = space == "Gray"
    size = (width, height) if turn > 4 else (height, width)

    def load(divisor: int) -> np.ndarray:
        try:
            pixels = simplejpeg.decode_jpeg(
                content,
                "GRAY" if gray and channels != 3 else "RGB",
                min_height=-(-height // divisor) if divisor > 1 else 0,
                min_width=-(-width // divisor) if divisor > 1 else 0,
            )
        except ValueError:  # what it is strict about, Pillow may take
            return _open_any(content, channels, name).load(1)
        if channels == 1 and not gray:
            pixels = np.asarray(Image.fromarray(pixels).convert("L"))[..., np.newaxis]
        return np.ascontiguousarray(TURNS[turn](pixels)) if turn > 1 else pixels

    return Opened(Header(size, gray), load)


# Exif's orientation -> what makes (height, width, channels) upright.
TURNS: dict[int, Callable[[np.ndarray], np.ndarray]] = {
    2: lambda pixels: pixels[:, ::-1],
    3: lambda pixels: pixels[::-1, ::-1],
    4: lambda pixels: pixels[::-1],
    5: lambda pixels: pixels.swapaxes(0, 1),
    6: lambda pixels: pixels.swapaxes(0, 1)[:, ::-1],
    7: lambda pixels: pixels.swapaxes(0, 1)[::-1, ::-1],
    8: lambda pixels: pixels.swapaxes(0, 1)[::-1],
}


def _turn(content: bytes) -> int:
    """The orientation that a JPEG's camera noted, 1 to 8; 1 if it can't be read.

    Pillow would read it as well, but decodes no JPEG here, and warns of broken notes.
    """
    head = content[: content.find(_SCAN)]
    note = _XMP_TURN.search(head)
    turn = int(note[1]) if note else 1
    start = head.find(b"Exif\0\0") + 6
    order = {b"II": "<", b"MM": ">"}.get(head[start : start + 2])
    if start < 6 or order is None:
        return turn if turn in TURNS else 1
    try:
        (first,) = struct.unpack_from(f"{order}I", head, start + 4)
        (count,) = struct.unpack_from(f"{order}H", head, start + first)
        for i in range(count):
            at = start + first + 2 + 12 * i
            tag, _, _, value = struct.unpack_from(f"{order}HHIH", head, at)
            if tag == _ORIENTATION:
                turn = value
    except struct.error:
        return 1
    return turn if turn in TURNS else 1


def is_plain_jpeg(content: bytes) -> bool:
    """Whether a JPEG of gray or colors is upright as it is."""
    try:
        _, _, space, _ = simplejpeg.decode_jpeg_header(content)
    except ValueError:
        return False
    return space in _SPACES and _turn(content) == 1


def _open_any(content: bytes, channels: int | None, name: str) -> Opened:
    """A file that Pillow reads, decoded at once: its size is certain only then."""
    check_kind(content, name)
    with Image.open(io.BytesIO(content)) as image:
        count = image.width * image.height
        if count > MAX_PIXELS:
            raise DataError(f"image: {name} has {count} pixels; at most {MAX_PIXELS}")
        wide = _is_wide(image)
        header = Header(
            (image.height, image.width),
            image.mode in (*_GRAY, "I") or _raw_mode(image).startswith("LA"),
            image.format in _LOSSY,
            image.has_transparency_data,
            _frames(image),
        )
        image.load()
        upright = _upright(image)
        if image.format == "PPM" and upright.mode == "I":  # stretched to 16 bits
            upright = Image.fromarray(np.asarray(upright).astype(np.uint16))
        if upright.mode in ("I", "F"):
            raise DataError(
                f"image: {name} has pixels of 32 bits, whose range is not known; save "
                "it with 8 or 16"
            )
        if upright.mode.startswith("I;16"):
            values = np.asarray(upright).astype(np.uint16) >> 8
            upright = Image.fromarray(values.astype(np.uint8))
        if wide:
            opaque = upright.convert("RGB") if "A" in upright.getbands() else upright
            brightest = max(high for _, high in _extrema(opaque))
            if brightest < DARK:
                raise DataError(
                    f"image: {name} has 16 bits, but no value of {DARK << 8} or more: "
                    "it would be black; stretch its values, or save it with 8 bits"
                )
            header = header._replace(peak=brightest)
        if upright.has_transparency_data:
            upright = upright.convert("RGBA")
            white = Image.new("RGBA", upright.size, "white")
            upright = Image.alpha_composite(white, upright)
        upright = upright.convert(_MODES[channels or (1 if header.gray else 3)])
    pixels = np.asarray(upright).reshape(upright.height, upright.width, -1)
    return Opened(header._replace(size=pixels.shape[:2]), lambda _: pixels)


def _is_wide(image: Image.Image) -> bool:
    """Whether the file has 16 bits a channel, which Pillow may read as 8."""
    return image.mode.startswith("I;16") or ";16" in _raw_mode(image)


def _raw_mode(image: Image.Image) -> str:
    """How pixels are packed in the file, such as "LA;16B", where that is known."""
    tiles = getattr(image, "tile", None)
    args = tiles[0].args if tiles else ""
    raw = args[0] if isinstance(args, tuple) and args else args
    return raw if isinstance(raw, str) else ""


def _frames(image: Image.Image) -> int:
    try:
        return int(getattr(image, "n_frames", 1))
    except Exception:  # later ones may be broken, and don't count
        return 2


def _upright(image: Image.Image) -> Image.Image:
    try:
        return ImageOps.exif_transpose(image)
    except Exception:  # a note that can't be read leaves a good photo as it is
        return image


def _extrema(image: Image.Image) -> list[tuple[int, int]]:
    """Least and greatest value of each channel."""
    found = image.getextrema()
    return list(found) if isinstance(found[0], tuple) else [found]  # type: ignore[list-item]


@contextmanager
def _in_one_line(name: str) -> Iterator[None]:
    """Whatever is wrong with an image file is a DataError."""
    try:
        yield
    except DataError:
        raise
    except UnidentifiedImageError:
        raise DataError(f"image: {name} is not an image file") from None
    except Image.DecompressionBombError:
        raise DataError(
            f"image: {name} has more pixels than {MAX_PIXELS}, the most that are read"
        ) from None
    except Exception as error:  # Pillow's plugins raise what they like
        reason = getattr(error, "strerror", None) or one_line(error)
        raise DataError(f"image: can't read {name}: {reason}") from None
