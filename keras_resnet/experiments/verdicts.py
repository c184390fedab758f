"""What an experiment's runs say of its claims."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import mean
from typing import Literal, NamedTuple

from keras_resnet.experiments.claims import BudgetName, Claim
from keras_resnet.experiments.results import MEASURES, Outcome, values_of
from keras_resnet.statistics import LEVEL, Difference, is_within, t_test

SEEDS = 3  # of each arm, from which on a claim is decided
LEARNT = 0.5  # of the error of guessing; a network with more has not learnt

Verdict = Literal[
    "confirmed", "contradicted", "no effect", "undecided", "says nothing", "not run"
]


class Judged(NamedTuple):
    """The verdict on a claim.

    Attributes:
        claim: the claim.
        verdict: of a two-sided Welch t-test at the 5 % level over the seeds: confirmed
            or contradicted where it tells the arms apart; no effect where equivalence
            tests tell that it is less than half of the paper's; else undecided. At the
            budget "smoke", or where neither network has learnt, the runs say nothing.
        reason: in words.
        difference: mean of the arm with more minus that with less, and its test; None
            where nothing was tested.
    """

    claim: Claim
    verdict: Verdict
    reason: str
    difference: Difference | None = None


def judge(
    claim: Claim,
    outcomes: Sequence[Outcome],
    budget: BudgetName = "short",
    effect: float | None = None,
) -> Judged:
    """The verdict on a claim.

    A run that diverged is worse than any that didn't; where some of an arm's seeds
    diverged and others not, nothing is decided.

    Args:
        claim: the claim.
        outcomes: of the experiment's runs.
        budget: that they have had.
        effect: the paper's difference, as `Experiment.effect_of` has it.
    """
    less, more = values_of(claim, outcomes)
    if not less or not more:
        reason = "not all of its networks have runs in this setting"
        return Judged(claim, "not run", reason)
    if budget == "smoke":
        return Judged(claim, "says nothing", "smoke: the networks run")
    if MEASURES[claim.measure].learnt and (reason := _not_learnt(claim, outcomes)):
        return Judged(claim, "says nothing", reason)
    failed = [sum(map(math.isinf, values)) for values in (less, more)]
    judged = (
        _diverged(claim, failed, [len(less), len(more)])
        if any(failed)
        else _tested(claim, less, more, effect)
    )
    if (seeds := min(len(less), len(more))) < SEEDS:
        reason = f"seeds: {seeds}, and {SEEDS} of each network are needed"
        return judged._replace(verdict="undecided", reason=reason)
    return judged


def _not_learnt(claim: Claim, outcomes: Sequence[Outcome]) -> str:
    """Why nothing can be said of what networks have learnt; "" if something can."""
    less, more = (
        [outcome for outcome in outcomes if outcome.arm.name == name]
        for name in (claim.less, claim.more)
    )
    errors = [mean(run.measures["test_error"] for run in runs) for runs in (less, more)]
    classes = max(run.classes for run in (*less, *more))
    guessing = 1 - 1 / classes if classes else 1.0
    if min(errors) <= LEARNT * guessing:
        return ""
    return (
        f"neither has learnt: the test error is {min(errors):.1%} at best, "
        f"that of guessing {guessing:.1%}"
    )


def _diverged(claim: Claim, failed: list[int], runs: list[int]) -> Judged:
    verdict: Verdict = "undecided"
    if failed == [0, runs[1]]:
        verdict = "confirmed"
    elif failed == [runs[0], 0]:
        verdict = "contradicted"
    reason = f"diverged: {failed[0]} of {runs[0]} and {failed[1]} of {runs[1]}"
    return Judged(claim, verdict, reason)


def _tested(
    claim: Claim, less: Sequence[float], more: Sequence[float], effect: float | None
) -> Judged:
    difference = t_test(more, less)
    reason = _in_words(difference, claim.measure)
    verdict: Verdict = "undecided"
    if difference.p_value < LEVEL:
        verdict = "confirmed" if difference.mean > 0 else "contradicted"
    elif effect and min(len(less), len(more)) > 1:
        scale = MEASURES[claim.measure].scale
        if is_within(more, less, effect / 2 / scale):
            verdict = "no effect"
            unit = unit_of_difference(claim.measure)
            reason += f"; less than half of the paper's {effect:.2f} {unit}"
    return Judged(claim, verdict, reason, difference)


def unit_of_difference(key: str) -> str:
    """Of a measure's differences: points of per cent, ms ..."""
    unit = MEASURES[key].unit
    return "points" if unit == "%" else unit


def _in_words(difference: Difference, key: str) -> str:
    """Such as: +1.24 points (+0.27 to +2.21), p = 0.025."""
    measure = MEASURES[key]
    mean, low, high = (
        f"{measure.scale * value:+{measure.form}}" for value in difference[:3]
    )
    text = f"{mean} {unit_of_difference(key)}".rstrip()
    return f"{text} ({low} to {high}), p = {difference.p_value:.2g}"
