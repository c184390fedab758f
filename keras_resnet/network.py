"""build(spec) -> a functional keras.Model."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Sequence
from typing import Any, Literal

import keras
import numpy as np

from keras_resnet import blocks, runtime
from keras_resnet.errors import SpecError
from keras_resnet.plan import LAST, make_plan, stage_of
from keras_resnet.presets import get_spec
from keras_resnet.recompute import Recomputing
from keras_resnet.spec import ResNetSpec

PixelStats = tuple[Sequence[float], Sequence[float]]


def build(
    spec: ResNetSpec | str,
    *,
    input_shape: Sequence[int | None] | None = None,
    classes: int | None = None,
    include_top: bool = True,
    pooling: Literal["avg", "max"] | None = None,
    classifier_activation: str | None = None,
    pixel_stats: PixelStats | None = None,
    target_stats: PixelStats | None = None,
    input_tensor: Any = None,
    recompute: bool = False,
    **changes: Any,
) -> keras.Model:
    """Builds a network as a functional model, layers named as keras.applications'.

    Args:
        spec: a spec, or the name of a preset.
        input_shape: (height, width, channels) instead of the spec's; height and
            width may be None.
        classes: number of classes instead of the spec's.
        include_top: whether to end in the classifier.
        pooling: without the classifier, "avg" or "max" over the image, or None for
            the last feature map.
        classifier_activation: None for logits, "softmax" for probabilities.
        pixel_stats: (mean, standard deviation) of each channel; the model then takes
            raw pixels and normalizes them itself, in float32.
        target_stats: (mean, standard deviation) of each number of a regression; the
            model then ends in values in their units, while it learns standardized
            ones.
        input_tensor: a Keras tensor to build on instead of a new input.
        recompute: whether training keeps only the inputs of units and computes their
            activations again: less memory, a third more computation. What the model
            computes is the same.
        **changes: other fields of the spec.

    Returns:
        A model from (batch, *input_shape) to float32 (batch, classes). Without the
        classifier, to the last feature map (batch, height, width, channels), or where
        it is pooled or the network is dense, to (batch, channels), in the dtype that
        the policy computes in.

    Raises:
        SpecError: no such preset, a wrong field or size, or Keras is set to
            channels-first images.
    """
    check_keras()
    if input_tensor is not None:
        input_shape = _shape_of(input_tensor, input_shape)
    if input_shape is not None:
        is_sequence = isinstance(input_shape, Sequence)
        changes["input_shape"] = tuple(input_shape) if is_sequence else input_shape
    if classes is not None:
        changes["classes"] = classes
    spec = spec if isinstance(spec, ResNetSpec) else get_spec(spec)
    spec = spec.replace(**changes)
    if pooling not in (None, "avg", "max"):
        raise SpecError(f"pooling: {pooling!r} is not 'avg', 'max' or None")
    if pooling and (include_top or spec.block == "dense"):
        raise SpecError(
            f"pooling: {pooling!r} needs include_top=False and a network of images"
        )
    plan = make_plan(spec)
    runtime.warn_once()
    inputs, x = stem_input(spec, pixel_stats, input_tensor)
    x = blocks.chain(plan.stem, x, spec)
    for unit in plan.units:
        x = blocks.unit(x, unit, spec)
    if include_top:
        *head, classifier = plan.head
        x = blocks.chain(head, x, spec)
        x = blocks.classifier(classifier, classifier_activation)(x)
        x = _rescaled(x, target_stats)
    else:
        post = [op for op in plan.head if stage_of(op.name) == LAST]
        x = blocks.chain(post, x, spec)
        if pooling == "avg":
            x = keras.layers.GlobalAveragePooling2D(name="avg_pool")(x)
        elif pooling == "max":
            x = keras.layers.GlobalMaxPooling2D(name="max_pool")(x)
    model = (Recomputing if recompute else keras.Model)(inputs, x, name=spec.name)
    model.spec = spec  # for surgery; files don't keep it
    return model


def check_keras() -> None:
    """Refuses to build on another backend of Keras, or where images are channels-first.

    Raises:
        SpecError: it is.
    """
    runtime.check_backend(keras.backend.backend())
    if keras.config.image_data_format() != "channels_last":
        raise SpecError(
            "image_data_format: networks are built on channels-last images; call "
            "keras.config.set_image_data_format('channels_last') or mend keras.json"
        )


def stem_input(
    spec: ResNetSpec, pixel_stats: PixelStats | None, tensor: Any = None
) -> tuple[Any, Any]:
    """The model's inputs, and what goes into its stem."""
    if tensor is None:
        inputs = x = keras.Input(spec.input_shape, name="image")
    else:
        x = tensor
        sources = keras.utils.get_source_inputs(tensor)
        inputs = sources[0] if len(sources) == 1 else sources
    if pixel_stats is not None:
        x = _normalization(pixel_stats, spec)(x)
    return inputs, x


def pixel_stats_of(model: keras.Model) -> PixelStats | None:
    """The `pixel_stats` that a model was built with."""
    for layer in model.layers:
        if layer.name == "pixel_stats":
            mean, variance = (
                np.ravel(keras.ops.convert_to_numpy(statistic)).tolist()
                for statistic in (layer.mean, layer.variance)
            )
            return mean, np.sqrt(variance).tolist()
    return None


def _rescaled(values: Any, stats: PixelStats | None) -> Any:
    """Standardized values -> those in the targets' units; a layer without weights."""
    if stats is None:
        return values
    mean, deviation = (list(map(float, numbers)) for numbers in stats)
    return keras.layers.Rescaling(
        deviation, mean, dtype="float32", name="target_stats"
    )(values)


def target_stats_of(model: keras.Model) -> PixelStats | None:
    """The `target_stats` that a model was built with."""
    for layer in model.layers:
        if layer.name == "target_stats":
            return list(layer.offset), list(layer.scale)
    return None


def _shape_of(
    tensor: Any, input_shape: Sequence[int | None] | None
) -> tuple[int | None, ...]:
    """The shape of one image of a Keras tensor, that must not contradict another."""
    if not isinstance(tensor, keras.KerasTensor):
        raise SpecError(
            f"input_tensor: {type(tensor).__name__} is not a Keras tensor, as "
            "keras.Input makes"
        )
    shape = tuple(tensor.shape[1:])
    if input_shape is not None and (
        len(input_shape) != len(shape)
        or any(
            None not in (given, own) and given != own
            for given, own in zip(input_shape, shape, strict=True)
        )
    ):
        raise SpecError(
            f"input_shape: {list(input_shape)} is not the input_tensor's {list(shape)}"
        )
    return shape


@contextlib.contextmanager
def under_policy(policy: Any) -> Iterator[None]:
    """Keras' policy of dtypes, for a while; None leaves it as it is."""
    before = keras.config.dtype_policy()
    if policy is not None:
        keras.config.set_dtype_policy(policy)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


def _normalization(
    pixel_stats: PixelStats, spec: ResNetSpec
) -> keras.layers.Normalization:
    channels = spec.input_shape[-1]
    try:
        mean, std = (list(map(float, numbers)) for numbers in pixel_stats)
        fits = len(mean) == len(std) == channels and all(
            math.isfinite(m) and math.isfinite(s) and s > 0
            for m, s in zip(mean, std, strict=True)
        )
    except (TypeError, ValueError):
        fits = False
    if not fits:
        raise SpecError(
            f"pixel_stats: {pixel_stats!r} is not {channels} means and {channels} "
            "positive standard deviations"
        )
    return keras.layers.Normalization(
        mean=mean,
        variance=[number**2 for number in std],
        dtype="float32",
        name="pixel_stats",
    )
