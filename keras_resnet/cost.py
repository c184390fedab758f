"""Plan -> parameters, multiply-adds, activations and memory, without building.

Equal units of a stage are counted once. Standard library only: thousands of networks
a second can be costed and refused before any Keras object exists.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Sequence
from math import prod
from typing import NamedTuple, cast

from keras_resnet.plan import (
    GATES,
    Conv,
    Dense,
    Dropout,
    Merge,
    Norm,
    Op,
    Plan,
    Pool,
    Relu,
    Skip,
    Unit,
    channels_of,
    check_spec,
    make_outline,
)
from keras_resnet.spec import ResNetSpec

FLOAT32 = 4  # bytes
# Tensors of a unit's shape that its gradient takes while it is computed, as measured.
WORKING = 4


class Cost(NamedTuple):
    """What one network costs; all but the parameters are for one image.

    Attributes:
        params: trainable scalars.
        total_params: with batch norms' moving statistics, as `count_params()`.
        macs: multiply-adds of convolutions and dense layers; the ResNet papers'
            "FLOPs". None where the image size is open.
        activations: scalars that convolutions and dense layers put out. None where
            the image size is open.
        training_memory: bytes of float32 that backpropagation keeps for an image, by
            which memory grows with the batch: what convolutions, dense layers, batch
            norms and gates take in, what ReLUs and max pools put out, each once. Within
            20 % of what `benchmarks/memory.py` measures. None where the image size is
            open.
    """

    params: int
    total_params: int
    macs: int | None
    activations: int | None
    training_memory: int | None


def estimate_cost(network: ResNetSpec | Plan, *, recompute: bool = False) -> Cost:
    """Costs of a spec or plan, exact but for the memory.

    Args:
        network: a spec or a plan.
        recompute: whether the units' activations are computed again in training, as
            `build(..., recompute=True)` does. Concerns the memory only.

    Raises:
        SpecError: the spec's image is too small for its strides.
    """
    spec = network.spec if isinstance(network, Plan) else check_spec(network)
    # Networks that differ in what costs nothing are one.
    return _cost(spec.replace(name="any", survival=1.0), recompute)


@functools.lru_cache(maxsize=65_536)
def _cost(spec: ResNetSpec, recompute: bool) -> Cost:
    plan, counts = make_outline(spec)
    parts = [
        (cost_of((*plan.stem, *plan.head)), 1),
        *((cost_of(unit.ops), n) for unit, n in zip(plan.units, counts, strict=True)),
    ]
    known = None not in spec.input_shape
    params = sum(part.params * n for part, n in parts)
    total = sum(part.total_params * n for part, n in parts)
    if not known:
        return Cost(params, total, None, None, None)
    macs = sum((part.macs or 0) * n for part, n in parts)
    activations = sum((part.activations or 0) * n for part, n in parts)
    memory = _training_memory(plan, counts, recompute)
    return Cost(params, total, macs, activations, memory)


def cost_of(ops: Iterable[Op]) -> Cost:
    """Costs of some layers of a plan, without their memory."""
    params = moving = macs = activations = 0
    known = True
    for op in ops:
        channels = channels_of(op.shape)
        sides = cast("tuple[int, ...]", op.shape[:-1])
        known &= None not in sides
        if isinstance(op, Conv | Dense):
            if isinstance(op, Conv):
                weights = op.kernel**2 * op.in_channels // op.groups * channels
            else:
                weights = op.in_features * channels
            pixels = prod(sides) if known else 0
            params += weights + channels * op.bias
            macs += weights * pixels
            activations += channels * pixels
        elif isinstance(op, Norm):
            params += 2 * channels
            moving += 2 * channels
        elif isinstance(op, Merge) and op.kind in GATES:
            params += channels * channels + channels
            macs += channels * channels * (prod(sides) if known else 0)
    if not known:
        return Cost(params, params + moving, None, None, None)
    return Cost(params, params + moving, macs, activations, None)


class _Tensor:
    """What one layer puts out for an image, and whether the gradient needs it."""

    __slots__ = ("kept", "size")

    def __init__(self, op: Op, kept: bool = False) -> None:
        self.size = prod(cast("tuple[int, ...]", op.shape))
        self.kept = kept


def _training_memory(plan: Plan, counts: Sequence[int], recompute: bool) -> int:
    image = _Tensor(plan.stem[0], kept=True)
    image.size = prod(cast("tuple[int, ...]", plan.spec.input_shape))
    tensors = [image]
    x = _follow(plan.stem, image, tensors)
    stem = _size(tensors)
    units: list[tuple[list[_Tensor], int]] = []
    peak = inputs = 0
    for unit, count in zip(plan.units, counts, strict=True):
        # What follows the last of equal units may need its output less than they do.
        for copies in (count - 1, 1) if count > 1 else (1,):
            inner: list[_Tensor] = []
            inputs += copies * x.size
            x = _follow_unit(unit, x, inner)
            # When a unit is recomputed, those after it have gone.
            peak = max(peak, stem + inputs + _size(inner) + WORKING * x.size)
            units.append((inner, copies))
    if recompute:
        return peak * FLOAT32
    _follow(plan.head, x, tensors)
    return FLOAT32 * (
        _size(tensors) + sum(_size(inner) * copies for inner, copies in units)
    )


def _size(tensors: Iterable[_Tensor]) -> int:
    return sum(tensor.size for tensor in tensors if tensor.kept)


def _follow(ops: Iterable[Op], x: _Tensor, tensors: list[_Tensor]) -> _Tensor:
    """What comes of x; the tensors on the way are collected."""
    for op in ops:
        if isinstance(op, Skip):
            continue
        pools = isinstance(op, Pool) and op.kind == "max"
        x.kept |= pools or isinstance(op, Conv | Dense | Norm)
        x = _Tensor(op, kept=pools or isinstance(op, Relu | Dropout))
        tensors.append(x)
    return x


def _follow_unit(unit: Unit, x: _Tensor, tensors: list[_Tensor]) -> _Tensor:
    x = _follow(unit.shared, x, tensors)
    residual = _follow(unit.residual, x, tensors)
    if unit.merge:
        shortcut = _follow(unit.shortcut, x, tensors)
        x = _Tensor(unit.merge)
        if unit.merge.kind in GATES:
            shortcut.kept = residual.kept = True
            tensors.append(_Tensor(unit.merge, kept=True))  # the gate
        tensors.append(x)
    else:
        x = residual
    return _follow(unit.after, x, tensors)
