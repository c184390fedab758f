"""The winner against the default, at full length over several seeds, on test images."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from rich.console import Console

from keras_resnet import runfolder
from keras_resnet.training.recipes import Recipe

RETRAINED = "retrained"


class Comparison(NamedTuple):
    """Test accuracies of winner and default by seed, and what they say.

    Attributes:
        best: of the winner, a seed each.
        default: of the default.
        difference: mean of winner minus default.
        low: and
        high: the 95 % confidence interval of the difference; not a number for one seed.
        p_value: of a two-sided paired t-test; not a number for one seed, or where all
            differences are equal.
    """

    best: list[float]
    default: list[float]
    difference: float
    low: float
    high: float
    p_value: float

    @property
    def verdict(self) -> str:
        """In one line."""
        n = len(self.best)
        text = (
            f"winner {_mean(self.best):.2%}, default {_mean(self.default):.2%} of test "
            f"images over {n} seeds: difference {100 * self.difference:+.2f} points"
        )
        if math.isnan(self.p_value):
            return f"{text}; too little for a test"
        interval = f"95 % interval {100 * self.low:+.2f} to {100 * self.high:+.2f}"
        judged = "different" if self.p_value < 0.05 else "no difference shown"
        return f"{text}, {interval}, p = {self.p_value:.3f} (paired t-test): {judged}"


def _mean(values: list[float]) -> float:
    return sum(values) / len(values)


def compare(best: list[float], default: list[float]) -> Comparison:
    """Paired by seed: both had the same splits."""
    import numpy as np
    from scipy import stats

    differences = np.subtract(best, default)
    low = high = p_value = math.nan
    if len(differences) > 1 and differences.std() > 0:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)
            tested = stats.ttest_rel(best, default)
            low, high = tested.confidence_interval(0.95)
        p_value = float(tested.pvalue)
    mean = float(differences.mean())
    return Comparison(best, default, mean, float(low), float(high), p_value)


def retrain(
    folder: Path,
    best: Recipe,
    default: Recipe,
    data: Any,
    *,
    seeds: Iterable[int],
    epochs: int | None = None,
    strategy: Any = None,
    console: Console | None = None,
    **loading: Any,
) -> Comparison:
    """Trains winner and default over some seeds, and compares them on test images.

    Runs are kept in `retrained/` of the search; those that have ended are not run
    again.

    Args:
        folder: of the search.
        best: the winner.
        default: what the search started from.
        data: a source for `data.load`.
        seeds: other ones than the search's, by whose splits the winner was chosen.
        epochs: instead of the recipes'.
        strategy: a `tf.distribute` strategy.
        console: where progress is shown.
        **loading: other arguments of `data.load`.
    """
    from keras_resnet import training

    def accuracy(name: str, recipe: Recipe, seed: int) -> float:
        run = folder / RETRAINED / f"{name}-{seed}"
        if not (run / runfolder.RESULT).exists():
            training.train(
                recipe.over(epochs or recipe.epochs),
                data=data,
                folder=run,
                seed=seed,
                strategy=strategy,
                console=console,
                **loading,
            )
        result = runfolder.read_json(run / runfolder.RESULT)
        return float(result["test_accuracy"])

    found: dict[str, list[float]] = {"best": [], "default": []}
    for seed in seeds:
        for name, recipe in (("best", best), ("default", default)):
            found[name].append(accuracy(name, recipe, seed))
    comparison = compare(found["best"], found["default"])
    runfolder.write_json(
        folder / RETRAINED / "comparison.json",
        comparison._asdict() | {"verdict": comparison.verdict},
    )
    return comparison
