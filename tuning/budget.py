"""What a candidate may cost, decided from its spec before any Keras object exists."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable
from typing import Literal

from keras_resnet.cost import FLOAT32, estimate_cost
from keras_resnet.errors import BudgetError, SpecError
from keras_resnet.recipe import Recipe
from keras_resnet.spec import EXPANSION, MAX_CHANNELS, ResNetSpec
from keras_resnet.units import in_units, parse_amount

Mode = Literal["refuse", "repair", "iso"]
TOLERANCE = 0.05  # of the multiply-adds, within which networks cost the same
CLOSE = 0.01  # of them, at which no nearer widths are sought


@dataclasses.dataclass(frozen=True, kw_only=True)
class Budget:
    """Limits of a candidate and of the search; None is none.

    Attributes:
        macs: multiply-adds for an image.
        params: trainable parameters.
        memory: bytes in training: weights, gradients, momentum and a batch's
            activations.
        latency: seconds for one image on this machine; measured, so it takes a built
            model.
        time: seconds of training that the search may take in all.
    """

    macs: float | None = None
    params: float | None = None
    memory: float | None = None
    latency: float | None = None
    time: float | None = None

    @classmethod
    def parse(cls, text: str) -> Budget:
        """Of amounts with commas between: "4.1GMAC, 2Mparam, 500MB, 5ms, 2h".

        Raises:
            BudgetError: naming the amount.
        """
        limits: dict[str, float] = {}
        for part in text.split(","):
            amount = parse_amount(part)
            field = "latency" if amount.unit == "ms" else amount.quantity
            if field in limits:
                raise BudgetError(f"budget: {text!r} has two limits of {field}")
            limits[field] = amount.value
        return cls(**limits)

    def refusal(self, spec: ResNetSpec, batch_size: int) -> str | None:
        """Why a network is too expensive; None if it isn't."""
        needed: list[tuple[float, float | None, str]] = [
            (macs_of(spec), self.macs, "MAC"),
            (estimate_cost(spec).params, self.params, "param"),
        ]
        if self.memory:
            needed.append((training_bytes(spec, batch_size), self.memory, "B"))
        for value, limit, unit in needed:
            if limit and value > limit:
                return f"{in_units(value, unit)} are over {in_units(limit, unit)}"
        return None


def macs_of(spec: ResNetSpec) -> int:
    """Multiply-adds for an image.

    Raises:
        SpecError: the image is too small, or its size is open.
    """
    macs = estimate_cost(spec).macs
    if macs is None:
        raise SpecError(
            f"input_shape: {list(spec.input_shape)} is open; it has no cost"
        )
    return macs


def training_bytes(spec: ResNetSpec, batch_size: int) -> int:
    """Memory of float32 training by SGD with momentum."""
    cost = estimate_cost(spec)
    return 3 * FLOAT32 * cost.total_params + batch_size * (cost.training_memory or 0)


def costs_of(recipe: Recipe) -> dict[str, float]:
    """What a network and its training cost, by the names that a budget has."""
    return {
        "macs": macs_of(recipe.model),
        "params": estimate_cost(recipe.model).params,
        "memory": training_bytes(recipe.model, recipe.batch_size),
    }


@functools.lru_cache(maxsize=65_536)
def at_cost(spec: ResNetSpec, macs: float, keep_outer: bool = False) -> ResNetSpec:
    """The same shape with the widths at which it costs so many multiply-adds.

    Bottlenecks with groups keep the outer widths that the plain network (C = 1, a
    quarter inside) of this depth has at this cost, and get the group width for it:
    ResNeXt's ladder 1x64d, 2x40d, 4x24d, 8x14d, 32x4d (Xie 2016, Table 2). Others get
    all widths. The stem keeps its own, or as many as the first stage.

    Args:
        spec: the shape.
        macs: what it is to cost, for an image.
        keep_outer: whether a bottleneck's outer widths stay.

    Raises:
        BudgetError: no widths cost that within `TOLERANCE`.
    """
    solved = spec.replace(
        widths=_rounded(spec, 1.0), k=1, cardinality=1, group_width=None
    )
    if not keep_outer or spec.block != "bottleneck":
        solved = _by_factor(solved, macs)
    if spec.block == "bottleneck" and (keep_outer or spec.cardinality > 1):
        solved = _by_group(
            solved.replace(cardinality=spec.cardinality, group_width=1), macs
        )
        # In narrow networks a channel a group more is a large step.
        if not keep_outer and not _equal(solved, macs):
            solved = _by_factor(solved, macs)
    if not _equal(solved, macs):
        found = in_units(macs_of(solved), "MAC")
        raise BudgetError(
            f"budget: {_shape(spec)} costs {found} at the nearest widths, "
            f"not {in_units(macs, 'MAC')}"
        )
    return solved


def _equal(spec: ResNetSpec, macs: float) -> bool:
    return abs(macs_of(spec) / macs - 1) <= TOLERANCE


def _shape(spec: ResNetSpec) -> str:
    groups = f", C = {spec.cardinality}" if spec.block == "bottleneck" else ""
    return f"a network of {list(spec.depths)} {spec.block} units{groups}"


def _rounded(spec: ResNetSpec, factor: float) -> tuple[int, ...]:
    """Outer widths with k and another factor in them, in whole channels."""
    multiple = EXPANSION if spec.block == "bottleneck" else 1
    return tuple(
        min(max(round(w * spec.k * factor / multiple), 1) * multiple, MAX_CHANNELS)
        for w in spec.widths
    )


def _by_factor(spec: ResNetSpec, macs: float) -> ResNetSpec:
    """All outer widths by one factor, the nearest in cost."""

    def scaled(thousandths: int) -> ResNetSpec:
        widths = _rounded(spec, thousandths / 1000)
        return spec.replace(widths=widths, stem_width=min(spec.stem_width, widths[0]))

    start = math.sqrt(macs / macs_of(spec)) * 1000
    return scaled(_nearest(lambda n: macs_of(scaled(n)), macs, round(start)))


def _by_group(spec: ResNetSpec, macs: float) -> ResNetSpec:
    """The group width that is nearest in cost: even, as all of ResNeXt's are, or 1."""

    def grouped(half: int) -> ResNetSpec:
        return spec.replace(group_width=max(2 * half, 1))

    # The least that leaves every stage a channel a group; the most that fits.
    scales = [width / spec.widths[0] * spec.k for width in spec.widths]
    low = math.ceil(1 / min(scales)) // 2
    high = max(int(MAX_CHANNELS / max(scales)) // spec.cardinality // 2, low)
    # In ResNeXt's ladder the inner width grows by a fifth with each doubling of C.
    inner = spec.outer_width(0) / EXPANSION * (1 + math.log2(spec.cardinality) / 5)
    start = max(round(inner / spec.k / spec.cardinality / 2), 1)
    return grouped(_nearest(lambda n: macs_of(grouped(n)), macs, start, low, high))


def _nearest(
    cost: Callable[[int], int],
    target: float,
    start: int,
    low: int = 1,
    high: int = 64_000,
) -> int:
    """The integer whose cost, which grows with it, is nearest to the target.

    Or the first that is found to be `CLOSE` to it.
    """
    errors: dict[int, float] = {}
    n = min(max(start, low), high)
    below, above = low - 1, high + 1
    while below < n < above:
        found = cost(n)
        errors[n] = abs(found / target - 1)
        if errors[n] <= CLOSE:
            break
        below, above = (n, above) if found < target else (below, n)
        # Cost grows about as the square. A little further: then it is between two.
        step = n * (math.sqrt(target / found) - 1) * 1.125
        n += math.ceil(step) if step > 0 else math.floor(step)
        if not below < n < above or (below in errors and above in errors):
            n = (below + above) // 2
    return min(errors, key=lambda n: errors[n])


def fitted(spec: ResNetSpec, budget: Budget, batch_size: int, mode: Mode,
           keep_outer: bool = False) -> ResNetSpec:  # fmt: skip
    """A candidate within the budget.

    Args:
        spec: the candidate.
        budget: its limits.
        batch_size: images a step, for the memory.
        mode: "refuse" what is over; "repair" its widths until it isn't; "iso" solves
            the widths so that every candidate costs the budget's multiply-adds.
        keep_outer: as `at_cost` has it.

    Raises:
        BudgetError: it can't be.
    """
    if mode == "iso":
        if not budget.macs:
            raise BudgetError("budget: 'iso' needs multiply-adds, such as 40MMAC")
        spec = at_cost(spec, budget.macs, keep_outer)
        # The nearest may be a little above.
        budget = dataclasses.replace(budget, macs=None)
    reason = budget.refusal(spec, batch_size)
    if reason and mode == "repair":
        spec, reason = _shrunk(spec, budget, batch_size)
    if reason:
        raise BudgetError(f"budget: {_shape(spec)}: {reason}")
    return spec


def _shrunk(
    spec: ResNetSpec, budget: Budget, batch_size: int
) -> tuple[ResNetSpec, str | None]:
    """The widest of the same shape that is within the budget, and why none is."""
    grouped = spec.group_width is not None
    whole = spec.replace(widths=_rounded(spec, 1.0), k=1)
    if grouped:
        whole = whole.replace(
            group_width=max(round((spec.group_width or 1) * spec.k), 1)
        )

    def scaled(percent: int) -> ResNetSpec:
        widths = _rounded(whole, percent / 100)
        inner = whole.group_width and max(whole.group_width * percent // 100, 1)
        return whole.replace(widths=widths, group_width=inner,
                             stem_width=min(spec.stem_width, widths[0]))  # fmt: skip

    def over(percent: int) -> str | None:
        return budget.refusal(scaled(percent), batch_size)

    # Around what the multiply-adds, which grow as the square, would have.
    share = math.sqrt((budget.macs or math.inf) / macs_of(spec))
    low = high = min(max(round(100 * share), 1), 99) if share < 1 else 50
    step = 1
    if over(low):
        while low > 1 and over(low):
            high, low, step = low, max(low - step, 1), 2 * step
    else:
        while high < 100 and not over(high):
            low, high, step = high, min(high + step, 100), 2 * step
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if over(middle) else (middle, high)
    return scaled(low), over(low)
