"""Image files -> arrays."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from keras_resnet.data.sources import DataError

_MODES = {1: "L", 3: "RGB"}


def read_image(path: Path, shape: tuple[int | None, int | None, int]) -> np.ndarray:
    """An image file as uint8 (height, width, channels), resized if it isn't that size.

    Turned as its camera says, transparency on white, the first frame of several.

    Args:
        path: any file that Pillow reads.
        shape: what is wanted; an open height or width keeps the file's.

    Raises:
        DataError: missing, unreadable or no image, of floating point, or channels
            other than 1 or 3.
    """
    height, width, channels = shape
    if channels not in _MODES:
        raise DataError(
            f"image: {path} can't be read as {channels} channels, only as 1 or 3"
        )
    try:
        with Image.open(path) as file:
            image = _as_eight_bits(ImageOps.exif_transpose(file), path)
        image = image.convert(_MODES[channels])
    except UnidentifiedImageError:
        raise DataError(f"image: {path} is not an image file") from None
    except DataError:
        raise
    except (OSError, ValueError, Image.DecompressionBombError) as error:
        reason = getattr(error, "strerror", None) or error
        raise DataError(f"image: can't read {path}: {reason}") from None
    size = (width or image.width, height or image.height)
    if image.size != size:
        image = image.resize(size, Image.Resampling.BILINEAR)
    return np.asarray(image).reshape(size[1], size[0], channels)


def _as_eight_bits(image: Image.Image, path: Path) -> Image.Image:
    """Pixels from 0 to 255, without transparency."""
    if image.mode.startswith("I;16"):
        wide = np.asarray(image).astype(np.uint16)
        return Image.fromarray((wide >> 8).astype(np.uint8))
    if image.mode in ("I", "F"):
        raise DataError(
            f"image: {path} has pixels of 32 bits, whose range is not known; save it "
            "with 8 or 16"
        )
    if image.has_transparency_data:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(white, image)
    return image
