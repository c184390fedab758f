"""The final: the best trials and the default, trained anew over several seeds.

The trial that did best on the validation images is lucky, too. So the winner is named
by trainings with other seeds, on whose test images it is then compared.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from statistics import mean
from typing import Any, NamedTuple

from rich.console import Console

from keras_resnet import files
from keras_resnet.plan import make_plan
from keras_resnet.recipe import Recipe
from keras_resnet.run import BusyError, Run
from keras_resnet.statistics import LEVEL, t_test
from keras_resnet.tasks import best_epoch
from keras_resnet.tracking import MLflowTracker, closing
from keras_resnet.units import count
from tuning.budget import costs_of
from tuning.objective import COSTS, Objective, points
from tuning.search_report import write_report
from tuning.search_tracking import log_best
from tuning.selection import finalists
from tuning.trials import (
    BEST,
    COMPARISON,
    REPORT,
    RETRAINED,
    SEARCH,
    SearchResult,
    Trial,
    defaults,
)


class Finalist(NamedTuple):
    """A network of the final; accuracies are a seed each.

    Attributes:
        trial: of the search; "default" for the network that it started from.
        cost: what the search's objective counts; None where it was not measured.
        validation: accuracies on the validation images of each seed.
        test: accuracies on the test images.
    """

    trial: str
    cost: float | None
    validation: list[float]
    test: list[float]


class Comparison(NamedTuple):
    """Test accuracies of winner and default by seed.

    Attributes:
        trial: of the search, which is the winner.
        seeds: that all were trained with.
        best: of the winner, a seed each.
        default: of the default.
        difference: mean of winner minus default.
        low: and
        high: the 95 % confidence interval of the difference; None for one seed.
        p_value: of a two-sided paired t-test; None for one seed, or where all
            differences are equal.
        within: points that the winner may be less accurate; None where that was not
            the objective.
        least: lower end of the one-sided 95 % interval of the difference.
        finalists: all that were trained.
        ties: finalists that the validation images don't tell from the winner.
        cost: what the search's objective counts, as `COSTS` has it.
        share: the winner's cost over the default's; None where that was not measured.
    """

    trial: str
    seeds: list[int]
    best: list[float]
    default: list[float]
    difference: float
    low: float | None
    high: float | None
    p_value: float | None
    within: float | None = None
    least: float | None = None
    finalists: Sequence[Finalist] = ()
    ties: Sequence[str] = ()
    cost: str = "macs"
    share: float | None = None

    @property
    def verdict(self) -> str:
        """The result in one line."""
        n = len(self.best)
        text = (
            f"winner {mean(self.best):.2%}, default {mean(self.default):.2%} of test "
            f"images over {count(n, 'seed')}: difference "
            f"{100 * self.difference:+.2f} points"
        )
        if self.p_value is None or self.low is None or self.high is None:
            text = f"{text}; too little for a test"
        elif self.within is not None and self.least is not None:
            shown = self.least > -self.within / 100
            text += (
                f", at least {100 * self.least:+.2f} (one-sided 95 %): "
                f"{'not' if shown else 'not shown to be not'} less accurate by "
                f"{points(self.within)}"
            )
        else:
            interval = f"{100 * self.low:+.2f} to {100 * self.high:+.2f}"
            judged = "different" if self.p_value < LEVEL else "no difference shown"
            text += f", 95 % interval {interval}, p = {self.p_value:.3f} (paired "
            text += f"t-test): {judged}"
        if self.share is not None:
            text += f"; at {self.share:.0%} of its {COSTS[self.cost]}"
        if self.ties:
            text += f"; trial {self.trial} ties with {', '.join(self.ties)}"
        return text

    def to_dict(self) -> dict[str, Any]:
        """All fields and the verdict, as JSON types."""
        finalists = [finalist._asdict() for finalist in self.finalists]
        return self._asdict() | {"finalists": finalists, "verdict": self.verdict}


def compare(
    objective: Objective,
    seeds: Sequence[int],
    finalists: Sequence[Finalist],
    default: Finalist,
) -> Comparison:
    """Names the winner by validation images, and compares it on test images.

    Seeds are paired: each has the same splits for all.
    """
    winner = _winner(objective, finalists, default)
    others = [f for f in finalists if f is not winner]
    if objective.kind == "cheapest":  # it won by its cost
        others = []
    ties = [other.trial for other in others if _equal(other, winner)]
    difference, low, high, p_value = t_test(winner.test, default.test, paired=True)
    found = Comparison(
        winner.trial, list(seeds), winner.test, default.test, difference, None, None,
        None, objective.within, None, finalists, ties, objective.cost,
        winner.cost / default.cost if winner.cost and default.cost else None,
    )  # fmt: skip
    if len(seeds) < 2 or low == high:  # no spread, no test
        return found
    least = t_test(winner.test, default.test, paired=True, confidence=0.9).low
    return found._replace(low=low, high=high, p_value=p_value, least=least)


def _winner(
    objective: Objective, finalists: Sequence[Finalist], default: Finalist
) -> Finalist:
    """The most accurate; or the cheapest that is shown to be as accurate.

    Where none is, the one that is nearest to it.
    """
    if objective.kind != "cheapest":
        return max(finalists, key=lambda finalist: mean(finalist.validation))
    margin = (objective.within or 0) / 100
    least = {}
    for finalist in finalists:
        found = t_test(
            finalist.validation, default.validation, paired=True, confidence=0.9
        )
        few = len(finalist.validation) < 2
        least[finalist.trial] = found.mean if few else found.low
    shown = [f for f in finalists if least[f.trial] >= -margin]
    if shown:
        return min(shown, key=lambda finalist: finalist.cost or 0)
    return max(finalists, key=lambda f: (least[f.trial], mean(f.validation)))


def _equal(one: Finalist, other: Finalist) -> bool:
    """Whether a paired t-test of the validation images doesn't tell them apart."""
    return not t_test(one.validation, other.validation, paired=True).p_value < LEVEL


class _Training(NamedTuple):
    """How all of the final are trained."""

    folder: Path
    data: Any
    epochs: int | None
    strategy: Any
    tracker: MLflowTracker | None
    console: Console | None
    loading: dict[str, Any]


def retrain(
    found: SearchResult,
    default: Recipe,
    data: Any,
    *,
    seeds: Iterable[int],
    final: int = 1,
    epochs: int | None = None,
    strategy: Any = None,
    tracker: MLflowTracker | None = None,
    console: Console | None = None,
    **loading: Any,
) -> Comparison:
    """Trains the best trials and the default over some seeds, and names a winner.

    Runs are kept in `retrained/` of the search; finished ones are not run again, and
    an interrupted one resumes. `best.json` becomes the winner's.

    Args:
        found: by the search.
        default: what the search started from.
        data: a source for `data.load`.
        seeds: others than the search's, whose validation images chose the trials.
        final: how many of the best trials.
        epochs: instead of the recipes'.
        strategy: a `tf.distribute` strategy.
        tracker: of the search; these runs become its children.
        console: where progress is shown.
        **loading: other arguments of `data.load`.
    """
    folder, seeds = found.folder, list(seeds)
    settings = files.read_json(folder / SEARCH)
    objective = Objective.of(settings)
    training = _Training(folder, data, epochs, strategy, tracker, console, loading)
    trials = finalists(found.trials, objective, final)
    if tracker:  # opens the search's own run again
        tracker.start(folder.name, {}, folder)
    with closing(tracker):
        runs: dict[str, list[Run]] = {}
        for seed in seeds:  # one after the other, so that a part says something
            for trial in trials:
                run = _train(f"trial-{trial.id}", trial.recipe, seed, training)
                runs.setdefault(trial.id, []).append(run)
            run = _train("default", default, seed, training)
            runs.setdefault("default", []).append(run)
        cost = objective.cost
        tested = [
            _finalist(trial.id, trial.metrics[cost], runs[trial.id]) for trial in trials
        ]
        # Its network is for the images of the search.
        base = Recipe.from_dict(settings["recipe"])
        known = [t.metrics for t in defaults(found.trials)] or [costs_of(base)]
        reference = _finalist("default", known[0].get(cost), runs["default"])
        compared = compare(objective, seeds, tested, reference)
        winner = next(trial for trial in trials if trial.id == compared.trial)
        _write(found._replace(best=winner, recipe=winner.recipe), compared)
        if tracker:
            tracker.set_tags({"verdict": compared.verdict})
            tracker.log_files([folder / COMPARISON, folder / REPORT])
            _log_winner(tracker, winner, folder, runs[winner.id][0])
    return compared


def _train(name: str, recipe: Recipe, seed: int, how: _Training) -> Run:
    from keras_resnet import training

    recipe = recipe.over(how.epochs or recipe.epochs)
    kept = how.folder / RETRAINED / f"{recipe.epochs}-epochs"
    run = Run(kept / f"{name}-seed-{seed}")
    if run.is_finished:
        return run
    try:
        training.train(
            recipe,
            data=how.data,
            folder=run.folder,
            seed=seed,
            strategy=how.strategy,
            tracker=how.tracker.child(how.folder) if how.tracker else None,
            console=how.console,
            announcement=f"{name}, seed {seed}: {make_plan(recipe.model).depth} layers "
            f"deep, {count(recipe.epochs, 'epoch')}, in {run.folder}",
            **how.loading,
        )
    except BusyError:
        pid = run.locked_by
        raise BusyError(
            f"folder: another process{f' ({pid})' if pid else ''} trains the final of "
            f"{how.folder}; wait until it ends, then the same command shows what came "
            "of it"
        ) from None
    return run


def _finalist(name: str, cost: float | None, runs: Sequence[Run]) -> Finalist:
    """A network by its runs: of the epoch that each has kept, by validation loss."""
    kept = [best_epoch("classes", run.history) for run in runs]
    tested = [float(run.result["test_accuracy"]) for run in runs]
    return Finalist(name, cost, [epoch["val_accuracy"] for epoch in kept], tested)


def _write(won: SearchResult, compared: Comparison) -> None:
    files.write_json(won.folder / COMPARISON, compared.to_dict())
    files.write_text(won.folder / BEST, won.recipe.to_json())
    write_report(won.folder)


def _log_winner(tracker: MLflowTracker, winner: Trial, folder: Path, run: Run) -> None:
    """The winner's model, unless the search has logged one."""
    images = run.read_samples()
    if images is not None:
        log_best(tracker, winner, folder, images, run.data["class_names"])
