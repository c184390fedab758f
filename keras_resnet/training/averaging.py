"""Averages of the weights over the last steps."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import keras
import tensorflow as tf


class Averages(keras.callbacks.Callback):
    """An exponential moving average of all weights: validated, and left at the end.

    Keras' own (`use_ema`, `SwapEMAWeights`) averages only what is trained: averaged
    convolutions meet the statistics of the latest ones, which do not fit while the
    learning rate is high. Here batch norms' moving statistics are averaged too, as
    torchvision and timm do.

    Args:
        decay: share of the average that a step keeps; less at first,
            (1 + step) / (10 + step), so that the initial weights are soon forgotten.
    """

    def __init__(self, decay: float) -> None:
        super().__init__()
        self.decay = decay
        self.averages: list[tf.Variable] = []
        self.step = self.seen = 0

    def on_train_begin(self, logs: Any = None) -> None:
        """Starts from the weights as they are."""
        self.averages = [tf.Variable(weight) for weight in self.model.weights]
        self.step = int(keras.ops.convert_to_numpy(self.model.optimizer.iterations))

        @tf.function
        def update(kept: tf.Tensor) -> None:
            for average, weight in zip(self.averages, self.model.weights, strict=True):
                average.assign_add((1 - kept) * (weight - average))

        self.update = update

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Counts the epoch's steps from zero."""
        self.seen = 0

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """Moves the averages by the steps that were done."""
        seen = steps_done(batch, self.params)
        if seen <= self.seen:
            return  # a step of before the run was stopped
        steps, self.seen = seen - self.seen, seen
        self.step += steps
        kept = min(self.decay, (1 + self.step) / (10 + self.step)) ** steps
        self.update(tf.constant(kept, tf.float32))

    def on_test_begin(self, logs: Any = None) -> None:
        """Validates the averages."""
        self._swap()

    def on_test_end(self, logs: Any = None) -> None:
        """Goes on with the latest weights."""
        self._swap()

    def on_train_end(self, logs: Any = None) -> None:
        """Leaves the averages in the model."""
        for average, weight in zip(self.averages, self.model.weights, strict=True):
            weight.assign(average)

    @contextmanager
    def in_model(self) -> Iterator[None]:
        """The averages as the model's weights, for a while."""
        self._swap()
        try:
            yield
        finally:
            self._swap()

    def _swap(self) -> None:
        for average, weight in zip(self.averages, self.model.weights, strict=True):
            latest = keras.ops.convert_to_numpy(weight)
            weight.assign(average)
            average.assign(latest)


def steps_done(batch: int, params: dict[str, Any]) -> int:
    """Steps of the epoch after the one of index `batch`.

    Under `steps_per_execution` Keras counts the last one beyond the end.
    """
    return min(batch + 1, params.get("steps") or batch + 1)
