"""How many candidates of a search are costed, refused and solved in a second.

    python -m benchmarks.candidates [--count N]

Every candidate is drawn at random from `tuning`'s space "all" for 32 pixels, up to 110
layers, and its budget is a third of what the median costs. "cold" has no network seen
before; "search" draws as a search does, and meets the same shapes again. Seconds are
of one core, so that other work on the machine does not count.
"""

from __future__ import annotations

import random
import time
from pathlib import Path
from types import SimpleNamespace

import click

from benchmarks import options, report
from keras_resnet import cifar_resnet, cost
from keras_resnet.recipe import Recipe
from tuning import budget
from tuning.budget import Budget, BudgetError, fitted
from tuning.decode import recipe_from_hp
from tuning.space import Range, Space
from tuning.spaces import SPACES

COLUMNS = {
    "mode": ("peer", ""),
    "candidates": ("count", ""),
    "refused": ("refused", ""),
    "a second, cold": ("cold", ",.0f"),
    "a second, search": ("search", ",.0f"),
}
RECIPE = Recipe(name="base", model=cifar_resnet(20), epochs=1)


@click.command()
@options.count("--count", 2000, "Candidates.")
@options.out()
def main(count: int, out: Path) -> None:
    """Count the candidates that a search can judge in a second."""
    space = SPACES["all"]["cifar"]
    draw = random.Random(0)
    records = []
    for mode in ("refuse", "repair", "iso"):
        samples = [_sample(space, draw) for _ in range(count)]
        distinct = {repr(sorted(s.values.items())): s for s in samples}
        cost._cost.cache_clear()
        budget.at_cost.cache_clear()
        cold, _ = _rate(list(distinct.values()), space, mode)
        warm, refused = _rate(samples, space, mode)
        records.append(
            {
                "case": space.name,
                "peer": mode,
                "count": count,
                "refused": refused,
                "cold": cold,
                "search": warm,
            }
        )
    report.publish(out, "Candidates of a search", COLUMNS, records)


def _rate(samples: list[SimpleNamespace], space: Space, mode: str) -> tuple[float, int]:
    """Candidates a second, and how many of them are refused."""
    began, refused = time.process_time(), 0
    for sample in samples:
        candidate = recipe_from_hp(sample, space, RECIPE)
        try:
            fitted(candidate.model, Budget(macs=41e6), 128, mode)
        except BudgetError:
            refused += 1
    return len(samples) / (time.process_time() - began), refused


def _sample(space: Space, draw: random.Random) -> SimpleNamespace:
    values = {}
    for field in space.searched:
        choices = getattr(space, field)
        if isinstance(choices, Range):
            values[field] = draw.uniform(choices.low, choices.high)
        else:
            values[field] = draw.choice(choices)
    return SimpleNamespace(values=values)


if __name__ == "__main__":
    main()
