"""The lesion study (Veit 2016, 1605.06431): a network without one of its units."""

from __future__ import annotations

from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from keras_resnet.analysis.responses import EMPTY, parts_of, shortcuts_of
from keras_resnet.errors import UserError
from keras_resnet.graphs import flat, rebuild
from keras_resnet.heads import head_of
from keras_resnet.layers import MergeGate


class Lesion(NamedTuple):
    """The error without a unit's residual branch; `unit` is None for the whole."""

    unit: str | None
    error: float


def lesions(model: keras.Model, data: Any, task: str | None = None) -> list[Lesion]:
    """The lesion study: the error with one residual branch removed at a time.

    Where a unit is removed, its shortcut passes alone, as it is added up; an exclusive
    gate's passes whole (a highway unit's T = 0).

    Args:
        model: a network with shortcuts.
        data: batches of (images, labels).
        task: what the model does, where its loss doesn't say.

    Returns:
        The whole network first, then without each unit in network order. The error is
        the share of images that are wrong; of labels 1 - F1, the mean over the images;
        of values their mean distance over the standard deviation.

    Raises:
        UserError: a plain network, no labels, or no images.
    """
    head = head_of(model, task)
    model = flat(model)
    names = {merge.name for merge in shortcuts_of(model)}
    switches: dict[str, Any] = {}

    def call(layer: Any, new: Any, *inputs: Any, **options: Any) -> Any:
        merged = new(*inputs, **options)
        if layer.name not in names:
            return merged
        switches[layer.name] = _Switch(new, name=f"{layer.name}_switch")
        return switches[layer.name]([*inputs[0], merged])

    clone = rebuild(model, call=call)
    batches = []
    for batch in data:
        if not (isinstance(batch, tuple) and len(batch) == 2):
            raise UserError("data: not batches of (images, labels)")
        batches.append(batch)
    if not batches:
        raise UserError(EMPTY)
    predict = tf.function(lambda images: head.answers(clone(images, training=False)))
    deviations = np.concatenate([labels for _, labels in batches]).std(axis=0)
    scale = np.where(deviations > 0, deviations, 1.0)

    def error() -> float:
        errors = [
            head.errors(predict(pixels).numpy(), np.asarray(labels), scale)
            for pixels, labels in batches
        ]
        return float(np.concatenate(errors).mean())

    rows = [Lesion(None, error())]
    for name in switches:
        switches[name].on.assign(False)
        rows.append(Lesion(name, error()))
        switches[name].on.assign(True)
    return rows


class _Switch(keras.layers.Layer):
    """[shortcut, residual, merged] -> merged, or the shortcut if switched off."""

    def __init__(self, merge: Any, **options: Any) -> None:
        super().__init__(**options)
        self.merge = merge

    def build(self, _: Any) -> None:
        self.on = self.add_weight(
            shape=(), dtype="bool", initializer="ones", trainable=False, name="on"
        )

    def call(self, inputs: Any) -> Any:
        shortcut, residual, merged = inputs
        if not (isinstance(self.merge, MergeGate) and self.merge.exclusive):
            shortcut, _ = parts_of(self.merge, shortcut, residual)
        return tf.where(self.on, merged, shortcut)

    def compute_output_shape(self, input_shape: Any) -> Any:
        return input_shape[2]
