"""The callbacks that a recipe needs, in their order."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from keras_resnet.training.averaging import Averages
from keras_resnet.training.plateau import Plateau
from keras_resnet.training.resume import Order, RunState

if TYPE_CHECKING:
    from keras_resnet.data import Splits
    from keras_resnet.recipe import Recipe


def callbacks_of(
    recipe: Recipe, folder: Path | None, data: Splits | None, minutes: float
) -> list[Any]:
    """See `Recipe.callbacks`."""
    averages = Averages(recipe.ema) if recipe.ema else None
    state = RunState(folder, recipe, averages, data, minutes) if folder else None
    plateau = recipe.schedule == "plateau"
    # The averages are there before a checkpoint is read into them, the epoch's order
    # before it is entered in the middle, the history before its plateaus are counted.
    return [
        *([averages] if averages else []),
        *([Order(data)] if data else []),
        *([state] if state else []),
        *([Plateau(recipe, state)] if plateau else []),
    ]
