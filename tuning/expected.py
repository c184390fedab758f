"""The accuracy to expect of each trial's network, if it were trained and tested again.

The best of many noisy accuracies is too high, and often not that of the best network.
Networks with common hyperparameters tell of each other: a Gaussian process over them,
with the noise that the default's seeds have shown, says what to believe.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tuning.trials import Trial, names_of

OWN = 0.2  # share of the networks' variance that no single hyperparameter explains
NEAR = 2.0  # values of a number between which accuracies still go together


def expected_accuracy(trials: Sequence[Trial], noise: float) -> list[float]:
    """Posterior means, a trial each.

    Args:
        trials: that were trained to their end.
        noise: standard deviation of the accuracy of one network, trained again.
    """
    accuracy = np.array([trial.accuracy for trial in trials])
    if len(trials) < 3:
        return [float(value) for value in accuracy]
    signal = max(float(accuracy.var(ddof=1)) - noise**2, 0.0)
    kernels = [_kernel(trials, name) for name in names_of(trials)]
    if not kernels or not signal:
        return [float(accuracy.mean())] * len(trials)
    shared = np.mean(kernels, axis=0)
    covariance = signal * ((1 - OWN) * shared + OWN * np.eye(len(trials)))
    gain = np.linalg.solve(
        covariance + noise**2 * np.eye(len(trials)), accuracy - accuracy.mean()
    )
    return [float(value) for value in accuracy.mean() + covariance @ gain]


def _kernel(trials: Sequence[Trial], name: str) -> np.ndarray:
    """How much trials tell of each other by one hyperparameter, 0 to 1."""
    values = [trial.hyperparameters.get(name) for trial in trials]
    known = sorted(
        {v for v in values if v is not None}, key=lambda v: (str(type(v)), v)
    )
    rank = {value: i for i, value in enumerate(known)}
    places = np.array([rank.get(value, -np.inf) for value in values])
    if known and isinstance(known[0], str):
        return np.array(places[:, None] == places, float)
    with np.errstate(invalid="ignore"):
        apart = np.abs(places[:, None] - places)
    both = np.isneginf(places)
    apart[np.ix_(both, both)] = 0
    shared: np.ndarray = np.exp(-apart / NEAR)
    return shared
