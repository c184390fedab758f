"""The winner against the default, at full length over several seeds, on test images."""

from __future__ import annotations

from collections.abc import Iterable
from statistics import mean
from typing import Any, NamedTuple

from rich.console import Console

from keras_resnet import files
from keras_resnet.recipe import Recipe
from keras_resnet.run import Run
from keras_resnet.statistics import t_test
from keras_resnet.tracking import MLflowTracker, closing
from tuning.search_report import write_report
from tuning.trials import COMPARISON, REPORT, RETRAINED, SearchResult


class Comparison(NamedTuple):
    """Test accuracies of winner and default by seed.

    Attributes:
        trial: of the search, which is the winner.
        seeds: that both were trained with.
        best: of the winner, a seed each.
        default: of the default.
        difference: mean of winner minus default.
        low: and
        high: the 95 % confidence interval of the difference; None for one seed.
        p_value: of a two-sided paired t-test; None for one seed, or where all
            differences are equal.
    """

    trial: str
    seeds: list[int]
    best: list[float]
    default: list[float]
    difference: float
    low: float | None
    high: float | None
    p_value: float | None

    @property
    def verdict(self) -> str:
        """The result in one line."""
        n = len(self.best)
        text = (
            f"winner {mean(self.best):.2%}, default {mean(self.default):.2%} of test "
            f"images over {n} seeds: difference {100 * self.difference:+.2f} points"
        )
        if self.p_value is None or self.low is None or self.high is None:
            return f"{text}; too little for a test"
        interval = f"95 % interval {100 * self.low:+.2f} to {100 * self.high:+.2f}"
        judged = "different" if self.p_value < 0.05 else "no difference shown"
        return f"{text}, {interval}, p = {self.p_value:.3f} (paired t-test): {judged}"


def compare(
    trial: str, seeds: list[int], best: list[float], default: list[float]
) -> Comparison:
    """By a paired t-test: a seed has the same splits for both."""
    difference, low, high, p_value = t_test(best, default, paired=True)
    if len(seeds) < 2 or low == high:  # no spread, no test
        return Comparison(trial, seeds, best, default, difference, None, None, None)
    return Comparison(trial, seeds, best, default, difference, low, high, p_value)


def retrain(
    found: SearchResult,
    default: Recipe,
    data: Any,
    *,
    seeds: Iterable[int],
    epochs: int | None = None,
    strategy: Any = None,
    tracker: MLflowTracker | None = None,
    console: Console | None = None,
    **loading: Any,
) -> Comparison:
    """Trains winner and default over some seeds, and compares them on test images.

    Runs are kept in `retrained/` of the search; finished ones are not run again, and
    an interrupted one resumes.

    Args:
        found: by the search.
        default: what the search started from.
        data: a source for `data.load`.
        seeds: others than the search's, whose validation images chose the winner.
        epochs: instead of the recipes'.
        strategy: a `tf.distribute` strategy.
        tracker: of the search; these runs become its children.
        console: where progress is shown.
        **loading: other arguments of `data.load`.
    """
    from keras_resnet import training

    folder = found.folder

    def accuracy(name: str, recipe: Recipe, seed: int) -> float:
        recipe = recipe.over(epochs or recipe.epochs)
        kept = folder / RETRAINED / f"{recipe.epochs}-epochs"
        run = Run(kept / f"{name}-seed-{seed}")
        if not run.is_finished:
            training.train(
                recipe,
                data=data,
                folder=run.folder,
                seed=seed,
                strategy=strategy,
                tracker=tracker.child(folder) if tracker else None,
                console=console,
                **loading,
            )
        return float(run.result["test_accuracy"])

    if tracker:  # opens the search's own run again
        tracker.start(folder.name, {}, folder)
    with closing(tracker):
        seeds = list(seeds)
        best: list[float] = []
        others: list[float] = []
        for seed in seeds:
            best.append(accuracy(f"trial-{found.best.id}", found.recipe, seed))
            others.append(accuracy("default", default, seed))
        comparison = compare(found.best.id, seeds, best, others)
        files.write_json(
            folder / COMPARISON,
            comparison._asdict() | {"verdict": comparison.verdict},
        )
        write_report(folder)
        if tracker:
            tracker.set_tags({"verdict": comparison.verdict})
            tracker.log_files([folder / COMPARISON, folder / REPORT])
    return comparison
