"""Kinds of image files: read alike by training, predict, client and a server's graph.

Or refused by all, in the same words but the server's.
"""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image, ImageCms

from keras_resnet.data.image_files import CENTRAL, examine, open_image, read_image
from keras_resnet.data.images import DataError
from keras_resnet.serving import ServingError, client, pixels

SHAPE = (24, 20, 3)
y, x = np.mgrid[:30, :26]
PHOTO = np.stack([8 * x + 20, 7 * y + 30, 4 * (x + y) + 10], axis=2).astype(np.uint8)
WIDE = (PHOTO[..., 0].astype(np.uint16) << 8) + 99


def saved(form, mode="RGB", image=PHOTO, **options):
    file = io.BytesIO()
    Image.fromarray(image).convert(mode).save(file, form, **options)
    return file.getvalue()


def clear(mode="RGBA"):
    """Half transparent at the left."""
    image = Image.fromarray(PHOTO).convert(mode)
    alpha = np.where(x < 9, 100, 255).astype(np.uint8)
    image.putalpha(Image.fromarray(alpha))
    return np.asarray(image)


def turned(form, turn, **options):
    exif = Image.Exif()
    exif[0x0112] = turn
    return saved(form, exif=exif, **options)


def moving(form, count=3):
    frames = [Image.fromarray(np.roll(PHOTO, 5 * i, axis=1)) for i in range(count)]
    file = io.BytesIO()
    frames[0].save(file, form, save_all=True, append_images=frames[1:])
    return file.getvalue()


def broken_exif(turn=6):
    content = turned("JPEG", turn)
    at = content.index(b"Exif")
    return content[: at + 10] + b"\xff" * 12 + content[at + 22 :]


def profile():
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def png(depth, color, rows, *chunks):
    """A PNG as Pillow doesn't write it."""

    def chunk(kind, content):
        checked = kind + content
        length, checksum = struct.pack(">I", len(content)), zlib.crc32(checked)
        return length + checked + struct.pack(">I", checksum)

    head = struct.pack(">IIBBBBB", 26, 30, depth, color, 0, 0, 0)
    packed = zlib.compress(b"".join(b"\0" + np.asarray(r).tobytes() for r in rows))
    return b"".join(
        [
            b"\x89PNG\r\n\x1a\n",
            chunk(b"IHDR", head),
            *(chunk(*each) for each in chunks),
            chunk(b"IDAT", packed),
            chunk(b"IEND", b""),
        ]
    )


def wide(image, alpha=False):
    """Values of 16 bits, of PNG's order."""
    values = image.astype(np.uint16) * 257
    if alpha:
        opaque = np.full((*image.shape[:2], 1), 65535, np.uint16)
        values = np.concatenate([values, opaque], axis=2)
    return values.byteswap()


def white_is_zero():
    content = bytearray(saved("TIFF", "L", 255 - PHOTO[..., 0]))
    at = content.index(struct.pack("<HHI", 262, 3, 1))  # the photometric tag
    content[at + 8 : at + 10] = struct.pack("<H", 0)
    return bytes(content)


def big_endian():
    file = io.BytesIO()
    values = WIDE.astype(">u2").tobytes()
    Image.frombytes("I;16B", (26, 30), values).save(file, "TIFF")
    return file.getvalue()


def pgm(greatest):
    values = (PHOTO[..., 0].astype(np.uint32) * greatest // 255).astype(">u2")
    return b"P5\n26 30\n%d\n" % greatest + values.tobytes()


def with_text(content):
    return content + b"some bytes behind the end"


ALIKE = {
    **{f"jpeg of quality {q}": saved("JPEG", quality=q) for q in (20, 75, 95, 100)},
    **{f"jpeg, chroma {s}": saved("JPEG", subsampling=s) for s in (0, 1, 2)},
    "jpeg, progressive": saved("JPEG", progressive=True),
    "jpeg, optimized": saved("JPEG", optimize=True),
    "jpeg, restarts": saved("JPEG", restart_marker_blocks=2),
    "jpeg, gray": saved("JPEG", "L"),
    "jpeg, CMYK": saved("JPEG", "CMYK"),
    "jpeg, comment": saved("JPEG", comment=b"Exif of nothing"),
    "jpeg, profile": saved("JPEG", icc_profile=b"x" * 3000),
    "jpeg, bytes behind": with_text(saved("JPEG")),
    "jpeg, broken Exif": broken_exif(),
    **{f"jpeg, turned {turn}": turned("JPEG", turn) for turn in range(1, 10)},
    **{f"png, turned {turn}": turned("PNG", turn) for turn in (3, 6, 8)},
    **{f"webp, turned {turn}": turned("WEBP", turn, lossless=True) for turn in (6, 8)},
    "tiff, turned 6": turned("TIFF", 6),
    "tiff, turned 5": turned("TIFF", 5),
    "tiff, turned, packed": turned("TIFF", 6, compression="tiff_lzw"),
    **{f"png {mode}": saved("PNG", mode) for mode in ("1", "L", "P", "RGB", "RGBA")},
    "png LA": saved("PNG", "LA", clear("L")),
    "png, transparent": saved("PNG", "RGBA", clear()),
    "png, palette with a hole": saved("PNG", "P", transparency=3),
    "png of 16 bits": saved("PNG", "I;16", WIDE),
    "png, bytes behind": with_text(saved("PNG")),
    "apng": moving("PNG"),
    "gif": saved("GIF", "P"),
    "gif, gray": saved("GIF", "L"),
    "gif, moving": moving("GIF"),
    "gif, long": moving("GIF", 400),
    **{f"bmp {mode}": saved("BMP", mode) for mode in ("1", "L", "P", "RGB")},
    "bmp of 32 bits": saved("BMP", "RGBA"),
    "webp": saved("WEBP"),
    "webp, lossless": saved("WEBP", lossless=True),
    "webp, transparent": saved("WEBP", "RGBA", clear()),
    "webp, moving": moving("WEBP"),
    "avif": saved("AVIF"),
    "avif, moving": moving("AVIF"),
    **{f"tiff {mode}": saved("TIFF", mode) for mode in ("1", "L", "P", "RGB", "CMYK")},
    "tiff of 16 bits": saved("TIFF", "I;16", WIDE),
    "tiff, several pages": moving("TIFF"),
    "tiff, jpeg inside": saved("TIFF", compression="jpeg"),
    "jpeg, chroma 4:1:1": saved("JPEG", subsampling="4:1:1"),
    "jpeg, RGB inside": saved("JPEG", keep_rgb=True),
    "jpeg, real profile": saved("JPEG", icc_profile=profile()),
    "jpeg, twice": saved("JPEG") + saved("JPEG", "L"),
    "mpo": moving("MPO"),
    "png, real profile": saved("PNG", icc_profile=profile()),
    "png, 16 bits of colors": png(16, 2, wide(PHOTO)),
    "png, 16 bits and alpha": png(16, 6, wide(PHOTO, alpha=True)),
    "png, 16 bits, gray and alpha": png(16, 4, wide(PHOTO[..., :1], alpha=True)),
    "png, one color is clear": png(
        8, 2, PHOTO, (b"tRNS", struct.pack(">HHH", *PHOTO[3, 4]))
    ),
    "png, gamma": png(8, 2, PHOTO, (b"gAMA", struct.pack(">I", 45455))),
    "png, palette with alpha": saved("PNG", "P", transparency=bytes([128] * 256)),
    "png, end lost": saved("PNG")[:-12],
    "gif, transparent": saved("GIF", "P", transparency=5),
    "avif, turned": turned("AVIF", 6),
    "jpeg 2000, transparent": saved("JPEG2000", "RGBA", clear()),
    "jpeg 2000, gray": saved("JPEG2000", "L"),
    "jpeg 2000 of 16 bits": saved("JPEG2000", "I;16", WIDE),
    "tiff of 16 bits, packed": saved("TIFF", "I;16", WIDE, compression="tiff_lzw"),
    "tiff of 16 bits, big-endian": big_endian(),
    "tiff, fax": saved("TIFF", "1", compression="group4"),
    "tiff, white is zero": white_is_zero(),
    "tiff, YCbCr": saved("TIFF", "YCbCr"),
    "tiff, large": saved("TIFF", big_tiff=True),
    "pgm of 16 bits": pgm(65535),
    "pgm of 12 bits, which it says": pgm(4095),
    "ppm as text": b"P3 26 30 255 " + " ".join(map(str, PHOTO.ravel())).encode(),
    "qoi": saved("QOI"),
    "dds": saved("DDS"),
    "xbm": saved("XBM", "1"),
    "one row": saved("PNG", image=PHOTO[:1]),
    "ppm": saved("PPM"),
    "tga": saved("TGA"),
    "pcx": saved("PCX"),
    "ico": saved("ICO"),
    "jpeg 2000": saved("JPEG2000"),
    "dib": saved("DIB"),
    "sgi": saved("SGI"),
}

REFUSED = {
    "nothing": (b"", "is not an image file"),
    "text": (b"no image", "is not an image file"),
    "jpeg, half": (saved("JPEG", quality=95)[:700], "image file is truncated"),
    "jpeg, end lost": (saved("JPEG")[:-40], "image file is truncated"),
    "jpeg, head alone": (saved("JPEG")[:12], "is not an image|can't read"),
    "png, half": (saved("PNG")[:70], "can't read|truncated"),
    "webp, half": (saved("WEBP")[:100], "is not an image|can't read"),
    "gif, half": (saved("GIF")[:100], "can't read|is not an image"),
    "tiff, half": (saved("TIFF")[:500], "can't read|is not an image"),
    "16 bits of which 12 are used": (
        saved("PNG", "I;16", WIDE >> 5),
        "has 16 bits, but",
    ),
    "jpeg 2000 of 12 bits in 16": (
        saved("JPEG2000", "I;16", WIDE >> 5),
        "has 16 bits, but",
    ),
    "png of 12 bits in 16, with alpha": (
        png(16, 6, wide(PHOTO // 17, alpha=True)),
        "has 16 bits, but",
    ),
    "png, bad checksum": (
        saved("PNG")[:-20] + b"\0\1\2\3" + saved("PNG")[-16:],
        "can't read x: broken|can't read .*: broken",
    ),
    "heic": (b"\0\0\0\x18ftypheic" + bytes(400), "is HEIC, .* save it as JPEG"),
    "dicom": (bytes(128) + b"DICM" + bytes(200), "is DICOM, .* save it as PNG"),
    "postscript": (b"%!PS-Adobe-3.0 EPSF-3.0\n", "is PostScript, a drawing"),
    "a pointer": (b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
    "a page": (b"\n<!DOCTYPE html><html>404</html>", "is a page of HTML, as a failed"),
    "svg": (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "is not an image file"),
    "pdf": (b"%PDF-1.4\n" + bytes(99), "is not an image file"),
    "zeros": (bytes(3000), "is not an image file"),
    "pfm": (b"Pf\n26 30\n-1.0\n" + PHOTO.astype("<f4").tobytes(), "of 32 bits"),
    "tiff of floats": (
        saved("TIFF", "F", PHOTO[..., 0].astype(np.float32)),
        "pixels of 32 bits, whose range",
    ),
    "tiff of 32 bits": (
        saved("TIFF", "I", PHOTO[..., 0].astype(np.int32)),
        "pixels of 32 bits, whose range",
    ),
    "too large": (
        struct.pack("<2sIHHI", b"BM", 2**31 - 1, 0, 0, 54)
        + struct.pack("<IiiHHIIiiII", 40, 9000, 9000, 1, 24, 0, 0, 0, 0, 0, 0),
        "has 81000000 pixels; at most 33554432",
    ),
}


@pytest.fixture(scope="module")
def served():
    """What a server's graph sees of the bytes that the client sends."""
    decode = tf.function(lambda content: pixels.decode(content, SHAPE))
    return lambda content: decode(tf.constant([content]))[0].numpy()


@pytest.mark.parametrize("name", ALIKE)
def test_kinds_that_all_read_alike(tmp_path, served, name):
    content = ALIKE[name]
    (tmp_path / "image").write_bytes(content)
    seen = read_image(content, SHAPE, CENTRAL)
    # As training does, from a path; no file's name says what it is.
    np.testing.assert_array_equal(read_image(tmp_path / "image", SHAPE, CENTRAL), seen)
    header = examine(content, name)
    assert header.size == open_image(content, 3).load(1).shape[:2]
    sent = client._checked(content, name)
    assert np.abs(served(sent).astype(int) - seen).max() <= 2


@pytest.mark.parametrize("name", REFUSED)
def test_kinds_that_all_refuse_in_the_same_words(tmp_path, name):
    content, message = REFUSED[name]
    (tmp_path / "image").write_bytes(content)
    for error, read in (
        (DataError, lambda: examine(content, "x")),
        (DataError, lambda: open_image(content, 3, "x").load(1)),
        (ServingError, lambda: client._checked(content, "x")),
        (DataError, lambda: read_image(tmp_path / "image", SHAPE, CENTRAL)),
    ):
        with pytest.raises(error, match=message) as caught:
            read()
        told = str(caught.value).replace(str(tmp_path / "image"), "x")
        assert told == str(caught.value) or told.startswith("image: ")
        assert "\n" not in told


@pytest.mark.parametrize("form", ["JPEG", "PNG", "TIFF", "WEBP"])
def test_a_turned_photo_is_upright(tmp_path, form):
    """From a path and from bytes: an uncompressed TIFF is mapped into memory."""
    options = {"lossless": True} if form == "WEBP" else {}
    content = turned(form, 6, **options)
    (tmp_path / "image").write_bytes(content)
    for source in (content, tmp_path / "image"):
        image = open_image(source, 3).load(1).astype(int)
        assert image.shape == (26, 30, 3)
        assert np.abs(image - PHOTO[::-1].swapaxes(0, 1)).mean() < 8


def test_there_are_sixty_kinds():
    assert len(ALIKE) + len(REFUSED) >= 60
