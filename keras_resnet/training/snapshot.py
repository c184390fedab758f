"""A model's variables as arrays, and back: all that changes as it is trained."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import keras
import numpy as np


def weights_of(model: keras.Model) -> list[Any]:
    """Weights, random states and optimizer: what is true between two epochs.

    Keras' own files leave out the random states of dropout and stochastic depth.
    """
    return [*model.variables, *model.optimizer.variables]


def take(variables: Iterable[Any]) -> list[np.ndarray]:
    """An array for each variable.

    Replicas have own statistics and metrics within an epoch: where they differ, the
    array has an axis of replicas in front.
    """
    found = []
    for variable in variables:
        copies = [copy.numpy() for copy in _copies(variable)]
        same = all(np.array_equal(copies[0], other) for other in copies[1:])
        found.append(copies[0] if same else np.stack(copies))
    return found


def put(variables: Sequence[Any], arrays: Sequence[np.ndarray]) -> None:
    """Sets each variable to its array.

    Raises:
        ValueError: they are of another model or another number of replicas.
    """
    if len(variables) != len(arrays):
        raise ValueError(f"{len(arrays)} arrays for {len(variables)} variables")
    for variable, array in zip(variables, arrays, strict=True):
        copies, shape = _copies(variable), tuple(variable.shape)
        if array.shape not in (shape, (len(copies), *shape)):
            raise ValueError(f"shape {array.shape} for a variable of shape {shape}")
        whole = array.shape == shape
        for i, copy in enumerate(copies):
            copy.assign(array if whole else array[i])


def are_finite(arrays: Iterable[np.ndarray]) -> bool:
    """Whether no array has an infinity or what is not a number."""
    return all(np.isfinite(array).all() for array in arrays if array.dtype.kind == "f")


def _copies(variable: Any) -> Sequence[Any]:
    """TensorFlow's variables of a variable, one for each replica."""
    variable = variable.value if isinstance(variable, keras.Variable) else variable
    return getattr(variable, "values", None) or (variable,)
