"""Which trial of a search is the best. No TensorFlow."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from keras_resnet import files
from keras_resnet.errors import UserError
from keras_resnet.units import count
from tuning.expected import expected_accuracy
from tuning.noise import read_noise
from tuning.objective import Objective, SearchError
from tuning.trials import (
    SEARCH,
    SearchResult,
    Trial,
    completed,
    defaults,
    read_trials,
    reference,
)


def read_result(folder: Path) -> SearchResult:
    """The best trial of a search, and all others.

    Raises:
        SearchError: no trial was completed.
    """
    trials = read_trials(folder)
    told = files.read_json(folder / SEARCH)
    try:
        with files.reading():
            best = best_of(trials, Objective.of(told))
    except ValueError as error:
        if isinstance(error, UserError):
            raise
        raise SearchError(f"search: can't read {folder / SEARCH}: {error}") from None
    if best is None and defaults(trials):
        raise SearchError(
            f"search: {count(len(trials), 'trial')} in {folder}, all of the default, "
            "by which noise is known; give more --trials or time, or a space with "
            "other networks within the budget"
        )
    if best is None:
        reasons = sorted({trial.reason for trial in trials if trial.reason})
        raise SearchError(
            f"search: of {count(len(trials), 'trial')} in {folder} none was completed: "
            f"{'; '.join(reasons[:3])}"
        )
    return SearchResult(folder, best, best.recipe, trials)


def ranked(trials: Sequence[Trial], objective: Objective) -> list[Trial]:
    """Candidates, the best first; of equal ones the cheapest, then the first.

    Accuracies are those to expect of a network trained again, where trials of the
    default say what is noise: `benchmarks.replay` finds better networks by them than by
    the best trial.
    """
    hopes = _expected(trials)
    least = reference(_replaced(trials, hopes), objective)

    def key(trial: Trial) -> tuple[bool, float, float]:
        hope = hopes[trial.id]
        short = objective.kind == "cheapest" and hope < objective.least(least)
        score = objective.score(trial.metrics | {"val_accuracy": hope}, least)
        return short, -score, trial.metrics["macs"]

    return sorted(_whole(trials), key=key)


def _whole(trials: Sequence[Trial]) -> list[Trial]:
    """Candidates that were trained for longest; others are rungs of Hyperband's."""
    done = completed(trials)
    epochs = [trial.values.get("tuner/epochs", 0) for trial in done]
    most = max(epochs, default=0)
    return [trial for trial, own in zip(done, epochs, strict=True) if own == most]


def _expected(trials: Sequence[Trial]) -> dict[str, float]:
    """The accuracy to expect of each candidate, by its trial."""
    done, noise = _whole(trials), read_noise(trials)
    hopes = (
        expected_accuracy(done, noise.deviation)
        if noise
        else [trial.accuracy for trial in done]
    )
    return {trial.id: hope for trial, hope in zip(done, hopes, strict=True)}


def _replaced(trials: Sequence[Trial], hopes: Mapping[str, float]) -> list[Trial]:
    """Trials with other accuracies."""
    return [
        trial._replace(
            metrics=trial.metrics
            | ({"val_accuracy": hopes[trial.id]} if trial.id in hopes else {})
        )
        for trial in trials
    ]


def finalists(trials: Sequence[Trial], objective: Objective, count: int) -> list[Trial]:
    """The candidates that a final trains: the best ones.

    For the cheapest network, from the cheapest that is expected to be as accurate to
    the one that is surest to be, each dearer one more accurate.
    """
    order = ranked(trials, objective)
    if objective.kind != "cheapest" or count < 2:
        return order[:count]
    hopes = _expected(trials)
    most = objective.least(reference(_replaced(trials, hopes), objective))
    front: list[Trial] = []
    for trial in order:  # by cost, as far as they are as accurate
        if hopes[trial.id] >= most:
            front.append(trial)
            most = hopes[trial.id] + 1e-9
    if len(front) > count:
        step = (len(front) - 1) / (count - 1)
        front = [front[round(i * step)] for i in range(count)]
    return [*front, *(t for t in order if t not in front)][:count]


def best_of(trials: Sequence[Trial], objective: Objective) -> Trial | None:
    """The best candidate, if any was trained to its end."""
    return next(iter(ranked(trials, objective)), None)
