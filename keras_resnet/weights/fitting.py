"""Whether weights are of a model: all that differs at once, and what would fit."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import keras
import numpy as np

from keras_resnet.errors import WeightsError
from keras_resnet.plan import make_plan, stage_of
from keras_resnet.presets import PRESETS
from keras_resnet.weights import dialects
from keras_resnet.weights.dialects import Arrays, Dialect

NAMED = 100  # tensors of each kind in a message


class Content(NamedTuple):
    """What a file or model holds.

    Attributes:
        name: what messages call it.
        arrays: by our layer, in the layer's order.
        configs: of layers by name, where a file has them.
        left: tensors that are of no layer.
        torch: a state dict's tensors and whose names they have.
    """

    name: str
    arrays: Arrays
    configs: Mapping[str, Mapping[str, Any]] = {}
    left: Sequence[str] = ()
    torch: tuple[Mapping[str, np.ndarray], Dialect] | None = None


def layers_of(model: Any) -> Iterator[Any]:
    """All layers, those of models within the model too.

    A model that stands where a layer stood, as `surgery.to_stock` makes of a gate, is
    one layer.
    """
    for layer in model.layers:
        if isinstance(layer, keras.Model) and not stage_of(layer.name):
            yield from layers_of(layer)
        else:
            yield layer


def check(model: Any, own: Mapping[str, Any], content: Content) -> None:
    """Refuses weights that are of another network than a model's layers.

    Raises:
        WeightsError: it lists all differences, and presets that the weights are of.
    """
    problems = [*_differences(own, content.arrays), *_some("too much", content.left)]
    # Shapes say nothing of which preset has a file's strides.
    presets = _presets_of(content) if problems else ""
    problems += _some("of another setting", list(_settings(model, content.configs)))
    problems += _some("below zero", list(_negative(own, content.arrays)))
    if problems:
        raise WeightsError(
            f"weights: {content.name} doesn't fit {model.name}: {'; '.join(problems)}"
            + (f"; it fits {presets}" if presets else "")
            + (_other_classes(own, content.arrays) if presets else "")
        )


def _differences(own: Mapping[str, Any], arrays: Arrays) -> Iterator[str]:
    """What is missing, too much, or of another shape."""
    missing, surplus, misshapen = [], [], []
    for name, layer in own.items():
        if name not in arrays:
            missing.append(name)
            continue
        held = [value.shape for value in arrays[name]]
        wanted = [tuple(weight.shape) for weight in layer.weights]
        for i, weight in enumerate(layer.weights):
            label = f"{name}/{weight.name}"
            if i >= len(held):
                missing.append(label)
            elif held[i] != wanted[i]:
                misshapen.append(f"{label} {_text(held[i])} for {_text(wanted[i])}")
        surplus += [f"{name}/{i}" for i in range(len(wanted), len(held))]
    surplus += [name for name in arrays if name not in own]
    yield from _some("missing", missing)
    yield from _some("too much", surplus)
    yield from _some("of another shape", misshapen)


def _negative(own: Mapping[str, Any], arrays: Arrays) -> Iterator[str]:
    """Variances that are none, of which inference takes the root."""
    for name in filter(arrays.__contains__, own):
        for weight, value in zip(own[name].weights, arrays[name], strict=False):
            if weight.name == "moving_variance" and (value < 0).any():
                yield f"{name}/{weight.name}"


def _settings(model: Any, configs: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    """Layers of the file's shapes that would compute something else.

    Strides aren't compared with a network that dilates instead (`output_stride`).
    """
    ours = {layer.name: layer.get_config() for layer in layers_of(model)}
    dilated = any(
        config.get("dilation_rate", 1) not in (1, (1, 1), [1, 1])
        for config in (*ours.values(), *configs.values())
    )
    for name in filter(configs.__contains__, ours):
        for key in ("epsilon",) if dilated else ("epsilon", "strides"):
            wanted, held = ours[name].get(key), configs[name].get(key)
            if isinstance(wanted, tuple) and isinstance(held, list):
                held = tuple(held)
            if wanted is not None and held is not None and held != wanted:
                yield f"{name} {key} {held} for {wanted}"
        wanted, held = _factors(ours[name]), _factors(configs[name])
        if None not in (wanted, held) and held != wanted:
            yield f"{name} factors {held} for {wanted}"


def _factors(config: Mapping[str, Any]) -> tuple[float, float] | None:
    """What a merge multiplies shortcut and residual by in inference.

    (1, 1) of other layers; None of stock layers that stand for a merge.
    """
    if "layers" in config:
        return None
    shortcut = config.get("shortcut_scale", 1.0)
    if not config.get("inverted", True):
        shortcut = 1 - config["rate"]
    survival = config["survival"] if config.get("mode") == "batch" else 1.0
    return shortcut, config.get("residual_scale", 1.0) * survival


def _some(what: str, names: Sequence[str]) -> list[str]:
    if not names:
        return []
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return [f"{len(names)} {what}: {', '.join(names[:NAMED])}{more}"]


def _text(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape))


def _presets_of(content: Content) -> str:
    """The presets that weights are of, whatever their classes and input channels."""
    found = []
    arrays = content.arrays
    for name, preset in PRESETS.items():
        spec = preset.spec
        if content.torch:
            tensors, dialect = content.torch
            if dialects.wrong_facts(spec, dialect):
                continue
            arrays, left = dialects.from_torch(tensors, spec, dialect, content.name)
            if left:
                continue
        shapes = {
            layer: [tuple(value.shape) for value in values]
            for layer, values in arrays.items()
        }
        wanted = dialects.shapes_of(make_plan(spec))
        if _body(shapes) == _body(wanted):
            found.append(name)
    return " or ".join(found[:4])


def _other_classes(own: Mapping[str, Any], arrays: Arrays) -> str:
    """A hint where the file's classifier is of another number of classes."""
    if not {*own} & {*arrays} & {dialects.HEAD}:
        return ""
    held, wanted = (
        arrays[dialects.HEAD][0].shape[-1],
        own[dialects.HEAD].weights[0].shape[-1],
    )
    return f" with classes={held}" if held != wanted else ""


def _body(shapes: Mapping[str, Any]) -> dict[str, Any]:
    """All but the head and the first kernel's input channels."""
    body = {name: value for name, value in shapes.items() if stage_of(name)}
    for name in ("conv1_conv", "conv1_1_conv"):
        if name in body:
            kernel, *bias = body[name]
            body[name] = [(*kernel[:-2], kernel[-1]), *bias]
    return body
