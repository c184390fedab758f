"""Images under affine maps."""

from __future__ import annotations

from typing import Any

import tensorflow as tf


def resample(images: Any, maps: Any, outside: str = "CONSTANT") -> Any:
    """Each image under a map of its own, bilinearly.

    Args:
        images: float32 (batch, height, width, channels).
        maps: (batch, 8): a0, a1, a2, b0, b1, b2, 0, 0 take the output's pixel (x, y)
            to the input's (a0 x + a1 y + a2, b0 x + b1 y + b2).
        outside: what is beyond the edge: "CONSTANT" is zero, "NEAREST" the edge.
    """
    return tf.raw_ops.ImageProjectiveTransformV3(
        images=images,
        transforms=maps,
        output_shape=tf.shape(images)[1:3],
        interpolation="BILINEAR",
        fill_mode=outside,
        fill_value=0.0,
    )
