"""Weights into a model, all or none, by name; and out of it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import keras

from keras_resnet import files
from keras_resnet.errors import WeightsError
from keras_resnet.network import build, pixel_stats_of
from keras_resnet.plan import stage_of
from keras_resnet.spec import ResNetSpec
from keras_resnet.weights import (
    channels,
    dialects,
    fitting,
    keras_files,
    origins,
    state_dicts,
    torch_files,
)
from keras_resnet.weights.dialects import HEAD, Arrays
from keras_resnet.weights.zoo import closest


def load(
    model: Any,
    source: Any,
    *,
    head: bool = True,
    adapt_channels: bool = False,
    dialect: str | None = None,
    key: str | None = None,
    spec: ResNetSpec | None = None,
) -> None:
    """Loads weights into a model: every one by its layer's name, or none at all.

    The head is every layer outside the stages conv1, conv2, ...: the classifier, and
    whatever else a model of yours has after its backbone.

    Args:
        model: a Keras model; for a state dict of torch a network of ours.
        source: another Keras model, a published name, a repository of the Hugging Face
            Hub ("hf:OWNER/NAME" or "timm/NAME"), a run folder (its best model), a
            `.keras`, `.weights.h5` or keras.applications' `.h5`, or a state dict of
            torchvision, timm or torch's CIFAR networks as `.safetensors` or `.pth`.
        head: whether the head is loaded too; else it stays as it is, in a model of
            other classes or of none.
        adapt_channels: whether a first convolution of another number of input
            channels is made from the file's; see `channels`.
        dialect: how the title of one of `dialects.DIALECTS` begins: whose names a state
            dict has, if that can't be seen in it.
        key: where in a checkpoint the state dict is, such as "state_dict_ema", or the
            prefix of its names; the usual ones are looked for if None.
        spec: the model's, if it was loaded and not built in this process; only state
            dicts need it.

    Raises:
        WeightsError: the file is missing, damaged or of another network. It lists
            what is missing, too much, of another shape or (where the file tells) of
            other strides, epsilon or factors of a sum, and names the preset that would
            fit, and leaves the model as it was.
    """
    own = _weighted(model)
    content = _read(source, model, _Options(head, dialect, key), spec)
    arrays = content.arrays
    if not head:
        own, arrays = (
            {name: value for name, value in each.items() if stage_of(name)}
            for each in (own, arrays)
        )
        if not own:
            raise WeightsError(f"weights: {model.name} has no stages to load into")
    if adapt_channels:
        arrays = channels.adapted(arrays, own)
    fitting.check(model, own, content._replace(arrays=arrays))
    for name, values in arrays.items():
        for weight, value in zip(own[name].weights, values, strict=True):
            weight.assign(value)


def _most(model: Any) -> int:
    """Bytes that a file of a model's weights may unpack to.

    With a larger head, an optimizer's state and numbers of double precision.
    """
    needed = sum(4 * math.prod(each.shape) for each in model.weights)
    return int(16 * needed + 2**28)


def _weighted(model: Any) -> dict[str, Any]:
    return {layer.name: layer for layer in fitting.layers_of(model) if layer.weights}


def _read(
    source: Any, model: Any, options: _Options, spec: ResNetSpec | None
) -> fitting.Content:
    """What a source holds, by the names of our layers."""
    if isinstance(source, keras.Model):
        layers = _weighted(source).items()
        arrays = {name: layer.get_weights() for name, layer in layers}
        return fitting.Content(source.name, arrays)
    found = origins.find(source)
    path = found.file
    if origins.is_torch(path):
        if options.head and pixel_stats_of(model) is None and found.pixel_stats:
            normalized = "its network normalizes pixels, this one doesn't: build it by"
            state_dicts.say([f"{normalized} pixel_stats={found.pixel_stats}"], path)
        return _read_torch(path, _spec_of(model, spec), options)
    held = keras_files.read(path, _most(model))
    arrays = _by_name(held, model)
    if found.described and found.described.bgr and "conv1_conv" in arrays:
        kernel, *bias = arrays["conv1_conv"]
        arrays["conv1_conv"] = [kernel[:, :, ::-1], *bias]
    return fitting.Content(str(path), arrays, held.configs)


class _Options(NamedTuple):
    """How a state dict is to be read."""

    head: bool
    dialect: str | None
    key: str | None


def _read_torch(path: Path, spec: ResNetSpec, options: _Options) -> fitting.Content:
    state = state_dicts.find(
        torch_files.read(path), dialects.first_tensors(), options.key, path
    )
    names = (
        dialects.by_title(options.dialect)
        if options.dialect
        else dialects.dialect_of(state.tensors, spec, path)
    )
    arrays, left = dialects.from_torch(state.tensors, spec, names, path)
    heads = dialects.heads_among(left, state.tensors, spec, names)
    if not options.head:
        left = [name for name in left if name not in {*heads, *state.beside}]
    elif HEAD not in arrays and (found_head := dialects.linear(heads, state.tensors)):
        title, arrays[HEAD] = found_head
        left = [name for name in left if name not in heads]
        state.chosen.append(f"took {title!r} for the classifier")
    state_dicts.say(state.chosen, path)
    return fitting.Content(str(path), arrays, {}, left, (state.tensors, names))


def save(
    model: Any,
    path: Path | str,
    *,
    dialect: str = "torchvision",
    spec: ResNetSpec | None = None,
) -> None:
    """Writes a network's weights as a state dict for torch, whole or not at all.

    Args:
        model: a network of ours. A `.safetensors` keeps its pixel statistics in the
            metadata, a `.pth` has no place for them.
        path: a `.safetensors` or `.pth` file, which needs torch.
        dialect: how the title of one of `dialects.DIALECTS` begins: whose network is
            to load it.
        spec: the model's, if it was loaded and not built in this process.

    Raises:
        WeightsError: a network that the dialect can't express, or another suffix.
        RunFolderError: the path can't be written.
    """
    path = Path(path)
    if not origins.is_torch(path):
        endings = ", ".join(origins.TORCH)
        raise WeightsError(f"weights: {path} doesn't end in {endings}")
    spec = _spec_of(model, spec)
    arrays = {name: layer.get_weights() for name, layer in _weighted(model).items()}
    tensors = dialects.to_torch(arrays, spec, dialects.by_title(dialect))
    with files.replacing(path) as temporary:
        torch_files.write(temporary, tensors, pixel_stats_of(model))


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


def pretrained(
    name: str,
    *,
    classes: int | None = None,
    input_shape: Sequence[int | None] | None = None,
    include_top: bool = True,
    pooling: Literal["avg", "max"] | None = None,
    **changes: Any,
) -> Any:
    """A published network with its weights: from raw RGB pixels to logits.

    Its preprocessing is inside: `pixel_stats` is the publisher's, and a network trained
    on blue, green, red has its first kernel turned round.

    Args:
        name: such as "torchvision/resnet50.IMAGENET1K_V2"; the keys of `PUBLISHED`.
        classes: with a new classifier of so many classes.
        input_shape: (height, width, channels) instead of the size that it was judged
            on; height and width may be None. For other channels see `channels`.
        include_top: whether to end in the classifier.
        pooling: as `build` has it.
        **changes: other fields of the spec that leave the weights' shapes, such as
            `output_stride`.

    Returns:
        The model; its `class_names` are the publisher's, or None.

    Raises:
        UserError: no such name, no connection, or a size or field that doesn't fit.
    """
    found = origins.find(name)
    described = found.described
    if described is None:
        if found.repository and not (classes or input_shape or pooling or changes):
            try:
                return files.load_keras(found.file, compile=False)
            except ValueError as error:
                raise WeightsError(f"weights: can't load {name}: {error}") from None
        if found.run:
            raise WeightsError(
                f"weights: {name} is a run; keras.models.load_model('{found.file}') is "
                "its whole model"
            )
        raise WeightsError(f"weights: {name} doesn't tell its network{closest(name)}")
    if input_shape is not None:
        changes["input_shape"] = tuple(input_shape)
    spec = described.spec.replace(**changes)
    stats = described.mean, described.std
    model = build(
        spec,
        classes=classes,
        include_top=include_top,
        pooling=pooling,
        pixel_stats=channels.adapted_stats(stats, spec.input_shape[-1]),
    )
    head = include_top and model.output_shape[-1] == spec.classes
    load(model, name, head=head, adapt_channels=True)
    if head:
        model.class_names = described.class_names
    return model
