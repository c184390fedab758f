"""The layers that stock Keras lacks or runs slowly, under stock names and weights.

`.weights.h5` files key a layer by its class name, so the subclasses keep it: files
written by stock Keras load into them and back.
"""

from __future__ import annotations

import functools
import sys
from typing import Any

import keras
import tensorflow as tf

# Keras walks a functional model recursively when it builds, clones or loads one, some
# frames a unit: Python's default of 1,000 stops at 1202 layers. Raised here, where all
# use of our models passes; frames of Python functions take no C stack.
sys.setrecursionlimit(max(sys.getrecursionlimit(), 50_000))

register = keras.saving.register_keras_serializable("keras_resnet")


@functools.cache
def grouped_gradient_is_native() -> bool:
    """Whether this device can train a grouped convolution as one kernel.

    A GPU can; a CPU can with oneDNN. Found by trying, once.
    """
    # Not by a tape: they don't record inside `init_scope`, which this needs to run at
    # once when it is called while a function is traced.
    with tf.init_scope():
        try:
            tf.raw_ops.Conv2DBackpropInput(
                input_sizes=(1, 1, 1, 2),
                filter=tf.ones((1, 1, 1, 2)),
                out_backprop=tf.ones((1, 1, 1, 2)),
                strides=(1, 1, 1, 1),
                padding="VALID",
            )
        except (tf.errors.InvalidArgumentError, tf.errors.UnimplementedError):
            return False
    return True


@register
class Conv2D(keras.layers.Conv2D):
    """`keras.layers.Conv2D` whose grouped form trains at a bearable speed on CPU.

    Keras compiles every grouped convolution with XLA, whose backward pass on CPU is a
    hundred times slower than the native kernel, and whose must-compile functions end
    up in the SavedModel. Here it is the native kernel, or a split into dense
    convolutions where that has no gradient. The choice is made when a function is
    traced and never stored. Weights, names and config are Keras' own.
    """

    def convolution_op(self, inputs: Any, kernel: Any) -> Any:
        """The convolution, without bias and activation."""
        if self.groups == 1 or self.data_format != "channels_last":
            return super().convolution_op(inputs, kernel)
        convolve = functools.partial(
            tf.nn.conv2d,
            strides=self.strides,
            padding=self.padding.upper(),
            dilations=self.dilation_rate,
        )
        kernel = tf.convert_to_tensor(kernel)
        if grouped_gradient_is_native():
            return convolve(inputs, kernel)
        pairs = zip(
            tf.split(inputs, self.groups, axis=-1),
            tf.split(kernel, self.groups, axis=-1),
            strict=True,
        )
        return tf.concat([convolve(x, k) for x, k in pairs], axis=-1)


@register
class BatchNormalization(keras.layers.BatchNormalization):
    """`keras.layers.BatchNormalization` under our registered name.

    Models are saved with it, so that a faster implementation loads the same files.
    """
