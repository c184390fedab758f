"""The callbacks that a recipe needs, in their order."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from keras_resnet.data import Splits
from keras_resnet.recipe import Recipe
from keras_resnet.run import Run
from keras_resnet.training.averaging import Averages
from keras_resnet.training.plateau import EarlyStop, Plateau
from keras_resnet.training.resume import MINUTES, Order, RunState


def callbacks_for(
    recipe: Recipe,
    folder: Run | Path | str | None = None,
    data: Splits | None = None,
    *,
    checkpoint_minutes: float = MINUTES,
) -> list[Any]:
    """Callbacks for `model.fit` that a recipe needs, in this order.

    Args:
        recipe: the recipe.
        folder: the run folder, where the run is kept and continued; nothing is written
            if None. A `Run` is one that has been opened.
        data: the splits whose `train` is fitted: their order then follows from the
            epoch, and a run is resumed within one. Without them a run is resumed at
            its last epoch's end, and its data's order is the caller's.
        checkpoint_minutes: between two checkpoints within an epoch.

    Raises:
        RunFolderError: the folder holds a finished run, another run or no run.
    """
    run = folder if isinstance(folder, Run) or folder is None else Run(folder)
    if run and run is not folder and run.open(recipe):
        run.clear_leftovers()
    averages = Averages(recipe.ema) if recipe.ema else None
    state = RunState(run, averages, data, checkpoint_minutes) if run else None
    # The averages are there before a checkpoint is read into them, the epoch's order
    # before it is entered in the middle, the history before anything follows from it.
    return [
        *([averages] if averages else []),
        *([Order(data)] if data else []),
        *([state] if state else []),
        *([Plateau(recipe, state)] if recipe.schedule == "plateau" else []),
        *([EarlyStop(recipe, state)] if recipe.early_stopping else []),
    ]
