"""Changes of built models that keep what they compute."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np

from keras_resnet import blocks, layers
from keras_resnet.errors import UserError
from keras_resnet.folding import fold_batch_norm
from keras_resnet.graphs import copy_of, is_graph, rebuild
from keras_resnet.network import build, pixel_stats_of, under_policy
from keras_resnet.plan import Conv, Dense, Norm, Unit, make_plan, unit_of
from keras_resnet.recompute import Recomputing
from keras_resnet.spec import ResNetSpec

__all__ = [
    "SurgeryError",
    "deepen",
    "features",
    "flatten",
    "fold_batch_norm",
    "spec_of",
    "to_stock",
]


class SurgeryError(UserError):
    """A model that can't be changed as asked."""


def to_stock(model: keras.Model) -> keras.Model:
    """The same model in stock Keras layers, not compiled: loads without this package.

    Layer names and, in inference, outputs are equal, those of nested models too.
    Stochastic depth and shortcut dropout take their inference form; the rest trains as
    before.

    Raises:
        GraphError: the model was not made of layers by Keras' functional API.
    """

    def stock(layer: Any) -> Any:
        if is_graph(layer):
            return to_stock(layer)
        return _STOCK.get(type(layer), copy_of)(layer)

    return rebuild(model, stock)


def flatten(model: keras.Model) -> keras.Model:
    """The same model without models in it: their layers stand where they stood.

    A copy, weights too. Layers keep their names, unless two have the same: then the
    later one gets its model's name before its own, `resnet50_conv1_conv`.

    Raises:
        GraphError: the model, or one in it, was not made of layers by Keras' functional
            API.
    """
    return rebuild(model, inline=True)


def _composed(layer: Any, compute: Callable[..., Any]) -> keras.Model:
    """A model of stock layers that stands where a layer stood, under its name."""
    with under_policy(layer.dtype_policy):
        inputs = keras.tree.map_structure(
            lambda tensor: keras.Input(tensor.shape[1:], dtype=tensor.dtype),
            layer.input,
        )
        outputs = compute(*keras.tree.flatten(inputs))
        return keras.Model(inputs, outputs, name=layer.name)


def _stock_average(layer: layers.DilatedAverage) -> keras.Model:
    return _composed(layer, lambda x: layers.dilated_average(x, layer.dilation_rate))


def _stock_add(layer: layers.MergeAdd) -> keras.layers.Layer:
    scales = layer.inference_scales
    if scales == (1.0, 1.0):
        return keras.layers.Add(name=layer.name, dtype=layer.dtype_policy)
    return _composed(
        layer,
        lambda shortcut, residual: keras.layers.Add()(
            [
                keras.layers.Rescaling(scale)(part)
                for scale, part in zip(scales, (shortcut, residual), strict=True)
            ]
        ),
    )


def _stock_gate(layer: layers.MergeGate) -> keras.Model:
    def merge(shortcut: Any, residual: Any) -> Any:
        units = shortcut.shape[-1]
        gate = keras.layers.Dense(units, activation="sigmoid")(shortcut)
        closed = keras.layers.Multiply()([gate, shortcut])
        if layer.exclusive:
            residual = keras.layers.Multiply()([gate, residual])
        return keras.layers.Add()(
            [keras.layers.Subtract()([shortcut, closed]), residual]
        )

    return _composed(layer, merge)


def _stock_dropout(layer: layers.MergeDropout) -> keras.Model:
    def merge(shortcut: Any, residual: Any) -> Any:
        if layer.inverted:
            shortcut = keras.layers.Dropout(layer.rate)(shortcut)
        else:
            shortcut = keras.layers.Rescaling(1 - layer.rate)(shortcut)
        return keras.layers.Add()([shortcut, residual])

    return _composed(layer, merge)


_STOCK: dict[type, Callable[[Any], Any]] = {
    layers.Conv2D: lambda old: keras.layers.Conv2D.from_config(old.get_config()),
    layers.BatchNormalization: lambda old: keras.layers.BatchNormalization.from_config(
        old.get_config()
    ),
    layers.DilatedAverage: _stock_average,
    layers.Skip: lambda old: keras.layers.Identity(
        name=old.name, dtype=old.dtype_policy.name
    ),
    layers.MergeAdd: _stock_add,
    layers.MergeGate: _stock_gate,
    layers.MergeDropout: _stock_dropout,
}


def deepen(
    model: keras.Model, depths: Sequence[int], *, spec: ResNetSpec | None = None
) -> keras.Model:
    """A deeper network that starts as this one: its new units are identities.

    It is the solution by construction of He 2015, section 1. New residual units end in
    a batch norm with gamma 0, or where none ends them in a convolution of zeros; new
    plain units are identity convolutions. Outputs in inference are equal, and all of
    it trains on. In training, batch norms of new plain units normalize by the batch.

    Args:
        model: a network that `build` made, with its classifier.
        depths: units in each stage, none fewer than now.
        spec: the model's, if it was loaded and not built in this process.

    Raises:
        SurgeryError: fewer units, or a wiring in which no unit can be an identity.
    """
    spec = spec_of(model, spec)
    wanted = spec.replace(depths=depths)
    depths = wanted.depths
    if len(depths) != len(spec.depths) or any(
        new < old for new, old in zip(depths, spec.depths, strict=True)
    ):
        raise SurgeryError(
            f"depths: {list(depths)} is not stage by stage {list(spec.depths)} or more"
        )
    _check_identities(spec)
    old = {layer.name: layer for layer in model.layers}
    first = make_plan(spec).units[0].name
    with under_policy(
        next(old[name].dtype_policy for name in old if unit_of(name) == first)
    ):
        deeper = build(
            wanted,
            classifier_activation=model.layers[-1].activation,
            pixel_stats=pixel_stats_of(model),
            recompute=isinstance(model, Recomputing),
        )
    for layer in deeper.layers:
        if layer.name in old:
            layer.set_weights(old[layer.name].get_weights())
            layer.trainable = old[layer.name].trainable
    for unit in make_plan(deeper.spec).units:
        if unit.block > spec.depths[unit.stage - 1]:
            _make_identity(deeper, unit)
    return deeper


def _check_identities(spec: ResNetSpec) -> None:
    plain = spec.merge == "none"
    reasons = {
        "order": spec.order in ("bn_after_add", "relu_before_add")
        or (plain and spec.order != "post"),
        "merge": spec.merge not in ("add", "none"),
        "shortcut": spec.shortcut == "project_all",
        "survival": spec.survival < 1,
        "stride_at": spec.stride_at == "last",
        "block": plain and spec.block == "bottleneck",
        "kernels": len(spec.conv_kernels) == 1 and plain and spec.norm == "none",
    }
    for field, impossible in reasons.items():
        if impossible:
            raise SurgeryError(
                f"{field}: a new unit can't be an identity under "
                f"{getattr(spec, field)!r}" + (" in a plain network" if plain else "")
            )


def _make_identity(model: keras.Model, unit: Unit) -> None:
    """Sets a unit's weights so that it passes on its input (not negative if plain)."""
    weighted = [op for op in unit.residual if isinstance(op, Conv | Dense | Norm)]
    if unit.merge:
        last = model.get_layer(weighted[-1].name)
        # Gamma and beta, or kernel and bias.
        for weight in last.trainable_weights:
            weight.assign(keras.ops.zeros_like(weight))
        return
    for op in weighted:
        layer = model.get_layer(op.name)
        if isinstance(op, Norm):
            # With the epsilon that is added to it, a variance of one.
            variance = np.full(layer.moving_variance.shape, 1 - layer.epsilon)
            layer.moving_variance.assign(variance)
            continue
        layer.set_weights([np.zeros_like(weight) for weight in layer.get_weights()])
        kernel = np.zeros(layer.kernel.shape, "float32")
        center = tuple(size // 2 for size in kernel.shape[:-2])
        kernel[center] = np.eye(*kernel.shape[-2:])
        layer.kernel.assign(kernel)


_RESIDUAL = tuple(f"{i}_conv" for i in range(1, 9))  # a unit's layers in its trunk


def features(model: keras.Model, strides: Sequence[int] | None = None) -> keras.Model:
    """A model of feature maps, for detection and segmentation heads.

    Args:
        model: a convolutional network that `build` or `applications` made.
        strides: total strides, all that the model has if None; for each, the map of
            the last unit that has it. Of an ImageNet network (4, 8, 16, 32).

    Returns:
        A model from images to a dict {"stride_4": (batch, h/4, w/4, channels), ...}.

    Raises:
        SurgeryError: no unit has one of the strides.
    """
    units: dict[str, tuple[int, Any]] = {}  # total stride, and the last layer's output
    total = 1
    for layer in model.layers:
        unit = unit_of(layer.name)
        if unit is None or layer.name.removeprefix(f"{unit}_") in _RESIDUAL:
            total *= getattr(layer, "strides", (1,))[0]  # a dense layer has none
        if unit:
            units[unit] = total, layer.output
        elif layer.name == "post_relu" and units:
            # A pre-activation network's last sum, activated.
            units[next(reversed(units))] = total, layer.output
    by_stride = dict(units.values())
    if not units or len(by_stride[total].shape) != 4:
        raise SurgeryError(f"model: {model.name} has no units with feature maps")
    strides = sorted(by_stride) if strides is None else strides
    if not isinstance(strides, Sequence) or not strides:
        raise SurgeryError(f"strides: {strides!r} is not a list of total strides")
    missing = sorted(set(strides) - set(by_stride))
    if missing:
        raise SurgeryError(
            f"strides: {missing} are not among the model's {sorted(by_stride)}"
        )
    return keras.Model(
        model.inputs,
        {f"stride_{stride}": by_stride[stride] for stride in strides},
        name=f"{model.name}_features",
    )


def spec_of(model: keras.Model, spec: ResNetSpec | None) -> ResNetSpec:
    """The spec of a whole network, given or remembered, checked against its layers.

    Raises:
        SurgeryError: no spec, another network's, or a model of more than the network.
    """
    found = spec or getattr(model, "spec", None)
    if not isinstance(found, ResNetSpec):
        raise SurgeryError(
            f"model: {getattr(model, 'name', model)!r} was not built in this process; "
            "give its spec"
        )
    planned = {op.name: op.shape[-1] for op in make_plan(found).ops}
    built = {
        layer.name: layer.output.shape[-1]
        for layer in model.layers
        if not isinstance(layer, keras.layers.InputLayer)
        and layer.name != "pixel_stats"
    }
    if built != planned:
        names = sorted(planned.keys() ^ built.keys()) or [
            name for name in planned if planned[name] != built[name]
        ]
        raise SurgeryError(
            f"model: {model.name} is not the whole network of its spec, with its "
            f"classifier and nothing before it: they differ in {', '.join(names[:3])}"
        )
    for op in make_plan(found).ops:
        held, wanted = model.get_layer(op.name), blocks.layer(op, found)
        if isinstance(held, keras.Model):
            continue  # stock layers in place of a merge
        has, needs = (
            {"class": type(layer).__name__, **layer.get_config()}
            for layer in (held, wanted)
        )
        if isinstance(wanted, type(held)):  # ours for Keras' own
            has["class"] = needs["class"]
        for key in sorted(_DECIDING & has.keys() & needs.keys()):
            if has[key] != needs[key]:
                raise SurgeryError(
                    f"spec: {op.name} of {found.name} has {key} {needs[key]}, and that "
                    f"of the model {has[key]}"
                )
    return found


# Of a layer's configuration, what its outputs hang on beside its weights.
_DECIDING = {
    "class", "kernel_size", "strides", "padding", "dilation_rate", "groups", "epsilon",
    "pool_size", "rate", "inverted", "exclusive", "shortcut_scale", "residual_scale",
    "survival", "mode",
}  # fmt: skip
