"""Plan -> tensors: one layer, one unit, in the order in which the plan lists them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import keras

from keras_resnet import plan
from keras_resnet.layers import (
    BatchNormalization,
    Conv2D,
    DilatedAverage,
    MergeAdd,
    MergeDropout,
    MergeGate,
    Skip,
)
from keras_resnet.spec import ResNetSpec

INITIALIZERS = {
    # He 2015 (1502.01852): by the inputs, or by the outputs as fb.resnet.torch does,
    # with all channels of a grouped convolution counted.
    "he_fan_in": ("fan_in", 2.0, "untruncated_normal"),
    "he_fan_out": ("fan_out", 2.0, "untruncated_normal"),
    "glorot": ("fan_avg", 1.0, "uniform"),
}


def chain(ops: Iterable[plan.Op], x: Any, spec: ResNetSpec) -> Any:
    """Applies layers one after the other."""
    for op in ops:
        x = layer(op, spec)(x)
    return x


def unit(x: Any, unit: plan.Unit, spec: ResNetSpec) -> Any:
    """One residual or plain unit.

    The shortcut is made before the residual, and `Add` takes them in this order: with
    it Keras lists weights as keras.applications does, which loading by order needs.
    """
    x = chain(unit.shared, x, spec)
    if unit.merge is None:
        x = chain(unit.residual, x, spec)
    else:
        shortcut = chain(unit.shortcut, x, spec)
        residual = chain(unit.residual, x, spec)
        x = layer(unit.merge, spec)([shortcut, residual])
    return chain(unit.after, x, spec)


def layer(op: plan.Op, spec: ResNetSpec) -> keras.layers.Layer:
    """The Keras layer of one of the plan's layers."""
    match op:
        case plan.Pad():
            return keras.layers.ZeroPadding2D(op.amount, name=op.name)
        case plan.Conv():
            return Conv2D(
                plan.channels_of(op.shape),
                op.kernel,
                strides=op.stride,
                padding=op.padding,
                dilation_rate=op.dilation,
                groups=op.groups,
                use_bias=op.bias,
                kernel_initializer=_initializer(spec),
                name=op.name,
            )
        case plan.Dense():
            return keras.layers.Dense(
                plan.channels_of(op.shape),
                use_bias=op.bias,
                kernel_initializer=_initializer(spec),
                name=op.name,
            )
        case plan.Norm():
            return BatchNormalization(
                momentum=spec.bn_momentum,
                epsilon=spec.bn_epsilon,
                gamma_initializer="zeros" if op.zero_gamma else "ones",
                name=op.name,
            )
        case plan.Relu():
            return keras.layers.ReLU(name=op.name)
        case plan.Pool(kind="global"):
            return keras.layers.GlobalAveragePooling2D(name=op.name)
        case plan.Pool() if op.dilation > 1:
            return DilatedAverage(op.dilation, name=op.name)
        case plan.Pool():
            pooling = (
                keras.layers.MaxPooling2D
                if op.kind == "max"
                else keras.layers.AveragePooling2D
            )
            return pooling(op.size, strides=op.stride, padding=op.padding, name=op.name)
        case plan.PadChannels():
            if len(op.shape) == 1:
                return keras.Sequential(
                    [
                        keras.layers.Reshape((-1, 1)),
                        keras.layers.ZeroPadding1D((0, op.extra)),
                        keras.layers.Flatten(),
                    ],
                    name=op.name,
                )
            # Zeros for the last two of four axes: read channels-first, these are
            # "rows and columns"; here they are columns and channels.
            return keras.layers.ZeroPadding2D(
                ((0, 0), (0, op.extra)), data_format="channels_first", name=op.name
            )
        case plan.Dropout():
            return keras.layers.Dropout(op.rate, name=op.name)
        case plan.Skip():
            return Skip(op.survival, name=op.name)
        case plan.Merge():
            return _merge(op, spec)
    raise TypeError(f"no layer for {op!r}")


def classifier(op: plan.Op, activation: Any) -> keras.layers.Layer:
    """The last layer, in float32 under mixed precision too."""
    return keras.layers.Dense(
        plan.channels_of(op.shape), activation, dtype="float32", name=op.name
    )


def _merge(op: plan.Merge, spec: ResNetSpec) -> keras.layers.Layer:
    """The layer that stands where `Add` stands in keras.applications.

    Scales, gates and draws live inside it: a layer more in one branch would change the
    order in which Keras lists the weights of both.
    """
    if op.kind in plan.GATES:
        return MergeGate(op.kind == "exclusive_gate", spec.gate_bias, name=op.name)
    if op.kind in ("dropout", "dropout_inverted"):
        inverted = op.kind == "dropout_inverted"
        return MergeDropout(spec.merge_dropout, inverted, name=op.name)
    scales = spec.merge_scales if op.kind == "scale" else (1.0, 1.0)
    if op.survival == 1 and scales == (1.0, 1.0):
        return keras.layers.Add(name=op.name)
    return MergeAdd(scales[0], scales[1], op.survival, spec.survival_mode, name=op.name)


def _initializer(spec: ResNetSpec) -> keras.initializers.Initializer:
    mode, scale, distribution = INITIALIZERS[spec.init]
    return keras.initializers.VarianceScaling(scale, mode, distribution)
