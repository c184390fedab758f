"""What any Keras model costs, layer by layer, from its graph alone.

Counted as `keras_resnet.cost` counts, and equal to it on every network of ours: MACs
are multiply-adds of convolutions, dense layers and gates, for one image. The ResNet
papers call one of them a FLOP; Canziani 2016 and most profilers count it as two
operations. Memory is of float32.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from math import prod
from typing import Any, NamedTuple

import keras

from keras_resnet.cost import FLOAT32
from keras_resnet.errors import UserError, one_line
from keras_resnet.graphs import is_graph, walkable
from keras_resnet.layers import MergeGate, Skip

CONVENTION = "MACs: multiply-adds of convolutions and dense layers, for one image"
TRAINED = 3  # weights, their gradients, and the optimizer's momentum
_CONVOLUTIONS = (
    keras.layers.Conv1D,
    keras.layers.Conv2D,
    keras.layers.Conv3D,
    keras.layers.DepthwiseConv1D,
    keras.layers.DepthwiseConv2D,
    keras.layers.SeparableConv1D,
    keras.layers.SeparableConv2D,
)
_TRANSPOSED = (
    keras.layers.Conv1DTranspose,
    keras.layers.Conv2DTranspose,
    keras.layers.Conv3DTranspose,
)
_WEIGHING = (*_CONVOLUTIONS, *_TRANSPOSED, keras.layers.Dense)
_NORMS = (
    keras.layers.BatchNormalization,
    keras.layers.LayerNormalization,
    keras.layers.GroupNormalization,
)
# Their gradient needs what they put out, besides what they take in.
_KEEPING = (
    keras.layers.ReLU,
    keras.layers.MaxPooling1D,
    keras.layers.MaxPooling2D,
    keras.layers.MaxPooling3D,
    keras.layers.Dropout,
)
_POOLS = _KEEPING[1:4]


class LayerCost(NamedTuple):
    """What one call of a layer costs, for one image.

    Attributes:
        name: the layer's, after those of the models that it is nested in.
        kind: its class.
        shape: of its output.
        params: trainable scalars; none where the layer was called before.
        total_params: with what isn't trained.
        macs: multiply-adds.
        activations: scalars of its output.
        intensity: MACs a byte that is read or written: its input, weights, output.
    """

    name: str
    kind: str
    shape: tuple[int, ...]
    params: int
    total_params: int
    macs: int
    activations: int
    intensity: float


class Profile(NamedTuple):
    """What a model costs; all but parameters are for one image.

    Attributes:
        name: the model's.
        params: trainable scalars.
        total_params: with moving statistics.
        macs: multiply-adds.
        activations: scalars that convolutions and dense layers give.
        weight_bytes: bytes of all weights.
        inference_bytes: bytes of the activations that are alive at one time at most,
            each freed after its last use.
        training_bytes: bytes that backpropagation keeps, as `Cost.training_memory`.
        intensity: MACs a byte read or written, with nothing kept in caches.
        uncounted: layers with weights whose MACs are unknown, and left out.
        layers: in the order in which they run.
    """

    name: str
    params: int
    total_params: int
    macs: int
    activations: int
    weight_bytes: int
    inference_bytes: int
    training_bytes: int
    intensity: float
    uncounted: tuple[str, ...]
    layers: tuple[LayerCost, ...]

    def peak_inference(self, batch: int = 1) -> int:
        """Bytes of weights and live activations of a batch, without work space."""
        return self.weight_bytes + batch * self.inference_bytes

    def peak_training(self, batch: int = 1) -> int:
        """Bytes of weights, gradients, momentum and kept activations of a batch."""
        fixed = self.weight_bytes + (TRAINED - 1) * self.params * FLOAT32
        return fixed + batch * self.training_bytes

    def to_dict(self) -> dict[str, Any]:
        """All of it as JSON types, with the convention."""
        fields = self._asdict()
        fields["layers"] = [layer._asdict() for layer in self.layers]
        return {"convention": CONVENTION, **fields}

    def to_json(self) -> str:
        """All of it."""
        return json.dumps(self.to_dict(), indent=2) + "\n"

    def to_csv(self) -> str:
        """A line for each layer."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(LayerCost._fields)
        for layer in self.layers:
            shape = "x".join(map(str, layer.shape))
            writer.writerow(layer._replace(shape=shape))  # type: ignore[arg-type]
        return text.getvalue()


class _Tensor:
    """A layer's output for one image, and whether a gradient needs it."""

    def __init__(self, shape: Sequence[int | None], kept: bool = False) -> None:
        if None in shape:
            raise UserError(
                f"input_shape: the output {list(shape)} of a layer is open; give the "
                "size of an image"
            )
        self.shape = tuple(int(side or 1) for side in shape)
        self.size = prod(self.shape)
        self.kept = kept


class _Call(NamedTuple):
    layer: Any
    name: str
    inputs: list[_Tensor]
    outputs: list[_Tensor]


def profile(model: keras.Model, *, input_shape: Sequence[int] | None = None) -> Profile:
    """Counts a model's costs.

    Args:
        model: any Keras model with one input or more; one that is neither functional
            nor sequential must be callable on symbolic tensors.
        input_shape: of one image, where the model leaves it open.

    Raises:
        UserError: not a Keras model, no single size of an image, another than the
            model's, or layers that can't be followed.
    """
    if not isinstance(model, keras.Model):
        raise UserError(f"model: {type(model).__name__} is not a Keras model")
    graph = _graph(model, input_shape)
    if input_shape is None:
        shapes = [tensor.shape[1:] for tensor in graph.inputs]
    else:
        shapes = [tuple(input_shape)]
    if len(shapes) != len(graph.inputs):
        raise UserError(f"input_shape: {model.name} has {len(graph.inputs)} inputs")
    for tensor, shape in zip(graph.inputs, shapes, strict=True):
        own = tensor.shape[1:]
        if len(own) != len(shape) or any(
            side not in (None, given) for side, given in zip(own, shape, strict=True)
        ):
            raise UserError(f"input_shape: {model.name} takes {own}, not {shape}")
    inputs = [_Tensor(shape, kept=True) for shape in shapes]
    calls: list[_Call] = []
    outputs = _follow(graph, inputs, calls, "")
    layers, uncounted, seen = [], [], set()
    moved = activations = 0
    for call in calls:
        fresh = id(call.layer) not in seen
        seen.add(id(call.layer))
        cost, known = _cost(call, fresh)
        layers.append(cost)
        if not known:
            uncounted.append(call.name)
        if isinstance(call.layer, _WEIGHING):
            activations += cost.activations
        moved += _moved(call)
    macs = sum(layer.macs for layer in layers)
    every = {id(t): t for t in inputs}
    every |= {id(t): t for call in calls for t in call.outputs}
    kept = sum(tensor.size for tensor in every.values() if tensor.kept)
    kept += sum(c.outputs[0].size for c in calls if isinstance(c.layer, MergeGate))
    return Profile(
        name=model.name,
        params=_scalars(model.trainable_weights),
        total_params=_scalars(_weights(model)),
        macs=macs,
        activations=activations,
        weight_bytes=_scalars(_weights(model)) * FLOAT32,
        inference_bytes=_peak(calls, inputs, outputs) * FLOAT32,
        training_bytes=kept * FLOAT32,
        intensity=macs / moved if moved else 0.0,
        uncounted=tuple(uncounted),
        layers=tuple(layers),
    )


def _graph(model: keras.Model, input_shape: Sequence[int] | None) -> Any:
    """The model as a graph of layers."""
    if is_graph(model) and model.built:
        return walkable(model)
    if input_shape is None:
        raise UserError(
            f"input_shape: {model.name} doesn't know its own; give an image's shape"
        )
    if is_graph(model):
        model.build((None, *input_shape))
        return walkable(model)
    # Called on a symbolic tensor, it leaves a graph of its layers.
    image = keras.Input(tuple(input_shape))
    try:
        return keras.Model(image, model.call(image), name=model.name)
    except Exception as error:  # whatever code of others raises
        reason = one_line(error)
        raise UserError(
            f"model: the layers of {model.name} can't be followed: {reason}"
        ) from None


def _follow(
    graph: Any, inputs: list[_Tensor], calls: list[_Call], prefix: str
) -> list[_Tensor]:
    """Collects the calls of a graph's layers in their order, nested ones too.

    Returns:
        The graph's outputs.
    """
    tensors = dict(zip(map(id, graph.inputs), inputs, strict=True))
    for _, nodes in sorted(graph._nodes_by_depth.items(), reverse=True):
        for node in nodes:
            if node.is_input:
                continue
            layer, name = node.operation, prefix + node.operation.name
            taken = [tensors[id(tensor)] for tensor in node.input_tensors]
            if isinstance(layer, Skip):
                made = taken  # in inference it is the identity, and computes nothing
            elif is_graph(layer):
                made = _follow(_graph(layer, None), taken, calls, f"{name}/")
            else:
                made = _outputs(layer, node, taken)
                calls.append(_Call(layer, name, taken, made))
            tensors.update(zip(map(id, node.outputs), made, strict=True))
    return [tensors[id(tensor)] for tensor in graph.outputs]


def _outputs(layer: Any, node: Any, taken: list[_Tensor]) -> list[_Tensor]:
    """A layer's outputs; marks the tensors that its gradient will need."""
    shapes = [tuple(tensor.shape[1:]) for tensor in node.outputs]
    if any(None in shape for shape in shapes):
        # Behind a `Skip`, or of a model whose images have any size.
        given = [(None, *tensor.shape) for tensor in taken]
        shape = layer.compute_output_shape(given if len(given) > 1 else given[0])
        shapes = [tuple(shape[1:])]
    needed = (*_WEIGHING, *_NORMS, *_POOLS, MergeGate)
    known = isinstance(layer, (*needed, *_KEEPING)) or not getattr(layer, "weights", ())
    if isinstance(layer, needed) or not known:
        for tensor in taken:
            tensor.kept = True
    activation = getattr(layer, "activation", keras.activations.linear)
    kept = isinstance(layer, _KEEPING) or (
        activation is not keras.activations.linear and hasattr(layer, "activation")
    )
    return [_Tensor(shape, kept=kept) for shape in shapes]


def _cost(call: _Call, fresh: bool) -> tuple[LayerCost, bool]:
    """A call's costs, and whether its MACs are known; weights count once."""
    layer = call.layer
    weights = _weights(layer)
    macs = _macs(call)
    cost = LayerCost(
        name=call.name,
        kind=type(layer).__name__,
        shape=call.outputs[0].shape,
        params=_scalars(getattr(layer, "trainable_weights", ())) if fresh else 0,
        total_params=_scalars(weights) if fresh else 0,
        macs=macs or 0,
        activations=sum(tensor.size for tensor in call.outputs),
        intensity=(macs or 0) / _moved(call),
    )
    return cost, macs is not None


def _macs(call: _Call) -> int | None:
    """Multiply-adds of one image, or None where they are unknown."""
    layer = call.layer
    first = getattr(layer, "data_format", None) == "channels_first"
    pixels = slice(1, None) if first else slice(-1)
    made = prod(call.outputs[0].shape[pixels])
    if isinstance(layer, _TRANSPOSED):
        return int(prod(layer.kernel.shape)) * prod(call.inputs[0].shape[pixels])
    if hasattr(layer, "pointwise_kernel"):
        kernels = (layer.depthwise_kernel, layer.pointwise_kernel)
        return sum(int(prod(kernel.shape)) for kernel in kernels) * made
    if isinstance(layer, (*_WEIGHING, MergeGate)):
        return int(prod(layer.kernel.shape)) * made
    scaling = (*_NORMS, keras.layers.Normalization)
    return 0 if isinstance(layer, scaling) or not _weights(layer) else None


def _moved(call: _Call) -> int:
    """Bytes that a call reads and writes: inputs, weights, outputs."""
    scalars = _scalars(_weights(call.layer))
    scalars += sum(tensor.size for tensor in (*call.inputs, *call.outputs))
    return scalars * FLOAT32


def _weights(layer: Any) -> list[Any]:
    """What `count_params` counts: no seeds, no metrics."""
    return list(getattr(layer, "weights", ()))


def _scalars(weights: Sequence[Any]) -> int:
    return sum(int(prod(weight.shape)) for weight in weights)


def _peak(calls: list[_Call], inputs: list[_Tensor], outputs: list[_Tensor]) -> int:
    """Most scalars alive at one time, where each tensor is freed after its last use."""
    last = {id(tensor): i for i, call in enumerate(calls) for tensor in call.inputs}
    last |= {id(tensor): len(calls) for tensor in outputs}
    alive = {id(tensor): tensor.size for tensor in inputs}
    peak = sum(alive.values())
    for i, call in enumerate(calls):
        alive |= {id(tensor): tensor.size for tensor in call.outputs}
        peak = max(peak, sum(alive.values()))
        alive = {key: size for key, size in alive.items() if last.get(key, -1) > i}
    return peak
