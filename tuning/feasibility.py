"""Whether any network of a space is within a budget, before one is built."""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Iterator, Mapping, Sequence
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np

from keras_resnet.cost import estimate_cost
from keras_resnet.errors import BudgetError
from keras_resnet.naming import renamed
from keras_resnet.recipe import Recipe
from keras_resnet.units import in_units
from tuning.budget import Budget, Mode, fitted, macs_of
from tuning.decode import recipe_from_hp
from tuning.space import PARAMETERS, Range, Space

DRAWS = 300  # random candidates that are costed where there are too many
ALL = 20_000  # candidates up to which all are costed: some seconds
ENDS = 16  # values that stand for a range
# What a candidate costs depends on these alone.
SIZED = (
    "block", "depth", "units", "k", "cardinality", "group_width", "order", "stem",
    "batch_size",
)  # fmt: skip


class Candidates(NamedTuple):
    """The networks of a space, within a budget.

    Attributes:
        space: what is varied.
        recipe: the base, whose network is for the images of the search.
        budget: what a candidate may cost.
        mode: what is done with those over it; see `budget.fitted`.
    """

    space: Space
    recipe: Recipe
    budget: Budget
    mode: Mode

    def candidate(self, hp: Any) -> Recipe:
        """Network and training of some hyperparameters.

        Raises:
            BudgetError: it is over the budget.
        """
        recipe = recipe_from_hp(hp, self.space, self.recipe)
        keep_outer = "k" in self.space.searched
        spec = fitted(
            recipe.model, self.budget, recipe.batch_size, self.mode, keep_outer
        )
        return recipe.replace(model=renamed(spec, self.recipe.model))

    def refusal(self, hp: Any) -> str | None:
        """Why hyperparameters are over the budget; None if they aren't."""
        try:
            self.candidate(hp)
        except BudgetError as error:
            return str(error)
        return None


def check_budget(candidates: Candidates, also: str = "") -> None:
    """Refuses a budget that no candidate meets, before anything is built.

    Where the space is too large to look at every candidate, some are drawn, and the
    cheapest of them is made cheaper, a hyperparameter at a time.

    Args:
        candidates: of the search.
        also: for the message, how the budget came about.

    Raises:
        BudgetError: it says what the cheapest costs.
    """
    if all(limit is None for limit in vars(candidates.budget).values()):
        return
    options = _options(candidates.space)
    count = math.prod(map(len, options.values()))
    costs: list[tuple[int, int]] = []
    for values in _all(options) if count <= ALL else _some(candidates, options):
        refusal = candidates.refusal(SimpleNamespace(values=values))
        if refusal is None:
            return
        costs.append(_cost(candidates, values))
    macs, params = map(min, zip(*costs, strict=True))
    found = "cost" if count <= ALL else "found cost"
    raise BudgetError(
        f"budget: no network of the space {candidates.space.name} meets it{also}; the "
        f"cheapest {found} {in_units(macs, 'MAC')} and {in_units(params, 'param')}"
        + (f" ({refusal})" if candidates.mode == "iso" else "")
    )


def _cost(candidates: Candidates, values: dict[str, Any]) -> tuple[int, int]:
    """Multiply-adds and parameters, before widths are changed to meet the budget."""
    hp = SimpleNamespace(values=values)
    spec = recipe_from_hp(hp, candidates.space, candidates.recipe).model
    return macs_of(spec), estimate_cost(spec).params


def _options(space: Space) -> dict[str, Sequence[Any]]:
    """The values of each hyperparameter: all choices, all or some of a range."""
    options: dict[str, Sequence[Any]] = {}
    for field in space.searched:
        values = getattr(space, field)
        if isinstance(values, Range):
            integers = PARAMETERS[field].kind is int
            count = int(values.high - values.low) + 1 if integers else ENDS
            values = np.linspace(values.low, values.high, min(count, 4 * ENDS))
            values = [int(v) if integers else float(v) for v in values]
        if not isinstance(values[0], str):
            values = sorted(values)
        options[field] = values if field in SIZED else values[:1]
    return options


def _all(options: Mapping[str, Sequence[Any]]) -> Iterator[dict[str, Any]]:
    for chosen in itertools.product(*options.values()):
        yield dict(zip(options, chosen, strict=True))


def _some(
    candidates: Candidates, options: dict[str, Sequence[Any]]
) -> Iterator[dict[str, Any]]:
    """The corners and random candidates, then descents by multiply-adds, parameters."""
    draw = random.Random(1)
    ends = {field: [*{values[0], values[-1]}] for field, values in options.items()}
    drawn = [*itertools.islice(_all(ends), DRAWS)]
    drawn += [{f: draw.choice(v) for f, v in options.items()} for _ in range(DRAWS)]
    yield from drawn
    for kind in (0, 1):
        best = min(drawn, key=lambda values: _cost(candidates, values)[kind])
        before: dict[str, Any] = {}
        while best != before:
            before = best
            for field in options:
                near = [best | {field: value} for value in options[field]]
                yield from near
                best = min(near, key=lambda values: _cost(candidates, values)[kind])
