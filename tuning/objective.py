"""What a search is for: accuracy, the least cost at an accuracy, or the front."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal, get_args

from keras_resnet.errors import UserError
from keras_resnet.tasks import ACCURACY, TASKS

if TYPE_CHECKING:
    from keras_resnet.recipe import Recipe

Kind = Literal["accuracy", "cheapest", "pareto"]
CostName = Literal["macs", "params", "memory", "latency"]
Against = Literal["default", "best"]
COSTS = {
    "macs": "multiply-adds",
    "params": "parameters",
    "memory": "memory in training",
    "latency": "latency",
}
WORTH = 0.1  # accuracy for which ten times the cost is paid on the way to a front
PENALTY = 100.0  # powers of ten of cost that outweigh an accuracy that is 1 too low


class SearchError(UserError):
    """A search that can't be made; the message is one line."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Objective:
    """What trials are compared by.

    Attributes:
        kind: "accuracy": the most accurate; "cheapest": of the networks that are not
            less accurate by more than `within`, the one of least cost; "pareto": the
            front of accuracy and cost.
        within: percentage points of accuracy, of "cheapest".
        cost: "macs", "params", "memory" (bytes in training) or "latency" (seconds for
            one image, of the export).
        against: what "cheapest" must be as accurate as: the "default", which the search
            trains first, or the "best" trial.

    Raises:
        SearchError: a value that a field can't have, or that has no use.
    """

    kind: Kind = "accuracy"
    within: float | None = None
    cost: CostName = "macs"
    against: Against = "default"

    def __post_init__(self) -> None:
        names = {"objective": Kind, "cost": CostName, "against": Against}
        given = {"objective": self.kind, "cost": self.cost, "against": self.against}
        for field, allowed in names.items():
            if given[field] not in get_args(allowed):
                raise SearchError(
                    f"{field}: {given[field]!r} is not one of "
                    f"{', '.join(get_args(allowed))}"
                )
        cheapest = self.kind == "cheapest"
        if cheapest and not (self.within is not None and 0 <= self.within < 100):
            raise SearchError(
                "within: 'cheapest' needs the points of accuracy that may be lost, "
                f"such as 0.5, not {self.within}"
            )
        if not cheapest and (self.within is not None or self.against != "default"):
            raise SearchError(
                f"within, against: {self.kind!r} has no use for them; the objective "
                "'cheapest' does"
            )
        if self.kind == "accuracy" and self.cost != "macs":
            raise SearchError(
                f"cost: {self.kind!r} has no use for it; limit it by the budget, or "
                "use the objective 'cheapest' or 'pareto'"
            )

    @classmethod
    def of(cls, settings: Mapping[str, Any]) -> Objective:
        """That of a search's settings; earlier versions have its kind alone."""
        fields = {f: settings[f] for f in ("within", "cost", "against")
                  if f in settings}  # fmt: skip
        return cls(kind=settings["objective"], **fields)

    @property
    def metric(self) -> str:
        """What KerasTuner maximizes."""
        return "val_accuracy" if self.kind == "accuracy" else "score"

    def score(self, metrics: Mapping[str, float], reference: float | None) -> float:
        """What guides the tuner: the greater the better.

        Args:
            metrics: of a trial.
            reference: the accuracy that "cheapest" must keep, if it is known yet.
        """
        accuracy = metrics["val_accuracy"]
        if self.kind == "accuracy":
            return accuracy
        decades = math.log10(metrics[self.cost])
        if self.kind == "pareto":
            return accuracy - WORTH * decades
        return -decades - PENALTY * max(self.least(reference) - accuracy, 0)

    def least(self, reference: float | None) -> float:
        """The least accuracy that "cheapest" allows; 0 where nothing is known."""
        return 0.0 if reference is None else reference - (self.within or 0) / 100


def points(within: float) -> str:
    """Percentage points in words."""
    return f"{within:g} {'point' if within == 1 else 'points'}"


def check_task(recipe: Recipe) -> None:
    """Refuses a recipe whose networks have no accuracy to be compared by.

    Raises:
        SearchError: of several labels or a regression.
    """
    if TASKS[recipe.task].score is not ACCURACY:
        raise SearchError(
            f"recipe: task: {recipe.task!r} has no accuracy, which a search compares "
            "networks by; search with 'classes' or 'binary', or train several recipes"
        )
