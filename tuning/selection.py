"""Which trial of a search is the best. No TensorFlow."""

from __future__ import annotations

from collections.abc import Sequence
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
    if best is None and completed(trials):
        raise SearchError(
            f"search: {count(len(trials), 'trial')} in {folder}, all of the default, "
            "by which noise is known; give more --trials, or a space with other "
            "networks within the budget"
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
    done, noise = completed(trials), read_noise(trials)
    if objective.kind == "accuracy" and noise:
        hopes = expected_accuracy(done, noise.deviation)
        pairs = sorted(
            zip(hopes, done, strict=True),
            key=lambda pair: (-pair[0], pair[1].metrics["macs"]),
        )
        return [trial for _, trial in pairs]
    least = reference(trials, objective)

    def key(trial: Trial) -> tuple[bool, float, float]:
        short = objective.kind == "cheapest" and trial.accuracy < objective.least(least)
        return short, -objective.score(trial.metrics, least), trial.metrics["macs"]

    return sorted(done, key=key)


def best_of(trials: Sequence[Trial], objective: Objective) -> Trial | None:
    """The best candidate, if any was trained to its end."""
    return next(iter(ranked(trials, objective)), None)
