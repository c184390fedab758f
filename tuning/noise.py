"""What differences trials can show at all: the default, trained with several seeds."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from pathlib import Path
from statistics import mean, variance
from typing import NamedTuple

import numpy as np

from keras_resnet import files
from tuning.objective import Objective, points
from tuning.trials import Trial, defaults

CORRECT = "correct.npy"  # in a run folder: which validation images are right
# What a search at equal cost can hope for, of the default's error. The 19 networks of
# 0.5 million multiply-adds in `benchmarks.search_table` differ by 4 % of it (standard
# deviation, without the seeds' noise); the best of so many is two above the mean.
HOPE = 0.08
SURE = 1.96  # standard deviations of 95 %


class Noise(NamedTuple):
    """How much the accuracy of one and the same network varies.

    Attributes:
        accuracies: of the default on the validation images, a seed each.
        images: of validation.
        disagreement: share of them that one of two seeds gets right, not both.
    """

    accuracies: list[float]
    images: int
    disagreement: float

    @property
    def difference(self) -> float:
        """What two trials must differ by before it is more than noise (95 %).

        From the spread of the seeds or, if that is greater, from the images on which
        two of them disagree (McNemar): few seeds may be equal by chance.
        """
        spread = 2 * variance(self.accuracies)
        return SURE * math.sqrt(max(spread, self.disagreement / self.images))

    @property
    def deviation(self) -> float:
        """Standard deviation of the accuracy of one network."""
        return self.difference / SURE / math.sqrt(2)

    @property
    def hope(self) -> float:
        """What a search may gain at equal cost."""
        return HOPE * (1 - mean(self.accuracies))

    def lines(self, objective: Objective) -> list[str]:
        """In words, with what to do if it is too much for an objective."""
        told = [
            f"default: {mean(self.accuracies):.2%} of {self.images:,} validation "
            f"images, mean of {len(self.accuracies)} seeds; two trials must differ by "
            f"{100 * self.difference:.1f} points to be more than noise"
        ]
        within = objective.within
        wanted = self.hope if within is None else within / 100
        if self.difference > wanted > 0:
            more = self.images * (self.difference / wanted) ** 2
            what = (
                f"a search can expect to gain at equal cost ({100 * wanted:.1f} points)"
                if within is None
                else f"a network may lose ({points(within)})"
            )
            told.append(
                f"warning: that is more than {what}; the best trial will be chosen by "
                "chance. Let a final decide (--final 3 --retrain 5), train longer, or "
                f"validate by about {float(f'{more:.1g}'):,.0f} images"
            )
        return told


def read_noise(trials: Sequence[Trial]) -> Noise | None:
    """From the trials of the default; None where there are not two that ended."""
    trained = [t for t in defaults(trials) if (t.run / CORRECT).exists()]
    if len(trained) < 2:
        return None
    correct = [np.load(trial.run / CORRECT) for trial in trained]
    pairs = itertools.combinations(correct, 2)
    disagreement = mean(float((one != other).mean()) for one, other in pairs)
    accuracies = [trial.accuracy for trial in trained]
    return Noise(accuracies, len(correct[0]), disagreement)


def write_correct(run: Path, correct: np.ndarray) -> None:
    """Keeps which validation images a default's model gets right."""
    with files.replacing(run / CORRECT) as temporary, temporary.open("wb") as file:
        np.save(file, correct)
