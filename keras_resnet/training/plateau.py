"""Learning rates that fall when the validation error no longer does."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import keras

from keras_resnet.errors import RecipeError
from keras_resnet.recipe import Recipe
from keras_resnet.training.resume import RunState


class Plateau(keras.callbacks.Callback):
    """Lowers the learning rate after each plateau of the validation error.

    `keras.callbacks.ReduceLROnPlateau` forgets its count when a run is resumed; here
    the rate follows from the history.

    Args:
        recipe: has the first rate, the factor of a drop and the length of a plateau.
        state: has the history of a resumed run.
    """

    def __init__(self, recipe: Recipe, state: RunState | None = None) -> None:
        super().__init__()
        self.recipe = recipe
        self.state = state
        self.errors: list[float] = []

    def on_train_begin(self, logs: Any = None) -> None:
        """Takes up the history."""
        rows = self.state.history if self.state else []
        self.errors = [_error(row) for row in rows]
        self._set_rate()

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Lowers the rate if the epoch ends a plateau."""
        self.errors.append(_error(logs or {}))
        self._set_rate()

    def _set_rate(self) -> None:
        drops = count_plateaus(self.errors, self.recipe.patience)
        rate = self.recipe.learning_rate * self.recipe.drop**drops
        self.model.optimizer.learning_rate = rate


def count_plateaus(errors: Sequence[float], patience: int) -> int:
    """How often `patience` epochs in a row brought no error below the least so far."""
    least, waited, plateaus = math.inf, 0, 0
    for error in errors:
        waited = 0 if error < least else waited + 1
        least = min(least, error)
        if waited == patience:
            waited, plateaus = 0, plateaus + 1
    return plateaus


def _error(row: dict[str, float]) -> float:
    if "val_accuracy" not in row:
        raise RecipeError(
            "recipe: schedule: 'plateau' waits for the validation error; give fit "
            "validation_data, or take another schedule"
        )
    return 1 - float(row["val_accuracy"])
