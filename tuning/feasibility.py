"""Whether any network of a space is within a budget, before one is built."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from keras_resnet.cost import estimate_cost
from keras_resnet.errors import BudgetError
from keras_resnet.units import in_units
from tuning.budget import macs_of
from tuning.decode import declare, recipe_from_hp
from tuning.space import Range, Space

if TYPE_CHECKING:
    from tuning.hypermodel import ResidualHyperModel

DRAWS = 300  # random candidates that are costed before a search begins
CATEGORIES = ("block", "cardinality", "order", "stem")  # their least isn't the cheapest


def check_budget(hypermodel: ResidualHyperModel) -> None:
    """Refuses a budget that no candidate meets, before anything is built.

    Raises:
        BudgetError: it says what the cheapest costs.
    """
    if all(limit is None for limit in vars(hypermodel.budget).values()):
        return
    costs = []
    space = hypermodel.space
    for values in itertools.chain(_corners(space), _random(space)):
        hp = SimpleNamespace(values=values)
        if hypermodel.refusal(hp) is None:
            return
        spec = recipe_from_hp(hp, space, hypermodel.recipe).model
        costs.append((macs_of(spec), estimate_cost(spec).params))
    macs, params = map(min, zip(*costs, strict=True))
    raise BudgetError(
        f"budget: no network of the space {space.name} meets it; the "
        f"cheapest cost {in_units(macs, 'MAC')} and {in_units(params, 'param')}"
        + (f" ({hypermodel.refusal(hp)})" if hypermodel.mode == "iso" else "")
    )


def _corners(space: Space) -> Iterator[dict[str, Any]]:
    """The least of all numbers, with each end of what is no size."""
    options = {}
    for field in space.searched:
        values = getattr(space, field)
        if isinstance(values, Range):
            values = (values.low, values.high)
        ends = values if isinstance(values[0], str) else (min(values), max(values))
        options[field] = ends if field in CATEGORIES else ends[:1]
    for corner in itertools.product(*options.values()):
        yield dict(zip(options, corner, strict=True))


def _random(space: Space) -> Iterator[dict[str, Any]]:
    import keras_tuner

    oracle = keras_tuner.oracles.RandomSearchOracle(seed=1)
    declare(oracle.hyperparameters, space)
    for _ in range(DRAWS):
        values = oracle._random_values()
        if values is None:
            return
        oracle._tried_so_far.add(oracle._compute_values_hash(values))
        yield values
