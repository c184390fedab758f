"""Encoded images -> pixels, in the graph, as evaluation sees them.

`data.image_files.read_image` is what this repeats. What a graph can't do: turn an image
as its camera says, and read a BMP of 8 bits as other than gray.
"""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from keras_resnet.data.image_files import CENTRAL, MAX_GIF, MAX_PIXELS

Shape = tuple[int, int, int]

_HEADER = 32  # bytes, in which kind and size are
_MAGIC = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF8", b"BM")
_JPEG, _PNG, _GIF, _BMP = range(4)
_AT_ONCE = 4  # images that are decoded at one time
# Pillow's weights of red, green and blue in a gray of 16 more bits.
_GRAY = (19595, 38470, 7471)


def decode(encoded: Any, shape: Shape) -> Any:
    """The middle of each image, resized, as uint8 (batch, height, width, channels).

    The graph fails with the index of an image that is none by its first bytes, or of
    more than `MAX_PIXELS`; what is broken behind them fails in the words of its codec.

    Args:
        encoded: (batch,) strings, JPEG, PNG, GIF (its first frame) or BMP.
        shape: (height, width, 1 or 3).
    """
    header = tf.cast(
        tf.io.decode_raw(encoded, tf.uint8, fixed_length=_HEADER), tf.int64
    )
    fits = [
        tf.reduce_all(header[:, : len(magic)] == list(magic), axis=1)
        for magic in _MAGIC
    ]
    unknown = tf.where(~tf.reduce_any(fits, axis=0))[:, 0]
    known = tf.debugging.Assert(
        tf.size(unknown) == 0,
        ["image_bytes: not a JPEG, PNG, GIF or BMP at index", unknown],
        summarize=16,
    )
    with tf.control_dependencies([known]):
        kinds = tf.argmax(fits, axis=0, output_type=tf.int32)
    sizes = tf.stack(
        [
            tf.zeros_like(header[:, :2]),  # a JPEG's is found in its body
            _numbers(header, (20, 16), (3, 2, 1, 0)),
            _numbers(header, (8, 6), (0, 1)),
            tf.abs(_signed(_numbers(header, (22, 18), (0, 1, 2, 3)))),
        ]
    )

    # What TensorFlow takes for the alpha of a PNG without one: all of its bits.
    opaque = 2 ** tf.minimum(header[:, 24], 8) - 1

    def one(elements: Any) -> Any:
        index, kind, image = elements
        pixels = _pixels(index, kind, image, sizes[:, index], opaque[index])
        return fit(pixels, shape)

    indices = tf.range(tf.size(encoded))
    return tf.map_fn(
        one,
        (indices, kinds, encoded),
        fn_output_signature=tf.TensorSpec(shape, tf.uint8),
        parallel_iterations=_AT_ONCE,
    )


def _numbers(header: Any, places: tuple[int, int], order: tuple[int, ...]) -> Any:
    """Two unsigned numbers of each header, the lowest byte first in `order`."""
    return tf.stack(
        [
            tf.add_n([header[:, at + byte] * 256**i for i, byte in enumerate(order)])
            for at in places
        ],
        axis=1,
    )


def _signed(numbers: Any) -> Any:
    return tf.where(numbers < 2**31, numbers, numbers - 2**32)


def _pixels(index: Any, kind: Any, image: Any, sizes: Any, opaque: Any) -> Any:
    """An image as uint8 (height, width, 3), if it is not too large."""
    size = tf.cond(
        kind == _JPEG,
        lambda: tf.image.extract_jpeg_shape(image, output_type=tf.int64)[:2],
        lambda: sizes[kind],
    )
    size.set_shape((2,))
    small = tf.debugging.Assert(
        tf.reduce_all(size > 0)
        & (tf.reduce_max(size) <= MAX_PIXELS)
        & (tf.reduce_prod(size) <= MAX_PIXELS)
        & ((kind != _GIF) | (tf.strings.length(image) <= MAX_GIF)),
        [
            f"image_bytes: not 1 to {MAX_PIXELS} pixels, or a GIF of more than "
            f"{MAX_GIF} bytes, at index",
            index,
            "of height and width",
            size,
        ],
    )
    with tf.control_dependencies([small]):
        image = tf.identity(image)
    pixels = tf.switch_case(
        kind,
        [
            # As libjpeg's users do, Pillow too; TensorFlow's own default is coarser.
            lambda: tf.io.decode_jpeg(image, 3, dct_method="INTEGER_ACCURATE"),
            lambda: _on_white(tf.io.decode_png(image, 4), opaque),
            lambda: tf.io.decode_image(image, 3, expand_animations=False),
            lambda: _three(tf.io.decode_bmp(image)),
        ],
    )
    pixels.set_shape((None, None, 3))
    return pixels


def _on_white(pixels: Any, opaque: Any) -> Any:
    colors, alpha = pixels[..., :3], pixels[..., 3:]

    def blend() -> Any:
        share = tf.cast(alpha, tf.int32)
        sums = tf.cast(colors, tf.int32) * share + 255 * (255 - share)
        return tf.cast((sums + 127) // 255, tf.uint8)

    return tf.cond(
        tf.reduce_all(alpha == tf.cast(opaque, tf.uint8)), lambda: colors, blend
    )


def _three(pixels: Any) -> Any:
    """Three channels of one, three or four."""
    shape = tf.concat([tf.shape(pixels)[:2], [3]], axis=0)
    return tf.cond(
        tf.shape(pixels)[2] == 1,
        lambda: tf.broadcast_to(pixels, shape),
        lambda: pixels[..., :3],
    )


def fit(pixels: Any, shape: Shape) -> Any:
    """The middle of uint8 (rows, columns, 3), resized to `shape` if it isn't so large.

    Pillow's bilinear filter, but for its rounding between rows and columns.
    """
    height, width, channels = shape
    if channels == 1:
        sums = tf.reduce_sum(tf.cast(pixels, tf.int32) * _GRAY, axis=-1, keepdims=True)
        pixels = tf.cast((sums + 2**15) // 2**16, tf.uint8)

    def resize() -> Any:
        size = tf.cast(tf.shape(pixels)[:2], tf.float32)
        share = CENTRAL * tf.reduce_min(size / (height, width))
        start = (size - share * (height, width)) / 2
        scale = tf.fill((2,), 1 / share)
        resized = tf.raw_ops.ScaleAndTranslate(
            images=pixels[tf.newaxis],
            size=(height, width),
            scale=scale,
            translation=-start * scale,
            kernel_type="triangle",
            antialias=True,
        )[0]
        return tf.cast(tf.clip_by_value(tf.floor(resized + 0.5), 0, 255), tf.uint8)

    fits = tf.reduce_all(tf.shape(pixels)[:2] == (height, width))
    return tf.ensure_shape(tf.cond(fits, lambda: pixels, resize), shape)
