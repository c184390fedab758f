"""The three equivalent forms of a ResNeXt unit (Xie 2016, Figure 3).

Networks are built in form (c), a grouped convolution. Here its weights make (a), C
separate bottlenecks whose outputs are added, and (b), C paths that are concatenated
before one 1x1 convolution. Batch norms stand as in (c): in (a), one after the sum.
"""

from __future__ import annotations

from typing import Any, Literal

import keras

from keras_resnet import blocks
from keras_resnet.errors import SpecError
from keras_resnet.layers import BatchNormalization, Conv2D
from keras_resnet.network import (
    check_keras,
    pixel_stats_of,
    stem_input,
    under_policy,
)
from keras_resnet.plan import Conv, Unit, make_plan
from keras_resnet.spec import ResNetSpec
from keras_resnet.surgery import spec_of

_PER_CHANNEL = ("gamma", "beta", "moving_mean", "moving_variance")


def to_form(
    model: keras.Model, form: Literal["a", "b"], *, spec: ResNetSpec | None = None
) -> keras.Model:
    """The same network with its grouped units in form (a) or (b).

    Args:
        model: a post-activation network with a cardinality above 1, that `build` made.
        form: "a" separate paths, added; "b" separate paths, concatenated.
        spec: the model's, if it was loaded and not built in this process.

    Returns:
        A model of equal outputs in inference. Layers of path i of C are named
        `..._path<i>_...`; the others keep their names.

    Raises:
        SpecError: another form, nothing grouped, or units in another order.
        SurgeryError: the model is not the whole network of its spec.
    """
    check_keras()
    spec = spec_of(model, spec)
    if form not in ("a", "b"):
        raise SpecError(f"form: {form!r} is not 'a' or 'b'")
    draws = spec.dropout > 0 or spec.survival < 1
    if spec.cardinality == 1 or spec.order != "post" or draws:
        raise SpecError(
            "cardinality: forms need a cardinality above 1, order 'post', no dropout "
            f"and survival 1; got {spec.cardinality}, {spec.order!r}, "
            f"{spec.dropout:g} and {spec.survival:g}"
        )
    first = make_plan(spec).units[0].name
    with under_policy(model.get_layer(f"{first}_1_conv").dtype_policy):
        result = _build(model, spec, form)
    for layer in result.layers:
        _copy(model, layer)
    return result


def _build(model: keras.Model, spec: ResNetSpec, form: str) -> keras.Model:
    """The network in a form, with new weights."""
    plan = make_plan(spec)
    inputs, x = stem_input(spec, pixel_stats_of(model))
    x = blocks.chain(plan.stem, x, spec)
    for unit in plan.units:
        shortcut = blocks.chain(unit.shortcut, x, spec) if unit.merge else None
        residual = _paths(x, unit, spec, form)
        if unit.merge:
            x = blocks.layer(unit.merge, spec)([shortcut, residual])
        else:
            x = residual
        x = blocks.chain(unit.after, x, spec)
    *head, classifier = plan.head
    x = blocks.chain(head, x, spec)
    activation = model.get_layer(classifier.name).activation
    x = blocks.classifier(classifier, activation)(x)
    return keras.Model(inputs, x, name=f"{spec.name}_form_{form}")


def _paths(x: Any, unit: Unit, spec: ResNetSpec, form: str) -> Any:
    """A unit's residual in C paths."""
    convs = [op for op in unit.residual if isinstance(op, Conv)]
    last = next(i for i, op in enumerate(unit.residual) if op is convs[-1])
    outputs = []
    for path in range(1, spec.cardinality + 1):
        y = x
        for op in unit.residual[:last]:
            y = _narrow(op, unit, path, spec)(y)
        if form == "a":
            y = _narrow(convs[-1], unit, path, spec)(y)
        outputs.append(y)
    if form == "a":
        x = keras.layers.Add(name=f"{unit.name}_sum")(outputs)
    else:
        x = keras.layers.Concatenate(name=f"{unit.name}_concat")(outputs)
        x = blocks.layer(convs[-1], spec)(x)
    return blocks.chain(unit.residual[last + 1 :], x, spec)


def _narrow(op: Any, unit: Unit, path: int, spec: ResNetSpec) -> keras.layers.Layer:
    """A layer of one path: a C-th of the channels, but all of the last's outputs."""
    grouped = blocks.layer(op, spec)
    config = grouped.get_config()
    config["name"] = op.name.replace(unit.name, f"{unit.name}_path{path}", 1)
    if isinstance(op, Conv):
        config["groups"] = 1
        if not op.name.endswith("_3_conv"):
            config["filters"] //= spec.cardinality
        elif path > 1:
            config["use_bias"] = False  # added once
    return type(grouped).from_config(config)


def _copy(model: keras.Model, layer: Any) -> None:
    """Gives a layer its share of the grouped layer's weights, frozen or not."""
    if "_path" not in layer.name:
        if layer.weights:
            source = model.get_layer(layer.name)
            layer.set_weights(source.get_weights())
            layer.trainable = source.trainable
        return
    name, _, rest = layer.name.partition("_path")
    path, _, rest = rest.partition("_")
    source = model.get_layer(f"{name}_{rest}")
    layer.trainable = source.trainable
    if isinstance(layer, Conv2D):
        width = layer.kernel.shape[-1 if not rest.startswith("3") else -2]
        share = slice((int(path) - 1) * width, int(path) * width)
        if rest.startswith("3"):
            layer.kernel.assign(source.kernel.value[:, :, share])
            if layer.use_bias:
                layer.bias.assign(source.bias.value)
        else:
            layer.kernel.assign(source.kernel.value[..., share])
            if layer.use_bias:
                layer.bias.assign(source.bias.value[share])
    elif isinstance(layer, BatchNormalization):
        width = layer.gamma.shape[0]
        share = slice((int(path) - 1) * width, int(path) * width)
        for weight in _PER_CHANNEL:
            getattr(layer, weight).assign(getattr(source, weight).value[share])
