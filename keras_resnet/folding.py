"""A trained model in the form in which inference is cheapest."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from keras_resnet import layers
from keras_resnet.graphs import copy_of, is_graph, rebuild, walkable


def fold_batch_norm(model: keras.Model) -> keras.Model:
    """The same model for inference alone, with batch norms inside their convolutions.

    A convolution or dense layer whose output goes into one batch norm and nowhere else
    becomes one with a bias; `Identity` stands where the batch norm stood. What is left
    are batch norms after a sum (pre-activation) or behind an activation. Dropout and
    stochastic depth take their inference form. Layer names stay; outputs differ by
    rounding. Models in the model are folded too. The given model is left as it is.

    Raises:
        GraphError: the model was not made of layers by Keras' functional API.
    """
    norms = _foldable(model)
    folded = set(norms.values())

    def make(layer: Any) -> Any:
        if is_graph(layer):
            return fold_batch_norm(layer)
        if layer in folded:
            return _identity(layer)
        kind = next((kind for kind in _INFERENCE if isinstance(layer, kind)), None)
        if kind:
            return _INFERENCE[kind](layer)
        changes = {"use_bias": True} if layer in norms else {}
        if type(layer) is keras.layers.Conv2D:
            # Keras' own grouped convolution would be compiled by XLA.
            return layers.Conv2D.from_config(layer.get_config() | changes)
        return copy_of(layer, **changes)

    def call(old: Any, new: Any, *inputs: Any, **options: Any) -> Any:
        # A batch norm's were noted with its call: whether it trains, its mask.
        return new(*inputs, **({} if type(new) in _PLAIN else options))

    def weights(layer: Any) -> Any:
        if layer in norms:
            return _folded_weights(layer, norms[layer])
        return None if is_graph(layer) else layer.get_weights()

    return rebuild(model, make, call=call, weights=weights)


def _foldable(model: keras.Model) -> dict[Any, Any]:
    """Layers with a kernel, each with the batch norm that it can take in."""
    # The model's own nodes: its layers may have been called elsewhere too.
    levels = walkable(model)._nodes_by_depth.values()
    nodes = [node for level in levels for node in level]
    calls = Counter(node.operation for node in nodes)
    consumers: dict[int, list[Any]] = defaultdict(list)
    for node in nodes:
        for tensor in node.input_tensors:
            consumers[id(tensor)].append(node.operation)
    for tensor in model.outputs:
        consumers[id(tensor)].append(None)
    found = {}
    for node in nodes:
        layer = node.operation
        following = [each for out in node.outputs for each in consumers[id(out)]]
        if not _takes_bias(layer) or len(following) != 1:
            continue
        [norm] = following
        if (
            type(norm) in (keras.layers.BatchNormalization, layers.BatchNormalization)
            and not norm.renorm  # which has statistics of its own
            and calls[layer] == calls[norm] == 1
            and norm.axis in (-1, len(layer.output.shape) - 1)
        ):
            found[layer] = norm
    return found


def _takes_bias(layer: Any) -> bool:
    """Whether a factor and an offset of its output can go into its weights."""
    return (
        type(layer) in (keras.layers.Conv2D, layers.Conv2D, keras.layers.Dense)
        and layer.activation is keras.activations.linear
        and not layer.lora_enabled
        and getattr(layer, "quantization_mode", None) is None
        and getattr(layer, "data_format", "channels_last") == "channels_last"
    )


def _folded_weights(layer: Any, norm: Any) -> list[np.ndarray]:
    """Kernel and bias of norm(layer(x)), reckoned in float64."""
    kernel, *bias = (weight.astype("float64") for weight in layer.get_weights())
    mean, variance = (
        np.asarray(statistic, "float64")
        for statistic in (norm.moving_mean, norm.moving_variance)
    )
    factor = 1 / np.sqrt(variance + norm.epsilon)
    if norm.scale:
        factor = factor * np.asarray(norm.gamma, "float64")
    offset = ((bias[0] if bias else 0) - mean) * factor
    if norm.center:
        offset = offset + np.asarray(norm.beta, "float64")
    return [kernel * factor, offset]


def _identity(layer: Any) -> keras.layers.Layer:
    return keras.layers.Identity(name=layer.name, dtype=layer.dtype_policy.name)


def _sum(layer: Any) -> keras.layers.Layer:
    shortcut, residual = layer.inference_scales
    options = {"name": layer.name, "dtype": layer.dtype_policy.name}
    if (shortcut, residual) == (1.0, 1.0):
        return keras.layers.Add(**options)
    return layers.MergeAdd(shortcut, residual, **options)


_PLAIN = (keras.layers.Identity, keras.layers.Add, layers.MergeAdd)

# What only training needs, as it is in inference.
_INFERENCE: dict[type, Callable[[Any], keras.layers.Layer]] = {
    keras.layers.Dropout: _identity,
    layers.Skip: _identity,
    layers.MergeAdd: _sum,
    layers.MergeDropout: _sum,
}
