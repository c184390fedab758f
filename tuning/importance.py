"""What trials say of hyperparameters: which matter, and what each value gives."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from keras_resnet.statistics import LEVEL
from tuning.trials import Trial, names_of, to_text

GROUPS = 4  # of a hyperparameter with more values
SHUFFLES = 400
NONE = "none"  # the group of trials that don't have a hyperparameter; the last


class Importance(NamedTuple):
    """How much of the variance of accuracy lies between a hyperparameter's values.

    Attributes:
        share: epsilon squared of a one-way analysis of variance, 0 to 1.
        chance: what 95 of 100 random assignments of the same values stay below.
    """

    share: float
    chance: float

    @property
    def matters(self) -> bool:
        """Whether it is more than chance."""
        return self.share > self.chance


class Effect(NamedTuple):
    """The accuracy that a value gives, on average over the others (Friedman 2001).

    Attributes:
        value: of the hyperparameter, or a group of values.
        mean: accuracy.
        error: half of the 95 % confidence interval.
    """

    value: str
    mean: float
    error: float


def importance(trials: Sequence[Trial]) -> dict[str, Importance]:
    """Of each hyperparameter, the most important first; the shares need not add to 1.

    Values of ranges are put into `GROUPS` of equal size; trials that don't have a
    hyperparameter are a group.
    """
    accuracy = np.array([trial.accuracy for trial in trials])
    draw = np.random.default_rng(0)
    shuffled = [draw.permutation(accuracy) for _ in range(SHUFFLES)]
    found = {}
    for name in names_of(trials):
        codes = _levels(trials, name)[1]
        by_chance = [_share(each, codes) for each in shuffled]
        chance = float(np.quantile(by_chance, 1 - LEVEL))
        found[name] = Importance(_share(accuracy, codes), chance)
    return dict(sorted(found.items(), key=lambda item: -item[1].share))


def _share(accuracy: np.ndarray, codes: np.ndarray) -> float:
    groups = [accuracy[codes == code] for code in np.unique(codes)]
    within = sum(((group - group.mean()) ** 2).sum() for group in groups)
    total = ((accuracy - accuracy.mean()) ** 2).sum()
    free = len(accuracy) - len(groups)
    if total <= 1e-12 or free <= 0 or len(groups) < 2:
        return 0.0
    expected = (len(groups) - 1) * within / free  # of values that mean nothing
    return float(max((total - within - expected) / total, 0.0))


def effects(trials: Sequence[Trial]) -> dict[str, list[Effect]]:
    """Partial dependence on each hyperparameter that has several values.

    By least squares of a model in which effects add up. Empty where the trials are too
    few for the values that there are.
    """
    from scipy import stats

    levels = {name: _levels(trials, name) for name in names_of(trials)}
    values = {n: [v for v in labels if v != NONE] for n, (labels, _) in levels.items()}
    values = {name: labels for name, labels in values.items() if len(labels) > 1}
    # The first value of each, and where a trial has none, has no column.
    blocks = {n: np.eye(len(levels[n][0]))[levels[n][1]][:, 1:len(values[n])]
              for n in values}  # fmt: skip
    design = np.hstack([np.ones((len(trials), 1)), *blocks.values()])
    accuracy = np.array([trial.accuracy for trial in trials])
    free = len(trials) - design.shape[1]
    if free < 1 or not values or np.linalg.matrix_rank(design) < design.shape[1]:
        return {}
    inverse = np.linalg.inv(design.T @ design)
    weights = inverse @ design.T @ accuracy
    noise = ((accuracy - design @ weights) ** 2).sum() / free
    wide = float(stats.t.ppf(1 - LEVEL / 2, free))
    found: dict[str, list[Effect]] = {name: [] for name in values}
    for name, labels in values.items():
        for code, label in enumerate(labels):
            own = levels[name][1] == code
            at = [np.ones(1)]
            for other, block in blocks.items():
                if other == name:
                    at.append(np.eye(len(labels))[code][1:])
                else:  # what only some trials have is as where this value is
                    at.append(block[own if NONE in levels[other][0] else slice(None)]
                              .mean(0))  # fmt: skip
            row = np.concatenate(at)
            error = wide * np.sqrt(row @ inverse @ row * noise)
            found[name].append(Effect(label, float(row @ weights), float(error)))
    return found


def _levels(trials: Sequence[Trial], name: str) -> tuple[list[str], np.ndarray]:
    """The values of a hyperparameter, or groups of them, and which each trial has."""
    values = [trial.hyperparameters.get(name) for trial in trials]
    known = sorted({v for v in values if v is not None}, key=_order)
    if len(known) > GROUPS and not isinstance(known[0], str):
        given = [v for v in values if v is not None]
        edges = np.quantile(given, np.linspace(0, 1, GROUPS + 1)[1:-1])
        parts = [None if v is None else int(np.searchsorted(edges, v)) for v in values]
        labels = {}
        for part in sorted({part for part in parts if part is not None}):
            pairs = zip(values, parts, strict=True)
            own: list[Any] = [v for v, p in pairs if p == part]
            ends = dict.fromkeys((to_text(min(own)), to_text(max(own))))
            labels[part] = " to ".join(ends)
    else:
        parts = [None if v is None else known.index(v) for v in values]
        labels = {i: to_text(value) for i, value in enumerate(known)}
    if None in parts:
        labels[-1] = NONE
    places = {part: i for i, part in enumerate(labels)}
    codes = [places[-1 if part is None else part] for part in parts]
    return [*labels.values()], np.array(codes, int)


def _order(value: Any) -> tuple[str, Any]:
    return str(type(value)), value


def sentences(trials: Sequence[Trial]) -> list[str]:
    """What was learned, in words; nothing that chance explains."""
    shares, gives = importance(trials), effects(trials)
    told = []
    for name, found in shares.items():
        if found.matters and name not in gives:
            told.append(
                f"`{name}` matters: {found.share:.0%} of the variance of accuracy lie "
                "between its values; what each gives would take more trials."
            )
        elif found.matters:
            best = max(gives[name], key=lambda effect: effect.mean)
            worst = min(gives[name], key=lambda effect: effect.mean)
            told.append(
                f"`{name}` matters: {best.value} gives {best.mean:.1%} "
                f"(±{100 * best.error:.1f} points), {worst.value} {worst.mean:.1%} "
                f"(±{100 * worst.error:.1f})."
            )
    rest = [f"`{name}`" for name, found in shares.items() if not found.matters]
    if rest:
        told.append(
            f"Of {', '.join(rest)} these {len(trials)} trials show no more than chance "
            "would."
        )
    return told
