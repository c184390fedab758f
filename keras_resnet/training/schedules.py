"""The learning rate of a recipe, as a function of the step."""

from __future__ import annotations

from typing import Any

import keras

from keras_resnet.optimizers import WarmUp, step_decay
from keras_resnet.recipe import Recipe


def learning_rates(recipe: Recipe, steps: int) -> Any:
    """The learning rate: a schedule by step, or a number where nothing changes it.

    Args:
        recipe: the recipe.
        steps: steps an epoch.
    """
    total, warmup = recipe.epochs * steps, round(recipe.warmup_epochs * steps)
    rate: Any = recipe.learning_rate
    if recipe.schedule == "cosine":  # constant as long as it is warmed up
        rate = keras.optimizers.schedules.CosineDecay(
            rate,
            max(total - warmup, 1),
            warmup_target=rate if warmup else None,
            warmup_steps=warmup,
        )
    elif recipe.schedule == "steps":
        drops = [round(drop * total) for drop in recipe.drops]
        rate = step_decay(rate, drops, recipe.drop)
    if warmup:
        rate = WarmUp(rate, warmup, recipe.warmup_start, recipe.warmup == "linear")
    return rate


def rates_by_epoch(recipe: Recipe, steps: int) -> list[tuple[float, float]]:
    """(epochs that are done, learning rate), some 300 of them.

    None of a recipe whose rate follows the validation error.
    """
    if recipe.schedule == "plateau":
        return []
    rate = learning_rates(recipe, steps)
    total = recipe.epochs * steps
    return [
        (step / steps, float(rate(step) if callable(rate) else rate))
        for step in range(0, total + 1, max(total // 300, 1))
    ]
