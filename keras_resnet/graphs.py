"""Functional models made again, layer by layer."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import keras

from keras_resnet.errors import UserError, one_line


class GraphError(UserError):
    """A model whose layers can't be walked."""


def is_graph(layer: Any) -> bool:
    """Whether a layer is a model that says which of its layers goes into which."""
    return isinstance(layer, keras.Sequential) or (
        isinstance(layer, keras.Model) and hasattr(layer, "operations")
    )


def walkable(model: keras.Model) -> Any:
    """The functional model, also a sequential model's, whose nodes can be walked.

    Raises:
        GraphError: there is none.
    """
    functional = getattr(model, "_functional", model)
    if not hasattr(functional, "operations"):
        raise GraphError(
            f"model: {getattr(model, 'name', model)!r} is not a functional or "
            "sequential model that has been built; its layers can't be walked"
        )
    return functional


def check_loadable(model: keras.Model) -> None:
    """Refuses a model that a file would not bring back.

    Raises:
        GraphError: Keras can't make it from its configuration.
    """
    try:
        keras.saving.deserialize_keras_object(
            keras.saving.serialize_keras_object(model)
        )
    except Exception as error:  # whatever code of others raises
        reason = one_line(error).partition(". ")[0]  # what follows is all of it
        raise GraphError(
            f"model: {model.name} could be saved but not loaded; register its classes "
            f"by keras.saving.register_keras_serializable: {reason}"
        ) from None


def copy_of(layer: Any, **changes: Any) -> Any:
    """A layer or operation of the same configuration or a changed one, no weights."""
    config = layer.get_config() | changes
    # The function of a Lambda is in memory already: nothing is read from a file.
    trusted = {"safe_mode": False} if isinstance(layer, keras.layers.Lambda) else {}
    return type(layer).from_config(config, **trusted)


def rebuild(
    model: keras.Model,
    make: Callable[[Any], Any] = copy_of,
    *,
    call: Callable[..., Any] | None = None,
    weights: Callable[[Any], Any] = keras.Layer.get_weights,
    inline: bool = False,
) -> keras.Model:
    """A model of new layers, connected as a model's. That one is left as it is.

    Layers, also the inputs', keep their names. The result is a plain functional model
    and not compiled, whatever the class of the model was.

    Args:
        model: a functional or sequential model.
        make: gives the new layer of a layer. It is asked once for a layer that is
            called several times.
        call: `call(layer, new, *inputs, **options)` instead of
            `new(*inputs, **options)`.
        weights: what the new layer of a layer is given, if not None.
        inline: whether the layers of nested models take their models' places. Where
            two have one name, the later gets its model's name before its own.

    Raises:
        GraphError: layers of the model, or of one to be inlined, can't be walked.
    """
    made: dict[Any, Any] = {}
    names = {layer.name for layer in model.layers}

    def new(layer: Any, owner: keras.Model) -> Any:
        if layer not in made:
            made[layer] = make(layer)
            if owner is not model:
                if layer.name in names:
                    made[layer].name = f"{owner.name}_{layer.name}"
                names.add(made[layer].name)
        return made[layer]

    def run(owner: keras.Model, inputs: Any, training: bool | None = None) -> Any:
        def step(layer: Any, *inputs: Any, **options: Any) -> Any:
            if training is not None and _takes_training(layer):
                options["training"] = training
            if inline and isinstance(layer, keras.Model):  # or it is refused
                return run(layer, inputs, options.get("training"))
            made = new(layer, owner)
            return (
                call(layer, made, *inputs, **options)
                if call
                else made(*inputs, **options)
            )

        return walkable(owner)._run_through_graph(inputs, call_fn=step)

    inputs = keras.tree.map_structure(_input_like, walkable(model).input)
    rebuilt = keras.Model(inputs, run(model, inputs), name=model.name)
    for layer, copy in made.items():
        if isinstance(copy, keras.Layer) and copy.weights:
            values = weights(layer)
            if values is None:
                continue
            try:
                copy.set_weights(values)
            except ValueError as error:  # such as of one quantized to float8
                raise GraphError(
                    f"model: {model.name}: {layer.name} can't be copied: "
                    f"{one_line(error)}"
                ) from None
            if isinstance(copy, keras.layers.Normalization):
                copy.finalize_state()  # it works by what it makes of its weights
    return rebuilt


def flat(model: keras.Model) -> keras.Model:
    """The model itself, or where models are nested in it a copy of layers alone.

    Raises:
        GraphError: a nested model's layers can't be walked.
    """
    nested = any(isinstance(layer, keras.Model) for layer in model.layers)
    return rebuild(model, inline=True) if nested else model


def _input_like(tensor: Any) -> Any:
    """An input of the same layer name; its tensor may have had another."""
    source = tensor._keras_history.operation
    return keras.Input(
        batch_shape=tensor.shape,
        dtype=tensor.dtype,
        sparse=tensor.sparse,
        name=source.name,
        optional=getattr(source, "optional", False),
    )


def _takes_training(layer: Any) -> bool:
    return "training" in inspect.signature(layer.call).parameters
