"""The layers that stock Keras lacks or runs slowly, under stock names and weights.

`.weights.h5` files key a layer by its class name, so the subclasses keep it: files
written by stock Keras load into them and back.
"""

from __future__ import annotations

import sys
from typing import Any

import keras
import tensorflow as tf

from keras_resnet.convolution import convolve

# Keras walks a functional model recursively when it builds, clones or loads one, some
# frames a unit: Python's default of 1,000 stops at 1202 layers. Raised here, where all
# use of our models passes; frames of Python functions take no C stack.
sys.setrecursionlimit(max(sys.getrecursionlimit(), 50_000))

register = keras.saving.register_keras_serializable("keras_resnet")


@register
class Conv2D(keras.layers.Conv2D):
    """`keras.layers.Conv2D` by the kernels that are fast on this machine.

    Keras compiles every grouped convolution with XLA, whose backward pass on CPU is a
    hundred times slower than the native kernel, and whose must-compile functions end
    up in the SavedModel; here none is compiled. Wide 3x3 convolutions train by
    Winograd's method on CPU. `convolution.path_of` tells the choice, which is made
    when a function is traced and never stored. Weights, names and config are Keras'
    own.
    """

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        """(batch, height, width, channels) -> (batch, rows, columns, filters)."""
        if self.data_format != "channels_last":
            return super().call(inputs)
        outputs = convolve(
            inputs,
            self.kernel,
            strides=self.strides,
            padding=self.padding,
            dilation=self.dilation_rate,
            groups=self.groups,
            training=bool(training),
        )
        if self.use_bias:
            outputs = tf.nn.bias_add(outputs, self.bias)
        return outputs if self.activation is None else self.activation(outputs)


@register
class BatchNormalization(keras.layers.BatchNormalization):
    """`keras.layers.BatchNormalization` as one fused kernel where there is one.

    The moving variance takes the unbiased batch variance, n / (n - 1) of Keras' own, as
    torch's and the papers' frameworks do. A batch of one value a channel has no
    variance: it leaves the moving statistics as they were, which stochastic depth
    relies on (`Skip`). Synchronized, masked, renormalized or in float64, it is Keras'
    own.
    """

    def call(self, inputs: Any, training: bool | None = None, mask: Any = None) -> Any:
        """Normalizes (batch, height, width, channels) or (batch, features)."""
        rank = len(inputs.shape)
        fusible = (
            rank in (2, 4)
            and self.axis in (-1, rank - 1)
            and self.compute_dtype in ("float32", "float16", "bfloat16")
        )
        if not fusible or self.synchronized or self.renorm or mask is not None:
            return super().call(inputs, training=training, mask=mask)
        if rank == 2:
            images = inputs[:, tf.newaxis, tf.newaxis]
            return tf.squeeze(self._fused(images, bool(training)), axis=(1, 2))
        return self._fused(inputs, bool(training))

    def _fused(self, inputs: Any, training: bool) -> Any:
        # `value`, since TensorFlow reads a Keras variable twice to cast it.
        moving = [
            tf.cast(statistic.value, tf.float32)
            for statistic in (self.moving_mean, self.moving_variance)
        ]
        scale = self.gamma.value if self.scale else tf.ones_like(moving[0])
        offset = self.beta.value if self.center else tf.zeros_like(moving[0])
        learning = training and self.trainable
        outputs, *batch = tf.compat.v1.nn.fused_batch_norm(
            inputs,
            tf.cast(scale, tf.float32),
            tf.cast(offset, tf.float32),
            *moving,
            epsilon=self.epsilon,
            is_training=learning,
            exponential_avg_factor=1 - self.momentum if learning else 1.0,
        )
        if learning:
            if None in inputs.shape[1:3] or inputs.shape[1:3] == (1, 1):
                too_few = tf.size(inputs) <= inputs.shape[-1]
                batch = [
                    tf.where(too_few, old, new)
                    for old, new in zip(moving, batch, strict=True)
                ]
            self.moving_mean.assign(batch[0])
            self.moving_variance.assign(batch[1])
        return outputs


@register
class DilatedAverage(keras.layers.Layer):
    """2x2 average of pixels that lie `dilation_rate` apart, at every pixel.

    With rate 1 it is `AveragePooling2D(2, strides=1, padding="same")`. As there, what
    lies outside the image does not count.
    """

    def __init__(self, dilation_rate: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.dilation_rate = dilation_rate

    def call(self, inputs: Any) -> Any:
        """(batch, height, width, channels) -> the same shape."""
        return dilated_average(inputs, self.dilation_rate)

    def compute_output_shape(self, input_shape: Any) -> Any:
        """The input's."""
        return input_shape

    def get_config(self) -> dict[str, Any]:
        """The arguments."""
        return {**super().get_config(), "dilation_rate": self.dilation_rate}


def dilated_average(x: Any, rate: int) -> Any:
    """What `DilatedAverage` computes, by operations of Keras."""
    # The last `rate` rows and columns have no partner: they are their own.
    below = keras.ops.concatenate([x[:, rate:], x[:, -rate:]], axis=1)
    x = (x + below) / 2
    beside = keras.ops.concatenate([x[:, :, rate:], x[:, :, -rate:]], axis=2)
    return (x + beside) / 2


@register
class Skip(keras.layers.Layer):
    """Where a residual branch begins that is skipped with probability 1 - survival.

    In training one draw a batch (and a replica) decides. A branch that is skipped gets
    one pixel of one image, which costs no time and moves no batch norm, and `MergeAdd`
    at its end leaves out what does not have the shortcut's shape. So the layers of the
    branch stay layers of the model, which a condition around them would hide. In
    inference the branch gets everything. Where the whole batch is one value a channel
    (one image of one pixel), nothing can be told apart and nothing is skipped.
    """

    supports_jit = False  # XLA needs to know sizes

    def __init__(self, survival: float, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.survival = survival
        self.seed_generator = keras.random.SeedGenerator()

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        """All of the batch, or next to nothing."""
        if not training:
            return inputs
        kept = keras.random.uniform((), seed=self.seed_generator) < self.survival
        shape = tf.shape(inputs)
        size = tf.where(kept, shape[:-1], tf.ones_like(shape[:-1]))
        return tf.slice(
            inputs, tf.zeros_like(shape), tf.concat([size, shape[-1:]], axis=0)
        )

    def compute_output_spec(self, inputs: Any, training: bool | None = None) -> Any:
        """Open in all but the channels."""
        shape = (*[None] * (len(inputs.shape) - 1), inputs.shape[-1])
        return keras.KerasTensor(shape, dtype=inputs.dtype)

    def get_config(self) -> dict[str, Any]:
        """The arguments."""
        return {**super().get_config(), "survival": self.survival}


@register
class MergeAdd(keras.layers.Layer):
    """shortcut_scale * shortcut + residual_scale * residual, with stochastic depth.

    Args:
        shortcut_scale: factor of the shortcut.
        residual_scale: factor of the residual.
        survival: probability p of the residual.
        mode: "batch" as Huang 2016: a residual that `Skip` cut is left out, and in
            inference the residual counts p times (Equation 5). "sample": each image
            draws on its own, survivors count 1/p times, and inference is the plain
            sum.
    """

    def __init__(
        self,
        shortcut_scale: float = 1.0,
        residual_scale: float = 1.0,
        survival: float = 1.0,
        mode: str = "batch",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.shortcut_scale = shortcut_scale
        self.residual_scale = residual_scale
        self.survival = survival
        self.mode = mode
        self.supports_jit = survival == 1 or mode == "sample"
        if survival < 1 and mode == "sample":
            self.seed_generator = keras.random.SeedGenerator()

    @property
    def inference_scales(self) -> tuple[float, float]:
        """What shortcut and residual are multiplied by in inference."""
        survival = self.survival if self.mode == "batch" else 1.0
        return self.shortcut_scale, self.residual_scale * survival

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        """The merged tensor, from [shortcut, residual]."""
        shortcut, residual = inputs
        factor = self.residual_scale
        if self.shortcut_scale != 1:
            shortcut = shortcut * self.shortcut_scale
        if self.survival == 1 or (self.mode == "sample" and not training):
            pass
        elif not training:
            factor *= self.survival
        elif self.mode == "sample":
            draws = keras.random.uniform(
                (tf.shape(residual)[0], *[1] * (len(residual.shape) - 1)),
                dtype=residual.dtype,
                seed=self.seed_generator,
            )
            residual = residual * tf.cast(draws < self.survival, residual.dtype)
            factor /= self.survival
        else:
            return tf.cond(
                tf.reduce_all(tf.shape(residual) == tf.shape(shortcut)),
                lambda: shortcut + residual * factor,
                lambda: shortcut,
            )
        return shortcut + (residual if factor == 1 else residual * factor)

    def compute_output_shape(self, input_shape: Any) -> Any:
        """The shortcut's."""
        return input_shape[0]

    def get_config(self) -> dict[str, Any]:
        """The arguments."""
        names = ("shortcut_scale", "residual_scale", "survival", "mode")
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}


@register
class MergeGate(keras.layers.Layer):
    """(1 - g) * shortcut + g * residual, g a 1x1 convolution of the shortcut.

    The gate is elementwise: g = sigmoid(W x + b) with as many channels as x. It is the
    highway unit (Srivastava 2015, Equation 3) with its transform gate on the residual,
    and "exclusive gating" of He 2016, section 3.1.

    Args:
        exclusive: False for "shortcut-only gating": (1 - g) * shortcut + residual.
        gate_bias: initial b; negative opens the shortcut.
    """

    def __init__(
        self, exclusive: bool = True, gate_bias: float = -1.0, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.exclusive = exclusive
        self.gate_bias = gate_bias

    def build(self, input_shape: Any) -> None:
        """Makes the gate's kernel and bias."""
        channels = input_shape[0][-1]
        self.kernel = self.add_weight(
            name="kernel", shape=(channels, channels), initializer="glorot_uniform"
        )
        self.bias = self.add_weight(
            name="bias",
            shape=(channels,),
            initializer=keras.initializers.Constant(self.gate_bias),
        )

    def gate(self, shortcut: Any) -> Any:
        """g, of the shortcut's shape, between 0 and 1."""
        return keras.ops.sigmoid(keras.ops.matmul(shortcut, self.kernel) + self.bias)

    def call(self, inputs: Any) -> Any:
        """The merged tensor, from [shortcut, residual]."""
        shortcut, residual = inputs
        gate = self.gate(shortcut)
        return (1 - gate) * shortcut + (gate * residual if self.exclusive else residual)

    def compute_output_shape(self, input_shape: Any) -> Any:
        """The shortcut's."""
        return input_shape[0]

    def get_config(self) -> dict[str, Any]:
        """The arguments."""
        own = {"exclusive": self.exclusive, "gate_bias": self.gate_bias}
        return {**super().get_config(), **own}


@register
class MergeDropout(keras.layers.Layer):
    """dropout(shortcut) + residual (He 2016, section 3.1).

    Args:
        rate: share of the shortcut that is dropped in training.
        inverted: False as the paper: what is kept stays as it is, and inference scales
            the shortcut by 1 - rate. True as Keras: what is kept is scaled by
            1 / (1 - rate), and inference is the plain sum.
    """

    def __init__(self, rate: float, inverted: bool = False, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.rate = rate
        self.inverted = inverted
        self.seed_generator = keras.random.SeedGenerator()

    @property
    def inference_scales(self) -> tuple[float, float]:
        """What shortcut and residual are multiplied by in inference."""
        return 1.0 if self.inverted else 1 - self.rate, 1.0

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        """The merged tensor, from [shortcut, residual]."""
        shortcut, residual = inputs
        if training:
            shortcut = keras.random.dropout(
                shortcut, self.rate, seed=self.seed_generator
            )
        if not self.inverted:
            # Keras' dropout has divided by 1 - rate.
            shortcut = shortcut * (1 - self.rate)
        return shortcut + residual

    def compute_output_shape(self, input_shape: Any) -> Any:
        """The shortcut's."""
        return input_shape[0]

    def get_config(self) -> dict[str, Any]:
        """The arguments."""
        own = {"rate": self.rate, "inverted": self.inverted}
        return {**super().get_config(), **own}
