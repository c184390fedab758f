"""A plan as a torch module, as a torch user would write it: the peer, not a port.

`python -m benchmarks.checks.torch_form` compares it with the Keras network.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import nn

from keras_resnet.plan import (
    Conv,
    Dense,
    Dropout,
    Norm,
    Op,
    Pad,
    PadChannels,
    Pool,
    Relu,
    Unit,
    channels_of,
    make_plan,
)
from keras_resnet.spec import ResNetSpec


def chain(ops: Iterable[Op], spec: ResNetSpec, *, owned: bool = False) -> nn.Sequential:
    """Modules one after the other, named as the plan names them.

    Args:
        ops: layers of a plan.
        spec: its network.
        owned: nothing else reads what goes in, so that a ReLU may overwrite it.
    """
    modules = nn.Sequential()
    padding, before = 0, None
    for op in ops:
        if isinstance(op, Pad):
            padding = op.amount  # of the convolution or pool that comes next
            continue
        if isinstance(op, Pool) and op.size == 1 and isinstance(before, Pool):
            # The plan pools every pixel, then takes every second.
            modules.get_submodule(before.name).stride = op.stride
            continue
        if isinstance(op, Pool) and padding and not isinstance(before, Relu):
            raise NotImplementedError("zeros around signed values in a max pool")
        in_place = owned or before is not None
        modules.add_module(op.name, _module(op, spec, padding, in_place))
        padding, before = 0, op
    return modules


def _module(op: Op, spec: ResNetSpec, padding: int, in_place: bool) -> nn.Module:
    match op:
        case Conv():
            if op.padding == "same":
                padding = op.kernel // 2 * op.dilation
            return nn.Conv2d(
                op.in_channels,
                channels_of(op.shape),
                op.kernel,
                op.stride,
                padding,
                op.dilation,
                op.groups,
                op.bias,
            )
        case Dense():
            return nn.Linear(op.in_features, channels_of(op.shape), op.bias)
        case Norm():
            return nn.BatchNorm2d(
                channels_of(op.shape), spec.bn_epsilon, 1 - spec.bn_momentum
            )
        case Relu():
            return nn.ReLU(in_place)
        case Pool(kind="global"):
            return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
        case Pool(kind="average"):
            # Keras' "same" averages what is inside the image.
            return nn.AvgPool2d(op.size, op.stride, ceil_mode=op.padding == "same")
        case Pool(size=1):
            return nn.AvgPool2d(1, op.stride)  # faster than a slice
        case Pool():
            # Zeros after a ReLU are as good as torch's minus infinity.
            same = op.size // 2 if op.padding == "same" else 0
            return nn.MaxPool2d(op.size, op.stride, padding or same)
        case PadChannels():
            return nn.ZeroPad3d((0, 0, 0, 0, 0, op.extra))
        case Dropout():
            return nn.Dropout(op.rate)
    raise NotImplementedError(f"no torch module for {type(op).__name__}")


class ResidualUnit(nn.Module):
    """shared -> (shortcut, residual) -> sum -> after; without a shortcut if plain."""

    def __init__(self, unit: Unit, spec: ResNetSpec) -> None:
        super().__init__()
        if unit.merge and (unit.merge.kind != "add" or unit.merge.survival < 1):
            raise NotImplementedError("no torch module for merges but sums")
        self.is_plain = unit.merge is None
        self.shared = chain(unit.shared, spec)
        self.shortcut = chain(unit.shortcut, spec)
        self.residual = chain(unit.residual, spec)
        self.after = chain(unit.after, spec, owned=True)
        # A ReLU's gradient needs what it put out.
        self.in_place = not isinstance(unit.residual[-1], Relu)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The unit's output."""
        x = self.shared(x)
        residual = self.residual(x)
        if self.is_plain:
            pass
        elif self.in_place:
            residual += self.shortcut(x)
        else:
            residual = residual + self.shortcut(x)
        return self.after(residual)


def network(spec: ResNetSpec) -> nn.Sequential:
    """The network in channels-last memory, initialized as torch does."""
    plan = make_plan(spec)
    return nn.Sequential(
        chain(plan.stem, spec, owned=True),
        *(ResidualUnit(unit, spec) for unit in plan.units),
        chain(plan.head, spec, owned=True),
    ).to(memory_format=torch.channels_last)


def images(batch: torch.Tensor) -> torch.Tensor:
    """(batch, height, width, channels) as torch's shape, without a copy."""
    return batch.permute(0, 3, 1, 2)


def quantized(net: nn.Module, x: torch.Tensor) -> nn.Module:
    """A network in eight-bit integers, its ranges those of one batch."""
    from torch.ao.quantization import get_default_qconfig_mapping, quantize_fx

    engine = "x86"  # fbgemm or oneDNN, whichever has the operation
    torch.backends.quantized.engine = engine
    observed = quantize_fx.prepare_fx(net, get_default_qconfig_mapping(engine), (x,))
    with torch.inference_mode():
        observed(x)
    return quantize_fx.convert_fx(observed)
