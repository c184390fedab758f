"""Weights -> model: by name, all of them or none."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

import keras
import numpy as np
from keras.src.utils.naming import to_snake_case

from keras_resnet.weights.formats import Tensors, WeightsError, read

HEAD = "predictions"  # the classifier's layer


def load(
    model: keras.Model, source: Path | str, *, head: Literal["load", "keep"] = "load"
) -> None:
    """Loads weights into a model by the names of its layers, all or nothing.

    Args:
        model: a network of `build` or `applications`, or one of Keras' own layers.
        source: a `.keras`, `.weights.h5`, keras.applications' `.h5` or `.safetensors`.
        head: "load" takes the classifier too; "keep" leaves the model's as it is,
            whatever the file's (for other classes, or a model that has none).

    Raises:
        WeightsError: no such file, a damaged one, or one that doesn't fit; every
            missing, extra or misshapen weight is named, and the model is unchanged.
    """
    if head not in ("load", "keep"):
        raise WeightsError(f"head: {head!r} is not 'load' or 'keep'")
    path = Path(source)
    wanted = dict(variables(model))
    tensors = _named(read(path).tensors, model)
    if head == "keep":
        wanted, tensors = (_without_head(group) for group in (wanted, tensors))
    _check(model, path, wanted, tensors)
    for name, variable in wanted.items():
        variable.assign(tensors[name])


def variables(layer: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """All weights of a model by "layer/weight", those of nested models below them."""
    for inner in layer.layers:
        name = f"{prefix}{inner.name}"
        if hasattr(inner, "layers"):
            yield from variables(inner, f"{name}/")
            continue
        for weight in inner.weights:
            yield f"{name}/{weight.name}", weight


def _without_head(group: Mapping[str, Any]) -> dict[str, Any]:
    return {name: x for name, x in group.items() if not name.startswith(f"{HEAD}/")}


def _named(tensors: Tensors, model: Any) -> Tensors:
    """Renames Keras 3's "layer/0" to "layer/kernel"."""
    names = dict(_keras3_names(model))
    return {names.get(name, name): tensor for name, tensor in tensors.items()}


def _keras3_names(layer: Any, prefix: str = "", ours: str = "") -> Iterator[Any]:
    """(Keras 3's name, ours): by the layer's name, or its class and number."""
    seen: Counter[str] = Counter()
    for inner in layer.layers:
        kind = to_snake_case(type(inner).__name__)
        number = seen[kind]
        seen[kind] += 1
        for name in (inner.name, f"{kind}_{number}" if number else kind):
            if hasattr(inner, "layers"):
                yield from _keras3_names(
                    inner, f"{prefix}{name}/", f"{ours}{inner.name}/"
                )
                continue
            for index, weight in enumerate(inner.weights):
                yield f"{prefix}{name}/{index}", f"{ours}{inner.name}/{weight.name}"


def _check(model: Any, path: Path, wanted: Mapping[str, Any], tensors: Tensors) -> None:
    problems = {
        "missing": [name for name in wanted if name not in tensors],
        "extra": [name for name in tensors if name not in wanted],
        "misshapen": [
            f"{name} {_shape(tensors[name])} for {_shape(variable)}"
            for name, variable in wanted.items()
            if name in tensors and tuple(variable.shape) != tensors[name].shape
        ],
    }
    if any(problems.values()):
        listed = "; ".join(
            f"{kind}: {', '.join(names)}" for kind, names in problems.items() if names
        )
        raise WeightsError(
            f"weights: {path} doesn't fit {model.name}: {listed}; nothing was loaded"
        )


def _shape(array: np.ndarray | Any) -> str:
    return "x".join(map(str, array.shape)) or "scalar"
