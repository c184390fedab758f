"""How good a network is that gives values, in the targets' own units."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from keras_resnet.figures import COLORS, new_figure, short_name, write_figure
from keras_resnet.tasks import target_text
from keras_resnet.training.evaluation import WORST, Mistake

DRAWN = 4  # values of a picture


class ValueEvaluation(NamedTuple):
    """What values are worth.

    Attributes:
        metrics: r2 (coefficient of determination; of several values the mean of
            theirs) and the number of images; of a single value also mae and rmse, in
            its unit.
        per_class: mae, rmse and r2 of each value, with its name.
        targets: (images, values).
        values: what was given, (images, values).
        worst: images, by their greatest error over the standard deviation of its
            value, at most `WORST`.
        class_names: a name for each value.
    """

    metrics: dict[str, float]
    per_class: list[dict[str, Any]]
    targets: np.ndarray
    values: np.ndarray
    worst: np.ndarray
    class_names: tuple[str, ...]

    def mistake(self, i: int) -> Mistake:
        """What an image has, what was given, and how far that is off."""
        names, errors = self.class_names, np.abs(self.values[i] - self.targets[i])
        worst = int((errors / _deviations(self.targets)).argmax())
        of = f" in {names[worst]}" * (len(names) > 1)
        return Mistake(
            target_text("regression", self.targets[i], names),
            target_text("regression", self.values[i], names),
            float(errors[worst]),
            f"off by {errors[worst]:.3g}{of}",
        )


def _deviations(targets: np.ndarray) -> np.ndarray:
    found = targets.std(axis=0)
    return np.where(found == 0, 1.0, found)


def evaluate_values(
    values: np.ndarray, targets: np.ndarray, class_names: Sequence[str]
) -> ValueEvaluation:
    """Compares values with the truth.

    Args:
        values: (images, values).
        targets: (images, values).
        class_names: a name for each value.
    """
    values, targets = (np.asarray(each, np.float64) for each in (values, targets))
    errors = values - targets
    mae = np.abs(errors).mean(axis=0)
    rmse = np.sqrt((errors**2).mean(axis=0))
    # Where the targets are all the same, 0, as a constant has it.
    spread = targets.var(axis=0)
    r2 = np.where(spread > 0, 1 - rmse**2 / np.where(spread > 0, spread, 1), 0.0)
    metrics = {"r2": float(r2.mean()), "images": len(targets)}
    if len(class_names) == 1:  # others have other units
        metrics |= {"mae": float(mae[0]), "rmse": float(rmse[0])}
    return ValueEvaluation(
        metrics=metrics,
        per_class=[
            {"class": name, "mae": float(a), "rmse": float(b), "r2": float(c)}
            for name, a, b, c in zip(class_names, mae, rmse, r2, strict=True)
        ],
        targets=targets,
        values=values,
        worst=np.argsort(
            -(np.abs(errors) / _deviations(targets)).max(axis=-1), kind="stable"
        )[:WORST],
        class_names=tuple(class_names),
    )


def draw_values(evaluation: ValueEvaluation, path: Path) -> None:
    """Given against true values, and how often they are how far apart."""
    names = evaluation.class_names[:DRAWN]
    figure, grid = new_figure(8, 3.6 * len(names), len(names), 2, squeeze=False)
    for i, (name, (left, right)) in enumerate(zip(names, grid, strict=True)):
        true, given = evaluation.targets[:, i], evaluation.values[:, i]
        ends = [min(true.min(), given.min()), max(true.max(), given.max())]
        left.plot(ends, ends, "--", color="black", linewidth=1)
        left.plot(true, given, ".", color=COLORS[0], alpha=0.5)
        left.set(xlabel=f"{short_name(name, 24)}, true", ylabel="given")
        right.hist(given - true, bins=30, color=COLORS[1])
        right.set(xlabel="given - true", ylabel="test images")
        row = evaluation.per_class[i]
        left.set_title(f"R2 {row['r2']:.3f}, MAE {row['mae']:.3g}")
    write_figure(path, figure)
