"""Whether any network of a space is within a budget, before one is built."""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Iterator, Mapping, Sequence
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np

from keras_resnet.cost import estimate_cost
from keras_resnet.errors import BudgetError
from keras_resnet.units import in_units
from tuning.budget import macs_of
from tuning.decode import recipe_from_hp
from tuning.space import PARAMETERS, Range, Space

if TYPE_CHECKING:
    from tuning.hypermodel import ResidualHyperModel

DRAWS = 300  # random candidates that are costed where there are too many
ALL = 20_000  # candidates up to which all are costed: some seconds
ENDS = 16  # values that stand for a range
# What a candidate costs depends on these alone.
SIZED = (
    "block", "depth", "units", "k", "cardinality", "group_width", "order", "stem",
    "batch_size",
)  # fmt: skip


def check_budget(hypermodel: ResidualHyperModel, also: str = "") -> None:
    """Refuses a budget that no candidate meets, before anything is built.

    Where the space is too large to look at every candidate, some are drawn, and the
    cheapest of them is made cheaper, a hyperparameter at a time.

    Args:
        hypermodel: has space, recipe and budget.
        also: for the message, how the budget came about.

    Raises:
        BudgetError: it says what the cheapest costs.
    """
    if all(limit is None for limit in vars(hypermodel.budget).values()):
        return
    options = _options(hypermodel.space)
    count = math.prod(map(len, options.values()))
    costs: list[tuple[int, int]] = []
    for values in _all(options) if count <= ALL else _some(hypermodel, options):
        refusal = hypermodel.refusal(SimpleNamespace(values=values))
        if refusal is None:
            return
        costs.append(_cost(hypermodel, values))
    macs, params = map(min, zip(*costs, strict=True))
    found = "cost" if count <= ALL else "found cost"
    raise BudgetError(
        f"budget: no network of the space {hypermodel.space.name} meets it{also}; the "
        f"cheapest {found} {in_units(macs, 'MAC')} and {in_units(params, 'param')}"
        + (f" ({refusal})" if hypermodel.mode == "iso" else "")
    )


def _cost(hypermodel: ResidualHyperModel, values: dict[str, Any]) -> tuple[int, int]:
    """Multiply-adds and parameters, before widths are changed to meet the budget."""
    hp = SimpleNamespace(values=values)
    spec = recipe_from_hp(hp, hypermodel.space, hypermodel.recipe).model
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
    hypermodel: ResidualHyperModel, options: dict[str, Sequence[Any]]
) -> Iterator[dict[str, Any]]:
    """The corners and random candidates, then descents by multiply-adds, parameters."""
    draw = random.Random(1)
    ends = {field: [*{values[0], values[-1]}] for field, values in options.items()}
    drawn = [*itertools.islice(_all(ends), DRAWS)]
    drawn += [{f: draw.choice(v) for f, v in options.items()} for _ in range(DRAWS)]
    yield from drawn
    for kind in (0, 1):
        best = min(drawn, key=lambda values: _cost(hypermodel, values)[kind])
        before: dict[str, Any] = {}
        while best != before:
            before = best
            for field in options:
                near = [best | {field: value} for value in options[field]]
                yield from near
                best = min(near, key=lambda values: _cost(hypermodel, values)[kind])
