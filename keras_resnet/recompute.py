"""Training that keeps only what goes into each unit, and computes the rest again.

Time for memory: a third more computation for the activations of all units but one
(Chen 2016, 1604.06174, with a segment for each unit).
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterable
from typing import Any

import keras
import tensorflow as tf

from keras_resnet.plan import unit_of


@keras.saving.register_keras_serializable("keras_resnet")
class Recomputing(keras.Model):
    """A functional model whose units' activations are recomputed in training.

    `build(..., recompute=True)` makes it. Layers, weights, files, outputs and gradients
    are those of the plain model. Statistics of batch norms move once, and what is
    random is drawn once.
    """

    # Keras saves and loads as functional what has these very arguments.
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # A function, not a list: Keras would take its parts for layers of this model.
        self.__dict__["_run"] = functools.partial(_run, list(_parts(self)))

    def call(self, inputs: Any, training: bool | None = None, mask: Any = None) -> Any:
        """As the plain model."""
        if not training:
            return super().call(inputs, training=training, mask=mask)
        return self._run(inputs)


def _run(parts: Iterable[tuple[bool, keras.Model]], x: Any) -> Any:
    for is_unit, part in parts:
        x = _recomputed(part, x) if is_unit else part(x, training=True)
    return x


def _parts(model: keras.Model) -> Iterable[tuple[bool, keras.Model]]:
    """Stem, units and head as models that share the layers, and which are units.

    A unit's layers have its name before theirs; the last of them puts out its result.
    """

    tensor = model.inputs[0]
    units = itertools.groupby(model.layers, lambda layer: unit_of(layer.name))
    for unit, members in units:
        *_, last = members
        if last.output is not tensor:
            yield bool(unit), keras.Model(tensor, last.output)
        tensor = last.output


def _recomputed(unit: keras.Model, x: Any) -> Any:
    """unit(x), of which only x is kept for the gradient."""
    weights = {id(weight) for weight in unit.weights}
    seeds = [v for v in unit.non_trainable_variables if id(v) not in weights]
    drawn_from = [(seed, tf.identity(seed.value)) for seed in seeds]

    @tf.custom_gradient
    def run(x: Any) -> Any:
        def gradient(above: Any, variables: Any = ()) -> Any:
            # Not before it is needed, and not merged with the first computation.
            with tf.control_dependencies([above]):
                again = tf.identity(x)
            # The scope takes the updates of variables, and gives the old seeds.
            with keras.StatelessScope(drawn_from), tf.GradientTape() as tape:
                tape.watch(again)
                y = unit(again, training=True)
            to_x, *to_variables = tape.gradient(y, [again, *variables], above)
            return to_x, to_variables

        return unit(x, training=True), gradient

    return run(x)
