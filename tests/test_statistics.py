"""Tests between seeds, against hand computations."""

from __future__ import annotations

import math

import pytest

from keras_resnet.statistics import is_within, pareto_front, seeds_needed, t_test


def test_welch_s_interval():
    """s^2/n is 1e-4 of each, 2 degrees of freedom, t = 4.303."""
    found = t_test([0.20, 0.22], [0.10, 0.12])
    assert found.mean == pytest.approx(0.1)
    half = 4.303 * math.sqrt(2e-4)
    assert (found.low, found.high) == pytest.approx((0.1 - half, 0.1 + half), rel=1e-3)
    assert 0.01 < found.p_value < 0.05


def test_pairs_take_away_what_their_seeds_share():
    """Differences 1, 2, 3: mean 2, s = 1, 2 degrees of freedom, t = 4.303."""
    one, other = [11.0, 22.0, 33.0], [10.0, 20.0, 30.0]
    found = t_test(one, other, paired=True)
    half = 4.303 / math.sqrt(3)
    assert (found.mean, found.low, found.high) == pytest.approx(
        (2, 2 - half, 2 + half), rel=1e-3
    )
    assert found.p_value == pytest.approx(0.0742, abs=1e-3)
    # The lower end of 95 % on one side: t = 2.920.
    least = t_test(one, other, paired=True, confidence=0.9).low
    assert least == pytest.approx(2 - 2.920 / math.sqrt(3), rel=1e-3)
    assert found.p_value < t_test(one, other).p_value


@pytest.mark.parametrize("paired", [True, False])
def test_too_few_or_equal_numbers_end_in_no_error(paired):
    assert math.isnan(t_test([0.9], [0.8], paired=paired).p_value)
    assert t_test([1.0, 1.0], [1.0, 1.0], paired=paired) == (0, 0, 0, 1)
    assert t_test([1.0, 1.0], [0.5, 0.5], paired=paired) == (0.5, 0.5, 0.5, 0)


def test_a_front_has_only_what_nothing_beats():
    points = [(3, 0.8), (5, 0.9), (4, 0.7), (4, 0.9), (3, 0.5), (9, 0.9)]
    found = pareto_front(points, cost=lambda p: p[0], quality=lambda p: p[1])
    assert found == [(3, 0.8), (4, 0.9)]


def test_seeds_for_a_power_of_nine_tenths():
    """Against Cohen 1988, Table 2.4.1: d = 1, two-sided, 0.05."""
    assert seeds_needed(1, 1, 1) == 23
    assert seeds_needed(2, 1, 1) == 7
    assert seeds_needed(0.5, 1, 1) == 86
    assert seeds_needed(1, 0, 0) == 2
    assert seeds_needed(1, 1, 0) < 23  # half the variance


def test_equivalence_within_a_bound():
    one, other = [0.0, 1.0, 2.0], [0.5, 1.5, 2.5]
    half = 2.131847 * math.sqrt(2 / 3)  # of the 90 % interval, of 4 degrees
    assert is_within(one, other, 0.5 + half + 1e-3)
    assert not is_within(one, other, 0.5 + half - 1e-3)
    assert is_within(other, one, 0.5 + half + 1e-3)
