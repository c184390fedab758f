"""Keras 3's `fit` under MultiWorkerMirroredStrategy: two corrections.

Keras (issue 20585) reduces the first batch, and then each step's metrics, over
workers as if they had a batch axis to reduce; both fail. The first batch is needed for
its shapes alone, and metrics are read from their variables, which TensorFlow reduces:
so each worker takes its own.

A test runs Keras uncorrected, and fails when this module is no longer needed.
"""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf
from keras.src.backend.tensorflow import trainer

from keras_resnet.training.devices.cluster import DistributionError
from keras_resnet.training.devices.strategy import is_multiworker

KNOWN = ("3.15",)  # versions of Keras that were tested with it


def correct_fit() -> None:
    """Corrects Keras in this process, for strategies of several workers only.

    Raises:
        DistributionError: a version of Keras that this was not tested with.
    """
    version = ".".join(keras.__version__.split(".")[:2])
    if version not in KNOWN:
        raise DistributionError(
            f"strategy: 'multiworker' corrects Keras {' and '.join(KNOWN)}, and is not "
            f"tested with {keras.__version__}; install keras=={KNOWN[-1]}.*"
        )
    if trainer.reduce_per_replica is _reduce_per_replica:
        return
    _KERAS["build"] = trainer.TensorFlowTrainer._maybe_symbolic_build
    _KERAS["reduce"] = trainer.reduce_per_replica
    trainer.TensorFlowTrainer._maybe_symbolic_build = _maybe_symbolic_build
    trainer.reduce_per_replica = _reduce_per_replica


_KERAS: dict[str, Any] = {}  # its own, for all other strategies


def _maybe_symbolic_build(
    model: Any, iterator: Any = None, data_batch: Any = None
) -> None:
    strategy = model._distribute_strategy
    if not is_multiworker(strategy):
        _KERAS["build"](model, iterator, data_batch)
        return
    if iterator is not None:
        _, _, batches = next(iter(iterator))
        data_batch = _own(strategy, next(batches))
    with strategy.scope():
        model._symbolic_build(data_batch=data_batch)


def _reduce_per_replica(values: Any, strategy: Any, reduction: str) -> Any:
    if reduction == "auto" and is_multiworker(strategy):
        return _own(strategy, values)
    return _KERAS["reduce"](values, strategy, reduction)


def _own(strategy: Any, values: Any) -> Any:
    """What this worker's first replica has."""
    return tf.nest.map_structure(
        lambda value: strategy.experimental_local_results(value)[0], values
    )
