"""Changes of built models."""

from __future__ import annotations

from typing import Any

import keras

from keras_resnet.layers import BatchNormalization, Conv2D

_STOCK = {
    Conv2D: keras.layers.Conv2D,
    BatchNormalization: keras.layers.BatchNormalization,
}


def to_stock(model: keras.Model) -> keras.Model:
    """The same model in stock Keras layers: loads without this package.

    Names, weights and outputs are equal.
    """

    def clone(layer: Any) -> Any:
        kind = _STOCK.get(type(layer), type(layer))
        return kind.from_config(layer.get_config())

    stock = keras.models.clone_model(model, clone_function=clone)
    for layer in model.layers:
        stock.get_layer(layer.name).set_weights(layer.get_weights())
    return stock
