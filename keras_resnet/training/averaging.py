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

    The averages stand in the model from an epoch's last step to the next one's first.
    So all that Keras calls at the end of an epoch has them, whatever the order of the
    callbacks: validation, `ModelCheckpoint`, `EarlyStopping`. (Where the number of
    steps is unknown, from validation or this callback's own turn on.)

    Args:
        decay: share of the average that a step keeps; less at first,
            (1 + step) / (10 + step), so that the initial weights are soon forgotten.
    """

    def __init__(self, decay: float) -> None:
        super().__init__()
        self.decay = decay
        self.averages: list[tf.Variable] = []
        self.step = self.seen = 0
        self.started = self.in_model = False

    def on_train_begin(self, logs: Any = None) -> None:
        """Makes the variables."""
        self.averages = [tf.Variable(weight) for weight in self.model.weights]
        self.started = self.in_model = False

        @tf.function
        def update(kept: tf.Tensor) -> None:
            for average, weight in zip(self.averages, self.model.weights, strict=True):
                average.assign_add((1 - kept) * (weight - average))

        self.update = update

    def resume(self, in_model: bool = False) -> None:
        """Goes on with what the variables were set to, after the optimizer's steps.

        Args:
            in_model: whether the averages are in the model, the latest weights here.
        """
        self.in_model = in_model
        self.step = int(keras.ops.convert_to_numpy(self.model.optimizer.iterations))
        self.started = True

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Counts the epoch's steps from zero."""
        self.seen = 0

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        """Trains the latest weights; the averages start from the first of them."""
        if self.in_model:
            self._swap()
        if not self.started:  # another callback may have restored weights until now
            for average, weight in zip(self.averages, self.model.weights, strict=True):
                average.assign(keras.ops.convert_to_numpy(weight))
            self.resume()

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """Moves the averages by the steps that were done."""
        seen = steps_done(batch, self.params)
        if seen > self.seen:  # not a step of before the run was stopped
            steps, self.seen = seen - self.seen, seen
            self.step += steps
            kept = min(self.decay, (1 + self.step) / (10 + self.step)) ** steps
            self.update(tf.constant(kept, tf.float32))
        if seen == self.params.get("steps"):
            self.show()

    def on_test_begin(self, logs: Any = None) -> None:
        """Validates the averages."""
        self.show()

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Leaves the averages to the callbacks after this one."""
        self.show()

    def on_train_end(self, logs: Any = None) -> None:
        """Leaves the averages in the model."""
        self.show()

    @contextmanager
    def latest(self) -> Iterator[None]:
        """The latest weights in the model, for a while."""
        shown = self.in_model
        if shown:
            self._swap()
        try:
            yield
        finally:
            if shown:
                self._swap()

    def show(self) -> None:
        """Puts the averages into the model."""
        if self.started and not self.in_model:
            self._swap()

    def _swap(self) -> None:
        self.in_model = not self.in_model
        for average, weight in zip(self.averages, self.model.weights, strict=True):
            latest = keras.ops.convert_to_numpy(weight)
            weight.assign(average)
            average.assign(latest)


def steps_done(batch: int, params: dict[str, Any]) -> int:
    """Steps of the epoch after the one of index `batch`.

    Under `steps_per_execution` Keras counts the last one beyond the end.
    """
    return min(batch + 1, params.get("steps") or batch + 1)
