"""What follows from the validation of the epochs so far: lower rates, an early end."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import keras

from keras_resnet.errors import RecipeError
from keras_resnet.recipe import Recipe
from keras_resnet.tasks import TASKS, Measure, TaskRow
from keras_resnet.training.resume import RunState, start_at


class Watcher(keras.callbacks.Callback):
    """Acts on a validation metric of all epochs so far.

    Keras' own callbacks forget what they counted when a run is resumed; here all
    follows from the history.

    Args:
        recipe: says what to do, and by its task what with.
        state: has the history of a resumed run.
    """

    field = ""  # of the recipe, that needs it

    def __init__(self, recipe: Recipe, state: RunState | None = None) -> None:
        super().__init__()
        self.recipe = recipe
        self.state = state
        self.measure = self.measure_of(TASKS[recipe.task])
        self.values: list[float] = []

    def measure_of(self, task: TaskRow) -> Measure:
        """What is watched of the validation images."""
        return task.monitor

    def on_train_begin(self, logs: Any = None) -> None:
        """Takes up the history."""
        rows = self.state.history if self.state else []
        self.values = [self._value(row) for row in rows]

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Adds the epoch."""
        self.values.append(self._value(logs or {}))

    def _value(self, row: dict[str, float]) -> float:
        """The less the better."""
        key = f"val_{self.measure.key}"
        if key not in row:
            raise RecipeError(
                f"recipe: {self.field} waits for the validation's metrics; give fit "
                "validation_data, or leave it out"
            )
        return -float(row[key]) if self.measure.higher else float(row[key])


class Plateau(Watcher):
    """Lowers the learning rate after each plateau of the validation error."""

    field = "schedule: 'plateau'"

    def measure_of(self, task: TaskRow) -> Measure:
        """The score: of classes accuracy, whose complement is the error."""
        return task.score

    def on_train_begin(self, logs: Any = None) -> None:
        """Sets the rate that the history leads to."""
        super().on_train_begin(logs)
        self._set_rate()

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Lowers the rate if the epoch ends a plateau."""
        super().on_epoch_end(epoch, logs)
        self._set_rate()

    def _set_rate(self) -> None:
        drops = count_plateaus(self.values, self.recipe.patience)
        rate = self.recipe.learning_rate * self.recipe.drop**drops
        self.model.optimizer.learning_rate = rate


class EarlyStop(Watcher):
    """Ends the training some epochs after the best one."""

    field = "early_stopping"

    def on_train_begin(self, logs: Any = None) -> None:
        """Begins no epoch if the history has come to its end."""
        super().on_train_begin(logs)
        if self._is_over():
            start_at(self.model, self.recipe.epochs)

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Ends the training if the epoch was one too many."""
        super().on_epoch_end(epoch, logs)
        if self._is_over():
            self.model.stop_training = True

    def _is_over(self) -> bool:
        return count_plateaus(self.values, self.recipe.early_stopping) > 0


def count_plateaus(errors: Sequence[float], patience: int) -> int:
    """How often `patience` epochs in a row brought no error below the least so far."""
    least, waited, plateaus = math.inf, 0, 0
    for error in errors:
        waited = 0 if error < least else waited + 1
        least = min(least, error)
        if waited == patience:
            waited, plateaus = 0, plateaus + 1
    return plateaus
