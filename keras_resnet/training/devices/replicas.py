"""What replicas share: batches, batch norm's statistics, the chief's state."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_resnet.layers import Skip
from keras_resnet.training import snapshot
from keras_resnet.training.averaging import Averages
from keras_resnet.training.devices.cluster import DistributionError
from keras_resnet.training.devices.strategy import (
    is_chief,
    is_multiworker,
    replicas_of,
)
from keras_resnet.training.plateau import Watcher
from keras_resnet.training.resume import first_epoch, start_at


def for_replicas(dataset: Any, strategy: Any, *, training: bool) -> Any:
    """A data set of global batches of which every replica gets a part.

    A replica without an image fails or spoils the step: oneDNN's convolution of an
    empty batch has its input's channels, and a batch norm's mean of nothing is not a
    number. In training, a batch that doesn't divide is filled up with images of its
    own, so that all count the same. In evaluation nothing is seen twice: a batch
    smaller than the replicas takes images of the one before. Batches stay as many.

    Every worker reads all of the data and takes its part of each batch, so data sets
    must be equal on all of them: one source, one seed, and a fixed order.

    Args:
        dataset: batches, tensors or structures of them, of one image size.
        strategy: None leaves everything as it is.
        training: whether to fill up.

    Raises:
        DistributionError: batches to evaluate that are too small for the replicas.
    """
    replicas = replicas_of(strategy)
    if strategy is None:
        return dataset
    if training:
        dataset = dataset.map(
            lambda *batch: _filled_up(batch, replicas),
            num_parallel_calls=tf.data.AUTOTUNE,
        )
    else:
        least = 2 * replicas - 1  # then what is left of a batch is enough, too
        if _length(next(iter(dataset))) < least:
            raise DistributionError(
                f"data: {replicas} devices need batches of at least {least} images to "
                "evaluate; use fewer devices or larger batches"
            )
        dataset = _shared_out(dataset, replicas)
    options = tf.data.Options()
    policy = tf.data.experimental.AutoShardPolicy.DATA
    options.experimental_distribute.auto_shard_policy = policy
    options.deterministic = True
    options.autotune.enabled = False  # as `data.pipeline` has it
    return dataset.with_options(options).prefetch(tf.data.AUTOTUNE)


def _length(batch: Any) -> Any:
    return tf.shape(tf.nest.flatten(batch)[0])[0]


def _filled_up(batch: Any, replicas: int) -> Any:
    length = _length(batch)
    index = tf.range(-(-length // replicas) * replicas) % length
    return tf.nest.map_structure(lambda values: tf.gather(values, index), batch)


def _shared_out(dataset: Any, least: int) -> Any:
    """Batches, of which one shorter than `least` takes from the one before."""
    nothing = tf.nest.map_structure(
        lambda spec: tf.zeros((0, *spec.shape[1:]), spec.dtype), dataset.element_spec
    )

    def step(held: Any, batch: Any) -> Any:
        # A batch is held back until it is known how long the next one is.
        length = _length(batch)
        taken = tf.where((length > 0) & (length < least), least - length, 0)
        kept = _length(held) - taken
        return (
            tf.nest.map_structure(
                lambda old, new: tf.concat([old[kept:], new], 0), held, batch
            ),
            tf.nest.map_structure(lambda old: old[:kept], held),
        )

    ended = dataset.concatenate(tf.data.Dataset.from_tensors(nothing))
    return ended.scan(nothing, step).skip(1)


def synchronize_batch_norm(model: keras.Model) -> None:
    """Takes batch norm's statistics over all replicas, not over each one's part.

    Training then equals that on one device, for two more all-reduces a layer. By
    default each replica has its own, as in Goyal 2017 (section 3.1). Call it before
    the model is compiled.

    Raises:
        DistributionError: the model has batch-wise stochastic depth.
    """
    if any(isinstance(layer, Skip) for layer in _layers(model)):
        raise DistributionError(
            "sync_batch_norm: with batch-wise stochastic depth, statistics of skipped "
            "branches would be taken too; use survival_mode 'sample'"
        )
    for layer in _batch_norms(model):
        layer.synchronized = True


def _layers(model: keras.Model) -> Iterator[Any]:
    for layer in model.layers:
        if isinstance(layer, keras.Model):
            yield from _layers(layer)
        else:
            yield layer


def _batch_norms(model: keras.Model) -> list[Any]:
    kind = keras.layers.BatchNormalization
    return [layer for layer in _layers(model) if isinstance(layer, kind)]


def with_shared_state(
    callbacks: Sequence[keras.callbacks.Callback], strategy: Any
) -> list[keras.callbacks.Callback]:
    """Callbacks for `fit` under a strategy, among them what keeps replicas one model.

    Args:
        callbacks: the run's. Workers other than the chief leave out what writes, and
            have all that steers the training.
        strategy: or None.
    """
    if strategy is None:
        return list(callbacks)
    # What averages of weights put into the model is averaged over replicas, too.
    averages = [callback for callback in callbacks if isinstance(callback, Averages)]
    others = [callback for callback in callbacks if callback not in averages]
    follow = [FollowChief(callbacks, strategy)] if is_multiworker(strategy) else []
    return [*averages, AverageStatistics(strategy), *others, *follow]


class AverageStatistics(keras.callbacks.Callback):
    """Averages batch norm's moving statistics before they are used or saved.

    Each replica moves its own; the files would hold the first one's, and validation
    would use all.
    """

    def __init__(self, strategy: Any) -> None:
        super().__init__()
        self.strategy = strategy
        self.average: Any = None

    def on_train_begin(self, logs: Any = None) -> None:
        """Makes the function."""
        statistics = [
            variable.value
            for layer in _batch_norms(self.model)
            if layer.trainable  # frozen ones stay as they are, bit for bit
            for variable in (layer.moving_mean, layer.moving_variance)
        ]

        def average() -> None:
            replica = tf.distribute.get_replica_context()
            own = [tf.identity(statistic) for statistic in statistics]
            means = replica.all_reduce(tf.distribute.ReduceOp.MEAN, own)
            for statistic, mean in zip(statistics, means, strict=True):
                statistic.assign(mean)

        run = tf.function(lambda: self.strategy.run(average))
        self.average = run if statistics else lambda: None

    def on_test_begin(self, logs: Any = None) -> None:
        """Averages."""
        self.average()

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Averages."""
        self.average()


class FollowChief(keras.callbacks.Callback):
    """Starts all workers where the chief does: a resumed run's folder is its alone.

    Epoch, weights, random states, optimizer, averages and plateaus. After the callback
    that restores.
    """

    def __init__(
        self, callbacks: Sequence[keras.callbacks.Callback], strategy: Any
    ) -> None:
        super().__init__()
        self.callbacks = callbacks
        self.strategy = strategy

    def on_train_begin(self, logs: Any = None) -> None:
        """Copies."""
        model = self.model
        epoch = int(from_chief(first_epoch(model), self.strategy))
        if not epoch:
            return
        start_at(model, epoch)
        self._copy(snapshot.weights_of(model))
        for callback in self.callbacks:
            if isinstance(callback, Averages):
                self._copy(callback.averages)
                callback.resume(in_model=True)  # as at every epoch's end
            elif isinstance(callback, Watcher):
                count = int(from_chief(len(callback.values), self.strategy))
                values = callback.values or [0.0] * count
                callback.values = from_chief(values, self.strategy).tolist()

    def _copy(self, variables: Sequence[Any]) -> None:
        for variable in variables:
            variable.assign(from_chief(variable.numpy(), self.strategy))


def from_chief(value: Any, strategy: Any) -> np.ndarray:
    """The chief's number or array, on every worker; all must call it."""
    value = np.asarray(value)
    # The sum of it and of zeros; 64 bits hold integers of 53 and floats of 32.
    own = np.where(is_chief(strategy), value.astype("float64"), 0.0)
    total = strategy.reduce("SUM", tf.constant(own), axis=None)
    return np.asarray(total).astype(value.dtype)
