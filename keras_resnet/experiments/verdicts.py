"""What an experiment's runs say of its claims."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import mean
from typing import Literal, NamedTuple

from keras_resnet.experiments.claims import BudgetName, Claim
from keras_resnet.experiments.results import MEASURES, Outcome
from keras_resnet.statistics import LEVEL, Difference, t_test

SEEDS = 3  # of each arm, from which on a claim is decided
LEARNT = 0.5  # of the error of guessing; a network with more has not learnt

Verdict = Literal["confirmed", "contradicted", "undecided", "says nothing", "not run"]


class Judged(NamedTuple):
    """The verdict on a claim.

    Attributes:
        claim: the claim.
        verdict: of a two-sided Welch t-test at the 5 % level over the seeds: confirmed
            or contradicted where it tells the arms apart; undecided where it doesn't.
            At the budget "smoke", or where neither network has learnt, the runs say
            nothing.
        reason: in words.
        difference: mean of the arm with more minus that with less, and its test; None
            where nothing was tested.
    """

    claim: Claim
    verdict: Verdict
    reason: str
    difference: Difference | None = None


def judge(
    claim: Claim, outcomes: Sequence[Outcome], budget: BudgetName = "short"
) -> Judged:
    """The verdict on a claim.

    A run that diverged is worse than any that didn't; where some of an arm's seeds
    diverged and others not, nothing is decided.
    """
    less, more = (
        [
            outcome
            for outcome in outcomes
            if outcome.arm.name == name and claim.measure in outcome.measures
        ]
        for name in (claim.less, claim.more)
    )
    if not less or not more:
        reason = "not all of its networks have runs in this setting"
        return Judged(claim, "not run", reason)
    if budget == "smoke":
        return Judged(claim, "says nothing", "smoke: the networks run")
    if MEASURES[claim.measure].learnt and (reason := _has_not_learnt(less, more)):
        return Judged(claim, "says nothing", reason)
    return _tested(claim, *([o.measures[claim.measure] for o in arm]
                            for arm in (less, more)))  # fmt: skip


def _has_not_learnt(*arms: Sequence[Outcome]) -> str:
    """Why nothing can be said of what networks have learnt; "" if something can."""
    errors = [mean(outcome.measures["test_error"] for outcome in arm) for arm in arms]
    classes = max(outcome.classes for arm in arms for outcome in arm)
    guessing = 1 - 1 / classes if classes else 1.0
    if min(errors) <= LEARNT * guessing:
        return ""
    return (
        f"neither has learnt: the test error is {min(errors):.1%} at best, "
        f"that of guessing {guessing:.1%}"
    )


def _tested(claim: Claim, less: Sequence[float], more: Sequence[float]) -> Judged:
    verdict: Verdict = "undecided"
    failed = [sum(map(math.isinf, values)) for values in (less, more)]
    difference = None
    if any(failed):
        reason = f"diverged: {failed[0]} of {len(less)} and {failed[1]} of {len(more)}"
        if failed == [0, len(more)]:
            verdict = "confirmed"
        elif failed == [len(less), 0]:
            verdict = "contradicted"
    else:
        difference = t_test(more, less)
        reason = _in_words(difference, claim.measure)
        if difference.p_value < LEVEL:
            verdict = "confirmed" if difference.mean > 0 else "contradicted"
    if (seeds := min(len(less), len(more))) < SEEDS:
        reason = f"seeds: {seeds}, and {SEEDS} of each network are needed"
        return Judged(claim, "undecided", reason, difference)
    return Judged(claim, verdict, reason, difference)


def _in_words(difference: Difference, key: str) -> str:
    """Such as: +1.24 points (+0.27 to +2.21), p = 0.025."""
    measure = MEASURES[key]
    mean, low, high = (
        f"{measure.scale * value:+{measure.form}}" for value in difference[:3]
    )
    unit = "points" if measure.unit == "%" else measure.unit
    text = f"{mean} {unit}".rstrip()
    return f"{text} ({low} to {high}), p = {difference.p_value:.2g}"
