"""How many seeds it takes to decide what is undecided, from the noise of those run."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import stdev
from typing import NamedTuple

from keras_resnet.experiments.claims import Claim, Experiment
from keras_resnet.experiments.results import MEASURES, Outcome, values_of
from keras_resnet.experiments.verdicts import Judged, unit_of_difference
from keras_resnet.statistics import POWER, seeds_needed


class Need(NamedTuple):
    """What an undecided claim takes.

    Attributes:
        claim: the claim.
        effect: the paper's difference, in the unit of the measure's differences.
        noise: standard deviation of a seed, the root of both networks' mean variance,
            in the same unit.
        seeds: of each network, for `POWER` at the paper's difference.
        seeds_for_half: the same at half of it.
    """

    claim: Claim
    effect: float
    noise: float
    seeds: int
    seeds_for_half: int


def needs(
    experiment: Experiment, verdicts: Sequence[Judged], outcomes: Sequence[Outcome]
) -> list[Need]:
    """Of undecided claims for which the paper gives numbers."""
    found = []
    for judged in verdicts:
        claim = judged.claim
        effect = experiment.effect_of(claim)
        samples = values_of(claim, outcomes)
        if (
            judged.verdict != "undecided"
            or not effect
            or not all(
                len(values) > 1 and all(map(math.isfinite, values))
                for values in samples
            )
        ):
            continue
        noises = [MEASURES[claim.measure].scale * stdev(values) for values in samples]
        found.append(
            Need(
                claim,
                effect,
                math.hypot(*noises) / math.sqrt(2),
                seeds_needed(effect, *noises),
                seeds_needed(effect / 2, *noises),
            )
        )
    return found


def power_table(needed: Sequence[Need]) -> list[tuple[str, ...]]:
    """Its rows in words, the head first."""
    rows: list[tuple[str, ...]] = [
        ("claim", "the paper's difference", "a seed's noise", "seeds", "for half of it")
    ]
    for need in needed:
        unit = unit_of_difference(need.claim.measure)
        rows.append(
            (
                need.claim.text,
                f"{need.effect:.2f} {unit}".rstrip(),
                f"{need.noise:.2f}",
                str(need.seeds),
                str(need.seeds_for_half),
            )
        )
    return rows


NOTE = (
    f"Seeds of each network with which the Welch test would find the paper's "
    f"difference, or half of it, with a probability of {POWER:.0%}, at the noise of "
    "the seeds here. Undecided claims without a number in the paper are left out."
)
