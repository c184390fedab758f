"""What goes on inside a network: responses, gradients, shortcuts, gates.

`data` is an array of images, or batches: of images, or of (images, labels) where labels
are needed, such as `Splits.test`. Models may come from `build` or from a file, and have
others nested in them: what is in these counts as if it stood by itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from math import inf, sqrt
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from keras_resnet.errors import UserError
from keras_resnet.graphs import flat
from keras_resnet.heads import head_of
from keras_resnet.layers import MergeAdd, MergeDropout, MergeGate
from keras_resnet.losses import StandardizedError
from keras_resnet.network import target_stats_of

BATCH = 128  # of an array's images
EMPTY = "data: there are no images in it"


class LayerResponse(NamedTuple):
    """A layer's response (He 2015, Figure 7).

    Attributes:
        layer: the convolution's name.
        std: standard deviation over images, pixels and channels.
        expected: what it is by algebra where a batch norm's statistics are those of
            its input: the variance is mean(gamma^2) + var(beta). None without batch
            norm. Far from `std`, moving statistics are stale (or other data is seen).
    """

    layer: str
    std: float
    expected: float | None


class GradientNorm(NamedTuple):
    """The loss' gradient by a layer's kernel.

    Attributes:
        layer: the layer's name.
        norm: its L2 norm.
        relative: over the kernel's norm; infinite where a kernel of zeros, as
            `surgery.deepen` makes, has a gradient, and 0 where neither is.
    """

    layer: str
    norm: float
    relative: float


class UnitShare(NamedTuple):
    """How much of a unit's sum comes by the shortcut: its share of the two energies.

    Attributes:
        unit: the merge layer's name.
        share: E[s^2] / (E[s^2] + E[f^2]), shortcut s and residual f as they are added;
            0 where both are.
    """

    unit: str
    share: float


class GateOpenness(NamedTuple):
    """A gate g, which lets the residual through.

    Attributes:
        unit: the merge layer's name.
        mean: over images, pixels and channels, 0 to 1.
        std: likewise.
        bias: mean of its bias.
    """

    unit: str
    mean: float
    std: float
    bias: float


def layer_responses(model: keras.Model, data: Any) -> list[LayerResponse]:
    """Figure 7 of He 2015: how far each layer's response is from constant.

    The response of a 3x3 layer (the stem's and all in residual branches; a dense
    network's dense layers) is its output after its own batch norm and before the ReLU
    or the addition. Where no batch norm follows the convolution (pre-activation, the
    last in a unit), it is the convolution's output. In inference mode.

    Returns:
        In network order; sort by `std` for the figure's lower half.

    Raises:
        UserError: no such layers, or no images.
    """
    model = flat(model)
    taps = [(layer, _norm_after(layer, model)) for layer in _wide_layers(model)]
    if not taps:
        raise UserError(f"model: {model.name} has no 3x3 or hidden dense layers")
    outputs = [(norm or layer).output for layer, norm in taps]
    moments = _moments(model, outputs, lambda tensors: tensors, data)
    return [
        LayerResponse(layer.name, _std(row), _expected(norm))
        for (layer, norm), row in zip(taps, moments, strict=True)
    ]


def _wide_layers(model: keras.Model) -> list[Any]:
    """3x3 convolutions, and dense layers but for the classifier; no projections."""
    return [
        layer
        for layer in model.layers
        if (isinstance(layer, keras.layers.Conv2D) and max(layer.kernel_size) > 1)
        or (isinstance(layer, keras.layers.Dense) and layer is not model.layers[-1])
    ]


def _norm_after(layer: Any, model: keras.Model) -> Any:
    """The batch norm that takes a layer's output, or None."""
    after = [
        node.operation
        for node in layer._outbound_nodes
        if node.operation in model.layers
    ]
    norms = [k for k in after if isinstance(k, keras.layers.BatchNormalization)]
    return norms[0] if norms and len(after) == 1 else None


def _expected(norm: Any) -> float | None:
    if norm is None:
        return None
    ones, zeros = np.ones(norm.moving_mean.shape), np.zeros(norm.moving_mean.shape)
    gamma = np.asarray(norm.gamma) if norm.scale else ones
    beta = np.asarray(norm.beta) if norm.center else zeros
    return sqrt(float(np.mean(gamma**2) + np.var(beta)))


def gradient_norms(
    model: keras.Model, images: Any, labels: Any, task: str | None = None
) -> list[GradientNorm]:
    """How large gradients are by depth: vanishing or exploding, or neither.

    Of the cross-entropy of one batch, or of Huber's loss of standardized values, in
    training mode. The model stays as it was: for
    a curve over training, call it in a callback's `on_epoch_end`.

    Args:
        model: a classifier; freshly built, it shows gradients at initialization.
        images: a batch.
        labels: class numbers, or labels or values (batch, units).
        task: what the model does, where its loss doesn't say.

    Returns:
        For each convolution and dense layer, in network order.
    """
    head = head_of(model, task)
    if head.task is None:
        raise UserError(
            f"model: {model.name} ends in one number, a logit or a value; say which "
            "task it is of"
        )
    loss: Any
    if head.task == "regression":
        stats = target_stats_of(model)
        loss = StandardizedError(stats[1] if stats else [1.0] * head.units)
    else:
        loss = (
            keras.losses.SparseCategoricalCrossentropy
            if head.task == "classes"
            else keras.losses.BinaryCrossentropy
        )(from_logits=head.kind == "logits")
    model = flat(model)
    layers = [
        layer
        for layer in model.layers
        if isinstance(layer, keras.layers.Conv2D | keras.layers.Dense)
    ]
    kernels = [layer.kernel.value for layer in layers]
    state = [variable.numpy() for variable in model.non_trainable_variables]

    @tf.function
    def gradients(images: Any, labels: Any) -> Any:
        with tf.GradientTape() as tape:
            value = loss(labels, model(images, training=True))
        return tape.gradient(value, kernels)

    batch = tf.convert_to_tensor(images), tf.convert_to_tensor(labels)
    # Called so, TensorFlow doesn't warn of one trace a model.
    found = gradients.get_concrete_function(*batch)(*batch)
    for variable, value in zip(model.non_trainable_variables, state, strict=True):
        variable.assign(value)  # moving statistics and draws
    rows = []
    for layer, kernel, gradient in zip(layers, kernels, found, strict=True):
        # A branch that stochastic depth skipped has none.
        norm = 0.0 if gradient is None else float(tf.norm(gradient))
        size = float(tf.norm(kernel))
        relative = norm / size if size else inf if norm else 0.0
        rows.append(GradientNorm(layer.name, norm, relative))
    return rows


def shortcut_shares(model: keras.Model, data: Any) -> list[UnitShare]:
    """The share of the signal that each unit's shortcut carries, in inference mode.

    Raises:
        UserError: a plain network, or no images.
    """
    model = flat(model)
    merges = shortcuts_of(model)
    inputs = [tensor for merge in merges for tensor in merge.input]

    def added(tensors: list[Any]) -> list[Any]:
        pairs = zip(tensors[::2], tensors[1::2], strict=True)
        return [
            part
            for merge, (shortcut, residual) in zip(merges, pairs, strict=True)
            for part in parts_of(merge, shortcut, residual)
        ]

    energies = [row[1] for row in _moments(model, inputs, added, data)]
    pairs = zip(energies[::2], energies[1::2], strict=True)
    return [
        UnitShare(merge.name, shortcut / ((shortcut + residual) or 1.0))
        for merge, (shortcut, residual) in zip(merges, pairs, strict=True)
    ]


def merges_of(model: keras.Model) -> list[Any]:
    """The layers in which shortcut and residual are merged; none in a plain network."""
    kinds = (keras.layers.Add, MergeAdd, MergeGate, MergeDropout)
    return [
        layer
        for layer in model.layers
        # Form (a) of a ResNeXt sums up its paths too, in layers of that name.
        if isinstance(layer, kinds)
        and len(layer.input) == 2
        and not layer.name.endswith("_sum")
    ]


def shortcuts_of(model: keras.Model) -> list[Any]:
    """The same, of a network that has some.

    Raises:
        UserError: a plain network.
    """
    merges = merges_of(model)
    if not merges:
        raise UserError(f"model: {model.name} has no shortcuts")
    return merges


def parts_of(merge: Any, shortcut: Any, residual: Any) -> tuple[Any, Any]:
    """What a merge adds up, in inference."""
    if isinstance(merge, MergeGate):
        gate = merge.gate(shortcut)
        return (1 - gate) * shortcut, gate * residual if merge.exclusive else residual
    if isinstance(merge, MergeAdd | MergeDropout):
        a, b = merge.inference_scales
        return a * shortcut, b * residual
    return shortcut, residual


def gate_openness(model: keras.Model, data: Any) -> list[GateOpenness]:
    """How open each gate of a highway network is (Srivastava 2015, Figure 2).

    Raises:
        UserError: no gates, or no images.
    """
    model = flat(model)
    gates = [layer for layer in model.layers if isinstance(layer, MergeGate)]
    if not gates:
        raise UserError(f"model: {model.name} has no gates")

    def opened(shortcuts: list[Any]) -> list[Any]:
        return [g.gate(s) for g, s in zip(gates, shortcuts, strict=True)]

    moments = _moments(model, [gate.input[0] for gate in gates], opened, data)
    return [
        GateOpenness(gate.name, row[0], _std(row), float(np.mean(gate.bias)))
        for gate, row in zip(gates, moments, strict=True)
    ]


def _moments(
    model: keras.Model,
    tensors: list[Any],
    then: Callable[[list[Any]], list[Any]],
    data: Any,
) -> list[tuple[float, float]]:
    """Mean and mean square of what `then` makes of a model's inner tensors."""
    tapped = keras.Model(model.input, tensors)

    @tf.function
    def sums(images: Any) -> Any:
        found = tapped(images, training=False)
        found = then(found if isinstance(found, list) else [found])
        return [
            (tf.reduce_sum(x), tf.reduce_sum(x * x), tf.size(x, tf.int64))
            for x in (tf.cast(tensor, tf.float64) for tensor in found)
        ]

    totals: Any = 0
    traced: Any = None
    for images in _images(data):
        batch = tf.convert_to_tensor(images)
        if traced is None:  # called so, TensorFlow doesn't warn of one trace a model
            open_batch = tf.TensorSpec([None, *batch.shape[1:]], batch.dtype)
            traced = sums.get_concrete_function(open_batch)
        totals = totals + np.array(
            [[float(part) for part in row] for row in traced(batch)]
        )
    if not isinstance(totals, np.ndarray):
        raise UserError(EMPTY)
    return [(row[0] / row[2], row[1] / row[2]) for row in totals]


def _std(moments: tuple[float, float]) -> float:
    mean, square = moments
    return sqrt(max(square - mean * mean, 0.0))


def _images(data: Any) -> Iterable[Any]:
    """Batches of images from an array or from batches."""
    if isinstance(data, np.ndarray):
        for start in range(0, len(data), BATCH):
            yield tf.convert_to_tensor(data[start : start + BATCH])
        return
    for batch in data:
        yield batch[0] if isinstance(batch, tuple) else batch
