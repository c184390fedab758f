"""Images decoded in the graph, as `data.image_files.read_image` has them."""

from __future__ import annotations

import io

import numpy as np
import pytest
import tensorflow as tf
from images import noise
from PIL import Image

from keras_resnet.data.image_files import CENTRAL, MAX_GIF, read_image
from keras_resnet.serving import pixels


def encoded(image, form, **options):
    file = io.BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


def photo(width, height, mode="RGB"):
    """Smooth and sharp parts, in any of Pillow's modes."""
    coarse = Image.fromarray(noise(1, (5, 7, 4), seed=width)[0], "RGBA")
    image = coarse.resize((width, height), Image.Resampling.BICUBIC)
    image.paste(Image.fromarray(noise(1, (9, 9, 4))[0], "RGBA"), (3, 2))
    return image.convert(mode)


# What is decoded, by a name; PNG where only the mode tells.
FILES = {
    "jpeg": encoded(photo(61, 40), "JPEG"),
    "progressive": encoded(photo(40, 61), "JPEG", progressive=True, quality=50),
    "gray_jpeg": encoded(photo(61, 40, "L"), "JPEG"),
    "png": encoded(photo(33, 90), "PNG"),
    "gray": encoded(photo(90, 33, "L"), "PNG"),
    "gray_alpha": encoded(photo(50, 50, "LA"), "PNG"),
    "alpha": encoded(photo(50, 61, "RGBA"), "PNG"),
    "palette": encoded(photo(50, 61, "P"), "PNG"),
    "bits": encoded(photo(50, 61, "1"), "PNG"),
    "four_bits": encoded(photo(50, 61, "P").quantize(16), "PNG", bits=4),
    "gif": encoded(photo(50, 61), "GIF"),
    "bmp": encoded(photo(31, 29), "BMP"),
    "gray_bmp": encoded(photo(31, 29, "L"), "BMP"),
    "small": encoded(photo(13, 12), "PNG"),
    "as_large": encoded(photo(24, 20), "PNG"),
}


@pytest.fixture(scope="module")
def decode():
    """uint8 images of encoded ones, in a graph: by number of channels."""
    spec = tf.TensorSpec((None,), tf.string)
    return {
        channels: tf.function(
            lambda images, channels=channels: pixels.decode(images, (20, 24, channels)),
            input_signature=[spec],
            autograph=False,
        )
        for channels in (1, 3)
    }


@pytest.mark.parametrize("channels", [1, 3])
def test_pixels_are_evaluations(decode, channels):
    got = decode[channels](list(FILES.values())).numpy()
    assert got.dtype == np.uint8
    for name, content, image in zip(FILES, FILES.values(), got, strict=True):
        expected = read_image(content, (20, 24, channels), CENTRAL)
        apart = np.abs(image.astype(int) - expected)
        assert apart.max() <= (0 if name == "as_large" else 1), name
        assert (apart > 0).mean() < 0.25, name


def test_an_empty_batch(decode):
    assert decode[3](tf.zeros((0,), tf.string)).shape == (0, 20, 24, 3)


def test_what_is_no_image_is_named(decode):
    images = [FILES["png"], b"", FILES["gif"], b"text", FILES["png"][1:]]
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"at index\] \[1 3 4\]"):
        decode[3](images)


def test_what_is_too_large_is_named(decode):
    bomb = bytearray(FILES["png"])
    bomb[16:24] = (2**16).to_bytes(4, "big") * 2
    gif = FILES["gif"] + bytes(MAX_GIF)
    for wrong in (bytes(bomb), gif, FILES["png"][:16] + bytes(8)):
        with pytest.raises(tf.errors.InvalidArgumentError, match=r"at index\] \[1\]"):
            decode[3]([FILES["png"], wrong])


@pytest.mark.parametrize("name", ["jpeg", "png", "bmp"])
def test_what_is_cut_off_fails(decode, name):
    with pytest.raises(tf.errors.InvalidArgumentError):
        decode[3]([FILES[name][:-40]])
