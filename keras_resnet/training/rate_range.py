"""A range test of the learning rate (Smith 2017, 1506.01186, section 3.3).

Steps at rates that grow by equal factors, until the loss is far above its least. Where
it falls fastest is a rate to try first. That is no proof of a good one: a whole
training decides.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, NamedTuple

import keras
import numpy as np

from keras_resnet.data import Splits
from keras_resnet.figures import COLORS, new_figure, write_figure
from keras_resnet.recipe import Recipe
from keras_resnet.training.compile import compile_args
from keras_resnet.training.resume import TrainingError
from keras_resnet.units import count

LOW, HIGH, STEPS = 1e-5, 10.0, 100
SMOOTHED = 0.9  # share of the average of the losses before
DIVERGED = 4.0  # times the least loss
FEWEST = 10  # steps that a curve needs


class RateRange(NamedTuple):
    """What a range test found.

    Attributes:
        rates: of each step.
        losses: smoothed.
        suggestion: where the loss falls fastest; a first one to try.
    """

    rates: list[float]
    losses: list[float]
    suggestion: float


def range_test(
    model: keras.Model,
    recipe: Recipe,
    data: Splits,
    *,
    low: float = LOW,
    high: float = HIGH,
    steps: int = STEPS,
) -> RateRange:
    """Trains a model for some steps at growing rates; it is spoiled then.

    Args:
        model: the recipe's network, with the weights that training starts from.
        recipe: its optimizer, loss and batches; not its rates.
        data: to train on.
        low: the first rate.
        high: the last rate.
        steps: how many.

    Raises:
        TrainingError: the loss is no number within the first steps.
    """
    plain = recipe.replace(
        learning_rate=low,
        schedule="constant",
        drops=(),
        warmup_epochs=0,
        steps_per_execution=1,
    )
    counts = data.class_counts.get("train", ())
    model.compile(**compile_args(plain, model, data.steps, counts))
    batches = iter(data.train.repeat())
    rates: list[float] = []
    losses: list[float] = []
    average = 0.0
    for step in range(steps):
        rate = low * (high / low) ** (step / max(steps - 1, 1))
        model.optimizer.learning_rate = rate
        model.reset_metrics()
        loss = model.train_on_batch(*next(batches), return_dict=True)["loss"]
        average = SMOOTHED * average + (1 - SMOOTHED) * float(loss)
        smoothed = average / (1 - SMOOTHED ** (step + 1))
        if not math.isfinite(smoothed) or (
            step >= FEWEST and smoothed > DIVERGED * min(losses)
        ):
            break
        rates.append(rate)
        losses.append(smoothed)
    if len(rates) < FEWEST:
        raise TrainingError(
            f"rate: the loss is no number after {count(len(rates), 'step')} from "
            f"{low:g} on; begin lower (--low)"
        )
    # Over a tenth of the curve, which is rough; up to its least.
    half = max(len(losses) // 20, 2)
    falls = np.subtract(losses[: -2 * half], losses[2 * half :])
    fastest = int(falls[: max(int(np.argmin(losses)) - half, 1)].argmax()) + half
    return RateRange(rates, losses, rates[fastest])


def draw_rates(found: RateRange, path: Path, current: float) -> None:
    """The curve, with the suggestion and the recipe's own rate."""
    figure, axes = new_figure(6, 4)
    axes.plot(found.rates, found.losses, color=COLORS[0])
    marks: list[tuple[str, float, Any]] = [
        ("steepest", found.suggestion, "--"),
        ("the recipe's", current, ":"),
    ]
    for (label, rate, style), color in zip(marks, COLORS[1:], strict=False):
        axes.axvline(rate, linestyle=style, color=color, label=f"{label}: {rate:.2g}")
    axes.set(xscale="log", xlabel="learning rate", ylabel="training loss, smoothed")
    axes.legend()
    write_figure(path, figure)
