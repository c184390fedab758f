"""Plan -> parameters, multiply-adds, activations and memory, without building.

Standard library only: thousands of networks a second can be weighed and refused
before any Keras object exists.
"""

from __future__ import annotations

from collections.abc import Iterable
from math import prod
from typing import NamedTuple, cast

from keras_resnet.plan import (
    Conv,
    Dense,
    Merge,
    Norm,
    Op,
    Plan,
    Relu,
    channels_of,
    make_plan,
)
from keras_resnet.spec import ResNetSpec

GATES = ("exclusive_gate", "shortcut_gate")  # merges with a 1x1 convolution
FLOAT32 = 4  # bytes


class Cost(NamedTuple):
    """What one network costs; all but the parameters are for one image.

    Attributes:
        params: trainable scalars.
        total_params: with batch norms' moving statistics, as `count_params()`.
        macs: multiply-adds of convolutions and dense layers; the ResNet papers'
            "FLOPs". None where the image size is open.
        activations: scalars that convolutions and dense layers put out. None where
            the image size is open.
        training_memory: bytes of float32 that backpropagation keeps for an image:
            the inputs of weighted layers, batch norms and ReLUs, each once. An
            estimate that leaves out workspaces. None where the image size is open.
    """

    params: int
    total_params: int
    macs: int | None
    activations: int | None
    training_memory: int | None


def estimate_cost(network: ResNetSpec | Plan) -> Cost:
    """Costs of a spec or plan, exact but for the memory.

    Raises:
        SpecError: the spec's image is too small for its strides.
    """
    plan = network if isinstance(network, Plan) else make_plan(network)
    return cost_of(plan.ops, known_size=None not in plan.spec.input_shape)


def cost_of(ops: Iterable[Op], *, known_size: bool = True) -> Cost:
    """Costs of some layers of a plan."""
    params = moving = macs = activations = kept = 0
    for op in ops:
        channels = channels_of(op.shape)
        pixels = prod(cast("tuple[int, ...]", op.shape[:-1])) if known_size else 0
        if isinstance(op, Conv | Dense):
            if isinstance(op, Conv):
                weights = op.kernel**2 * op.in_channels // op.groups * channels
            else:
                weights = op.in_features * channels
            params += weights + channels * op.bias
            macs += weights * pixels
            activations += channels * pixels
            kept += channels * pixels
        elif isinstance(op, Norm):
            params += 2 * channels
            moving += 2 * channels
        elif isinstance(op, Relu):
            kept += channels * pixels
        elif isinstance(op, Merge) and op.kind in GATES:
            params += channels * channels + channels
            macs += channels * channels * pixels
    if not known_size:
        return Cost(params, params + moving, None, None, None)
    return Cost(params, params + moving, macs, activations, kept * FLOAT32)
