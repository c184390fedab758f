"""A model as the functions that a server calls, by fixed names."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from keras_resnet.graphs import copy_of, is_graph, rebuild
from keras_resnet.heads import Head
from keras_resnet.serving import pixels as pixels_module

TOP = 5  # classes named in `labels`

# Up to so many bytes, weights are written as constants: TensorFlow's saver takes
# minutes over the variables of a thousand layers, and constants are served faster.
# While they are written they take about twelve times their size in memory.
FROZEN_LIMIT = 2**28

MAX_BATCH = 1024
BATCH_MEMORY = 2**32  # bytes that a request may take


def largest_batch(model: keras.Model) -> int:
    """Images of a request: what three of the largest layer's outputs leave room for.

    A power of two, at most `MAX_BATCH`.
    """
    sizes: list[int] = [1]
    for layer in model.layers:
        shape = getattr(getattr(layer, "output", None), "shape", ())
        size = 4
        for side in shape[1:]:
            size *= side or 256
        sizes.append(size)
    images: int = max(1, BATCH_MEMORY // (3 * max(sizes)))
    return min(MAX_BATCH, 1 << (images.bit_length() - 1))


def with_features(model: keras.Model) -> keras.Model:
    """The model with a second output, what its classifier sees, where there is one."""
    outputs = {"outputs": model.outputs[0]}
    last = next((layer for layer in reversed(model.layers) if layer.weights), None)
    if isinstance(last, keras.layers.Dense) and len(last.input.shape) == 2:
        outputs["features"] = last.input
    return keras.Model(model.inputs[0], outputs, name=model.name)


def make_signatures(
    module: tf.Module, model: keras.Model, head: Head, class_names: Sequence[str]
) -> dict[str, Any]:
    """Concrete functions by the names of their signatures.

    All of them call one function of the network, which is written once.

    Args:
        module: what is saved; it gets the weights that are not constants.
        model: from images to one output.
        head: what that is.
        class_names: of the labels.
    """
    shape = model.input_shape[1:]
    images = (None, *shape)
    network = _network(module, model, head, images)
    limit = largest_batch(model)
    top = min(TOP, len(class_names))

    def classify(pixels: Any) -> dict[str, Any]:
        probabilities = network(tf.cast(pixels, tf.float32))["answers"]
        if head.task == "regression":
            names = tf.constant([list(class_names)])
            return {
                "values": probabilities,
                "labels": tf.repeat(names, tf.shape(probabilities)[0], axis=0),
            }
        best = tf.math.top_k(probabilities, top).indices
        return {
            "probabilities": probabilities,
            "classes": tf.argmax(probabilities, axis=-1),
            "labels": tf.gather(tf.constant(list(class_names)), best),
        }

    def features(images: Any) -> dict[str, Any]:
        pixels = tf.cast(_checked(images, limit), tf.float32)
        return {"features": network(pixels)["features"]}

    functions: dict[str, tuple[Any, Any]] = {
        "serving_default": (
            lambda images: classify(_checked(images, limit)),
            tf.TensorSpec(images, tf.uint8, "images"),
        ),
        "serving_float": (
            lambda images: classify(_checked(images, limit)),
            tf.TensorSpec(images, tf.float32, "images"),
        ),
    }
    if len(shape) == 3 and None not in shape and shape[-1] in (1, 3):
        functions["image_bytes"] = (
            lambda image_bytes: classify(
                pixels_module.decode(_checked(image_bytes, limit), shape)
            ),
            tf.TensorSpec((None,), tf.string, "image_bytes"),
        )
    if "features" in network.structured_outputs:
        functions["features"] = (features, tf.TensorSpec(images, tf.uint8, "images"))
    return {
        name: tf.function(
            function, input_signature=[spec], autograph=False
        ).get_concrete_function()
        for name, (function, spec) in functions.items()
    }


def _network(
    module: tf.Module, model: keras.Model, head: Head, images: Sequence[int | None]
) -> Any:
    """float32 pixels -> answers, and features where the model has them."""
    both = with_features(model)
    variables = [variable.value for variable in model.variables]
    sizes = [value.shape.num_elements() * value.dtype.size for value in variables]
    frozen = sum(sizes) <= FROZEN_LIMIT
    if frozen:
        weights = [(variable, variable.numpy()) for variable in model.variables]
    else:
        module.weights = variables

    def network(pixels: Any) -> dict[str, Any]:
        with keras.StatelessScope(weights) if frozen else contextlib.nullcontext():
            found = both(pixels, training=False)
        # In float32 under mixed precision too.
        return {
            "answers": head.answers(found.pop("outputs")),
            **{name: tf.cast(value, tf.float32) for name, value in found.items()},
        }

    spec = tf.TensorSpec(images, tf.float32)
    return tf.function(
        network, input_signature=[spec], autograph=False
    ).get_concrete_function()


def is_float32(model: keras.Model) -> bool:
    """Whether all layers compute in float32, those of nested models too."""
    return all(
        is_float32(layer) if is_graph(layer) else layer.compute_dtype == "float32"
        for layer in model.layers
    )


def in_float32(model: keras.Model) -> keras.Model:
    """The model itself, or one that computes in float32 where it didn't.

    Quantized layers stay as they are.
    """

    def make(layer: Any) -> Any:
        if is_graph(layer):
            return in_float32(layer)
        quantized = getattr(layer, "quantization_mode", None)
        changes = {} if quantized else {"dtype": "float32"}
        is_layer = isinstance(layer, keras.Layer)
        return copy_of(layer, **(changes if is_layer else {}))

    if is_float32(model):
        return model
    return rebuild(
        model, make, weights=lambda each: None if is_graph(each) else each.get_weights()
    )


def portable(model: keras.Model, head: Head) -> tf.Module:
    """A module whose `serve` takes uint8 pixels alone: what other runtimes are given.

    Its weights are constants. It computes in float32: most converters have no
    half-precision.
    """
    from tensorflow.python.framework.convert_to_constants import (
        convert_variables_to_constants_v2,
    )

    model = in_float32(model)
    images = tf.TensorSpec((None, *model.input_shape[1:]), tf.uint8, "images")

    def network(images: Any) -> Any:
        return head.answers(model(tf.cast(images, tf.float32), training=False))

    traced = tf.function(network, input_signature=[images], autograph=False)
    frozen = convert_variables_to_constants_v2(traced.get_concrete_function())
    answer = "values" if head.task == "regression" else "probabilities"
    module = tf.Module()
    module.serve = tf.function(
        lambda images: {answer: frozen(images)[0]},
        input_signature=[images],
        autograph=False,
    )
    return module


def _checked(inputs: Any, limit: int) -> Any:
    """Inputs of the right shape: a server passes on whatever it is sent."""
    inputs = tf.ensure_shape(inputs, inputs.shape)
    count = tf.shape(inputs)[0]
    fits = tf.debugging.Assert(
        count <= limit, [f"at most {limit} images in a request, here", count]
    )
    with tf.control_dependencies([fits]):
        return tf.identity(inputs)
