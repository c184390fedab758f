"""What a few seeds show: differences with their intervals, and Pareto fronts."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterable, Sequence
from statistics import mean
from typing import NamedTuple, TypeVar

_Item = TypeVar("_Item")
POWER = 0.9  # with which planned runs are to find an effect
LEVEL = 0.05  # of significance; intervals cover the rest


class Difference(NamedTuple):
    """A difference of two means, by a t-test.

    Attributes:
        mean: of the first minus that of the second.
        low: lower end of its confidence interval; NaN for one seed.
        high: upper end; NaN for one seed.
        p_value: two-sided; NaN for one seed.
    """

    mean: float
    low: float
    high: float
    p_value: float


def t_test(
    one: Sequence[float],
    other: Sequence[float],
    *,
    paired: bool = False,
    confidence: float = 1 - LEVEL,
) -> Difference:
    """Welch's t-test, or Student's of pairs.

    Without any spread the interval is the difference itself, and p is 0 or 1.

    Args:
        one: a number a seed.
        other: the same of what it is compared with.
        paired: whether equal places share a seed, and with it splits and order.
        confidence: of the interval. Of 0.9, the lower end is that of a one-sided
            interval of 0.95.
    """
    from scipy import stats

    difference = mean(one) - mean(other)
    if min(len(one), len(other)) < 2:
        return Difference(difference, math.nan, math.nan, math.nan)
    differences = {a - b for a, b in zip(one, other, strict=True)} if paired else set()
    if len(differences) == 1 or (not paired and len({*one}) == len({*other}) == 1):
        return Difference(difference, difference, difference, float(difference == 0))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # of one side without spread
        tested = (
            stats.ttest_rel(one, other)
            if paired
            else stats.ttest_ind(one, other, equal_var=False)
        )
        low, high = map(float, tested.confidence_interval(confidence))
    return Difference(difference, low, high, float(tested.pvalue))


def wilson(right: float, of: int) -> tuple[float, float]:
    """The 95 % confidence interval of a share, of so many that are right (Wilson)."""
    if not of:
        return 0.0, 1.0
    z, share = 1.959964, right / of
    middle = share + z * z / (2 * of)
    apart = z * math.sqrt(share * (1 - share) / of + z * z / (4 * of * of))
    whole = 1 + z * z / of
    return (middle - apart) / whole, (middle + apart) / whole


def is_within(one: Sequence[float], other: Sequence[float], bound: float) -> bool:
    """Whether the means differ by less than a bound: two one-sided tests.

    Both at `LEVEL` (Schuirmann 1987).
    """
    found = t_test(one, other, confidence=1 - 2 * LEVEL)
    return -bound < found.low and found.high < bound


def seeds_needed(effect: float, noise: float, other_noise: float) -> int:
    """Numbers of each kind with which Welch's t-test finds an effect by `POWER`.

    Args:
        effect: the difference of the means.
        noise: standard deviation of a number of the first kind.
        other_noise: of the second.
    """
    from scipy import stats

    variances = noise**2, other_noise**2
    if not any(variances):
        return 2

    def power(n: int) -> float:
        degrees = (n - 1) * sum(variances) ** 2 / sum(v**2 for v in variances)
        shift = abs(effect) / math.sqrt(sum(variances) / n)
        bound = stats.t.isf(LEVEL / 2, degrees)
        return float(
            stats.nct.sf(bound, degrees, shift) + stats.nct.cdf(-bound, degrees, shift)
        )

    # By normal quantiles, which are a little too few.
    quantiles = stats.norm.isf(LEVEL / 2) + stats.norm.ppf(POWER)
    n = max(int(sum(variances) * (quantiles / effect) ** 2), 2)
    while power(n) < POWER:
        n += 1
    return n


def pareto_front(
    items: Iterable[_Item],
    cost: Callable[[_Item], float],
    quality: Callable[[_Item], float],
) -> list[_Item]:
    """Items than which none is as good for less or better for the same, by cost."""
    front: list[_Item] = []
    for item in sorted(items, key=lambda item: (cost(item), -quality(item))):
        if not front or quality(item) > quality(front[-1]):
            front.append(item)
    return front
