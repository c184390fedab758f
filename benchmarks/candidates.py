"""How many candidates of a search are costed, refused and solved in a second.

    python -m benchmarks.candidates --count 2000

Every candidate is drawn at random from `tuning`'s space "all" for 32 pixels, up to 110
layers, and its budget is a third of what the median costs. "cold" has no network seen
before; "search" draws as a search does, and meets the same shapes again. Seconds are
of one core, so that other work on the machine does not count.
"""

from __future__ import annotations

import argparse
import random
import time
from types import SimpleNamespace

from keras_resnet import cifar_resnet, cost
from keras_resnet.recipe import Recipe
from tuning import budget as budgets
from tuning.budget import Budget, BudgetError, fitted
from tuning.decode import recipe_from_hp
from tuning.space import Range
from tuning.spaces import SPACES


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=2000)
    count = parser.parse_args().count
    space = SPACES["all"]["cifar"]
    recipe = Recipe(name="base", model=cifar_resnet(20), epochs=1)
    draw = random.Random(0)
    print("| mode | candidates | refused | a second, cold | a second, search |")
    print("|---|---|---|---|---|")
    for mode in ("refuse", "repair", "iso"):
        seconds, refused = [], 0
        samples = [_sample(space, draw) for _ in range(count)]
        distinct = {repr(sorted(s.values.items())): s for s in samples}
        for batch in (list(distinct.values()), samples):
            if not seconds:
                cost._cost.cache_clear()
                budgets.at_cost.cache_clear()
            began, refused = time.process_time(), 0
            for sample in batch:
                candidate = recipe_from_hp(sample, space, recipe)
                try:
                    fitted(candidate.model, Budget(macs=41e6), 128, mode)
                except BudgetError:
                    refused += 1
            seconds.append((time.process_time() - began) / len(batch))
        cold, warm = (1 / s for s in seconds)
        print(f"| {mode} | {count} | {refused} | {cold:,.0f} | {warm:,.0f} |")


def _sample(space: object, draw: random.Random) -> SimpleNamespace:
    values = {}
    for field in space.searched:  # type: ignore[attr-defined]
        choices = getattr(space, field)
        if isinstance(choices, Range):
            values[field] = draw.uniform(choices.low, choices.high)
        else:
            values[field] = draw.choice(choices)
    return SimpleNamespace(values=values)


if __name__ == "__main__":
    main()
