"""Weights into a model, all or none, by name; and out of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from keras_resnet import files
from keras_resnet.plan import make_plan
from keras_resnet.presets import PRESETS
from keras_resnet.run import BEST, Run
from keras_resnet.spec import ResNetSpec
from keras_resnet.weights import dialects
from keras_resnet.weights.dialects import HEAD, Arrays, Dialect
from keras_resnet.weights.formats import (
    KERAS,
    TORCH,
    WeightsError,
    read_keras,
    read_torch,
    write_torch,
)

NAMED = 100  # tensors of each kind in a message


def load(
    model: Any,
    source: Path | str,
    *,
    head: bool = True,
    adapt_channels: bool = False,
    dialect: str | None = None,
    spec: ResNetSpec | None = None,
) -> None:
    """Loads a file's weights into a model: every one by its name, or none at all.

    Args:
        model: a Keras model; for a state dict of torch a network of ours.
        source: a run folder (its best model), a `.keras`, `.weights.h5` or
            keras.applications' `.h5`, or a state dict of torchvision, timm or torch's
            CIFAR networks as `.safetensors` or `.pth`.
        head: whether the classifier is loaded too; else it stays as it is, in a model
            of other classes or of none.
        adapt_channels: whether a first convolution of another number of input
            channels is made from the file's: for gray images the sum over its
            channels, for more of them its channels in turn, scaled to the same sum
            (timm's rule).
        dialect: how the title of one of `dialects.DIALECTS` begins: whose names a state
            dict has, if that can't be seen in it.
        spec: the model's, if it was loaded and not built in this process; only state
            dicts need it.

    Raises:
        WeightsError: the file is missing, damaged or of another network. It lists
            what is missing, too much, of another shape or (where the file tells) of
            other strides, epsilon or factors of a sum, and names the preset that would
            fit, and leaves the model as it was.
    """
    path = Path(source)
    if (run := Run(path)).exists:
        run.check_trained()
        path = path / BEST
    own = {layer.name: layer for layer in model.layers if layer.weights}
    configs: Mapping[str, Mapping[str, Any]] = {}
    if path.suffix in TORCH:
        spec = _spec_of(model, spec)
        tensors = read_torch(path)
        names = (
            dialects.by_title(dialect)
            if dialect
            else dialects.dialect_of(tensors, spec, path)
        )
        arrays, left = dialects.from_torch(tensors, spec, names, path)
    elif path.suffix in KERAS:
        tensors, names, left = {}, None, []
        found = read_keras(path)
        arrays, configs = _by_name(found, model), found.configs
    else:
        raise WeightsError(
            f"weights: {path} is neither a run folder nor a "
            f"{', '.join((*KERAS, *TORCH))} file"
        )
    if not head:
        arrays.pop(HEAD, None)
        own.pop(HEAD, None)
    if adapt_channels:
        _adapt_channels(arrays, own)
    problems = [*_differences(own, arrays), *_some("too much", left)]
    # Shapes say nothing of which preset has a file's strides.
    fitting = _fitting(arrays, tensors, names, path) if problems else ""
    problems += _some("of another setting", list(_settings(model, configs)))
    if problems:
        raise WeightsError(
            f"weights: {path} doesn't fit {model.name}: {'; '.join(problems)}"
            + (f"; it fits {fitting}" if fitting else "")
        )
    for name, values in arrays.items():
        for weight, value in zip(own[name].weights, values, strict=True):
            weight.assign(value)


def save(
    model: Any,
    path: Path | str,
    *,
    dialect: str = "torchvision",
    spec: ResNetSpec | None = None,
) -> None:
    """Writes a network's weights as a state dict for torch, whole or not at all.

    Args:
        model: a network of ours; its pixel statistics are not part of a state dict.
        path: a `.safetensors` or `.pth` file, which needs torch.
        dialect: how the title of one of `dialects.DIALECTS` begins: whose network is
            to load it.
        spec: the model's, if it was loaded and not built in this process.

    Raises:
        WeightsError: a network that the dialect can't express, or another suffix.
        RunFolderError: the path can't be written.
    """
    path = Path(path)
    if path.suffix not in TORCH:
        raise WeightsError(f"weights: {path} doesn't end in {', '.join(TORCH)}")
    spec = _spec_of(model, spec)
    arrays = {
        layer.name: [np.asarray(weight) for weight in layer.weights]
        for layer in model.layers
        if layer.weights
    }
    tensors = dialects.to_torch(arrays, spec, dialects.by_title(dialect))
    with files.replacing(path) as temporary:
        write_torch(temporary, tensors)


def _spec_of(model: Any, spec: ResNetSpec | None) -> ResNetSpec:
    found = spec or getattr(model, "spec", None)
    if not isinstance(found, ResNetSpec):
        raise WeightsError(
            f"weights: {model.name} was not built in this process; give its spec"
        )
    return found


def _by_name(found: Any, model: Any) -> Arrays:
    """A Keras file's arrays by layer; of a file without names, in Keras' own order."""
    if found.named:
        return dict(found.arrays)
    from keras.src.utils.naming import to_snake_case

    counts: dict[str, int] = {}
    arrays = dict(found.arrays)
    for layer in model.layers:
        kind = to_snake_case(type(layer).__name__)
        number = counts.get(kind, 0)
        counts[kind] = number + 1
        key = f"{kind}_{number}" if number else kind
        if key in found.arrays:
            arrays[layer.name] = arrays.pop(key)
    return arrays


def _adapt_channels(arrays: Arrays, own: Mapping[str, Any]) -> None:
    """Gives the first convolution as many input channels as the model's has."""
    first = next((name for name in own if name in arrays), None)
    if first is None or arrays[first][0].ndim != 4:
        return
    kernel, *bias = arrays[first]
    wanted, held = own[first].weights[0].shape[2], kernel.shape[2]
    if wanted == held:
        return
    if wanted == 1:
        kernel = kernel.sum(axis=2, keepdims=True)
    else:
        kernel = kernel[:, :, np.arange(wanted) % held] * (held / wanted)
    arrays[first] = [kernel, *bias]


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


def _settings(model: Any, configs: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    """Layers of the file's shapes that would compute something else.

    Strides aren't compared with a network that dilates instead (`output_stride`).
    """
    ours = {layer.name: layer.get_config() for layer in model.layers}
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


def _some(what: str, names: list[str]) -> list[str]:
    if not names:
        return []
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return [f"{len(names)} {what}: {', '.join(names[:NAMED])}{more}"]


def _text(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape))


def _fitting(
    arrays: Arrays,
    tensors: Mapping[str, np.ndarray],
    dialect: Dialect | None,
    source: Path,
) -> str:
    """The presets that a file is of, whatever their classes and input channels."""
    found = []
    for name, preset in PRESETS.items():
        spec = preset.spec
        if dialect:
            if dialects.wrong_facts(spec, dialect):
                continue
            arrays, left = dialects.from_torch(tensors, spec, dialect, source)
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


def _body(shapes: Mapping[str, Any]) -> dict[str, Any]:
    """All but the classifier and the first kernel's input channels."""
    body = {name: value for name, value in shapes.items() if name != HEAD}
    for name in ("conv1_conv", "conv1_1_conv"):
        if name in body:
            kernel, *bias = body[name]
            body[name] = [(*kernel[:-2], kernel[-1]), *bias]
    return body
