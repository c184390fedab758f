"""Counts of a built Keras model, from its layers alone."""

from __future__ import annotations

from math import prod

import keras

from keras_resnet.layers import MergeGate, Skip
from keras_resnet.surgery import to_stock


def trainable_params(model: keras.Model) -> int:
    return sum(prod(weight.shape) for weight in model.trainable_weights)


def macs(model: keras.Model) -> int:
    """Multiply-adds of convolutions and dense layers for one image."""
    if any(isinstance(layer, Skip) for layer in model.layers):
        model = to_stock(model)  # behind a Skip, the size of images is open
    total = 0
    for layer in model.layers:
        if isinstance(layer, keras.layers.Conv2D):
            height, width = layer.output.shape[1:3]
            total += height * width * prod(layer.kernel.shape)
        elif isinstance(layer, MergeGate):  # a 1x1 convolution at the output's size
            total += prod(layer.output.shape[1:-1]) * prod(layer.kernel.shape)
        elif isinstance(layer, keras.layers.Dense):
            total += prod(layer.kernel.shape)
    return total
