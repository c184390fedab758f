"""Spec -> plan: every layer of a network with its shape and name, decided once.

The Keras builder and the analytic cost walk the same plan, so they can't disagree.
A plan holds no weights and no device choices. Standard library only.

Layers are named as keras.applications': conv1_... is the stem, conv2_block1_2_conv the
second convolution of the second stage's first unit (its 0_conv is the projection),
post_... what follows the last unit.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Literal, NamedTuple, cast

from keras_resnet.errors import SpecError
from keras_resnet.spec import ResNetSpec

Shape = tuple[int | None, ...]  # one image: (height, width, channels) or (features,)


STAGE = re.compile(r"conv\d+")  # names of stages
LAST = "post"  # what follows the last unit, and belongs to no stage
_LAYER = re.compile(rf"(?:(?P<stage>{STAGE.pattern})(?P<block>_block\d+)?|{LAST})_")


def unit_of(layer: str) -> str | None:
    """The name of the unit that a layer is in, such as conv2_block1; None outside."""
    match = _LAYER.match(layer)
    return match[0][:-1] if match and match["block"] else None


def stage_of(layer: str) -> str | None:
    """The stage that a layer is in: conv1 (the stem), conv2, ... or `LAST`, or None."""
    match = _LAYER.match(layer)
    return match and (match["stage"] or LAST)


def channels_of(shape: Shape) -> int:
    """The last axis, which is never open."""
    return cast(int, shape[-1])


class Pad(NamedTuple):
    """Zeros around the image, `amount` on each side."""

    name: str
    shape: Shape
    amount: int


class Conv(NamedTuple):
    """A square convolution; `padding` as Keras means it."""

    name: str
    shape: Shape
    in_channels: int
    kernel: int
    stride: int
    groups: int
    dilation: int
    bias: bool
    padding: Literal["valid", "same"]


class Dense(NamedTuple):
    """A fully connected layer."""

    name: str
    shape: Shape
    in_features: int
    bias: bool


class Norm(NamedTuple):
    """Batch normalization."""

    name: str
    shape: Shape
    zero_gamma: bool


class Relu(NamedTuple):
    """max(x, 0)."""

    name: str
    shape: Shape


class Pool(NamedTuple):
    """Max, average or global average pooling."""

    name: str
    shape: Shape
    kind: Literal["max", "average", "global"]
    size: int
    stride: int
    padding: Literal["valid", "same"]
    dilation: int = 1


class PadChannels(NamedTuple):
    """Zero channels after the data's (option A)."""

    name: str
    shape: Shape
    extra: int


class Dropout(NamedTuple):
    """Dropout inside a unit."""

    name: str
    shape: Shape
    rate: float


class Skip(NamedTuple):
    """Where a branch begins that may be skipped for a whole batch."""

    name: str
    shape: Shape
    survival: float


class Merge(NamedTuple):
    """Where shortcut and residual meet; `kind` as `ResNetSpec.merge`."""

    name: str
    shape: Shape
    kind: str
    survival: float


GATES = ("exclusive_gate", "shortcut_gate")  # merges with a 1x1 convolution

Op = Pad | Conv | Dense | Norm | Relu | Pool | PadChannels | Dropout | Skip | Merge


class Unit(NamedTuple):
    """One residual unit: shared -> (shortcut, residual) -> merge -> after.

    An empty `shortcut` is the identity; a `merge` of None is a plain unit.
    """

    name: str
    stage: int  # from 1
    block: int  # of its stage, from 1
    number: int  # l of L, from 1
    in_shape: Shape
    shape: Shape
    stride: int
    shared: tuple[Op, ...]
    shortcut: tuple[Op, ...]
    residual: tuple[Op, ...]
    merge: Merge | None
    after: tuple[Op, ...]

    @property
    def ops(self) -> Iterator[Op]:
        """All layers, in the order in which they are made."""
        yield from self.shared
        yield from self.shortcut
        yield from self.residual
        if self.merge:
            yield self.merge
        yield from self.after

    @property
    def shortcut_kind(self) -> str:
        """In the papers' words."""
        if self.merge is None:
            return "none"
        if any(isinstance(op, Conv | Dense) for op in self.shortcut):
            return "projection"
        return "pad" if self.shortcut else "identity"


class Plan(NamedTuple):
    """All layers of a network."""

    spec: ResNetSpec
    stem: tuple[Op, ...]
    units: tuple[Unit, ...]
    head: tuple[Op, ...]

    @property
    def ops(self) -> Iterator[Op]:
        """All layers, in the order in which they are made."""
        yield from self.stem
        for unit in self.units:
            yield from unit.ops
        yield from self.head

    @property
    def depth(self) -> int:
        """Weighted layers as He 2015 counts them: without projections and gates."""
        body = len(self.units) * len(self.spec.conv_kernels)
        return sum(isinstance(op, Conv | Dense) for op in self.stem) + body + 1


class Activations(NamedTuple):
    """Where batch norm (B) and ReLU (R) stand in a unit."""

    before: str  # each convolution
    after: str  # each convolution but the last
    last: str  # the last convolution
    merged: str  # the addition
    stem: str
    head: str


# He 2016 (1603.05027), Table 2 and Figure 4, with W a convolution:
ORDERS = {
    # W B R W B + R
    "post": Activations("", "BR", "B", "R", "BR", ""),
    # W B R W + B R
    "bn_after_add": Activations("", "BR", "", "BR", "BR", ""),
    # W B R W B R +
    "relu_before_add": Activations("", "BR", "BR", "", "BR", ""),
    # R W B R W B +
    "relu_only_pre": Activations("R", "B", "B", "", "B", "R"),
    # B R W B R W +
    "pre": Activations("BR", "", "", "", "", "BR"),
}


class _Branch:
    """Collects layers while the shape moves along."""

    def __init__(self, spec: ResNetSpec, name: str, shape: Shape) -> None:
        self.spec = spec
        self.name = name
        self.shape = shape
        self.ops: list[Op] = []

    @property
    def channels(self) -> int:
        return channels_of(self.shape)

    def conv(
        self,
        tag: str,
        channels: int,
        *,
        kernel: int = 1,
        stride: int = 1,
        groups: int = 1,
        dilation: int = 1,
        bias: bool = False,
    ) -> None:
        """A convolution, or a dense layer where the input is flat."""
        name = f"{self.name}_{tag}conv"
        if len(self.shape) == 1:
            # A dense layer stands where a convolution would, under its name.
            self.ops.append(Dense(name, (channels,), self.channels, bias))
        else:
            in_channels = self.channels
            shape = (*_strided(self.shape, stride)[:-1], channels)
            padding: Literal["valid", "same"] = "valid" if kernel == 1 else "same"
            # Keras' "same" would shift the grid by a pixel where it strides: so pad
            # symmetrically, as Caffe and torch do. keras.applications V2 always does.
            pads = stride > 1 or self.spec.conv_bias == "keras_v2"
            if kernel > 1 and dilation == 1 and pads:
                self.pad(tag, kernel // 2)
                padding = "valid"
            self.ops.append(
                Conv(
                    name,
                    shape,
                    in_channels,
                    kernel,
                    stride,
                    groups,
                    dilation,
                    bias,
                    padding,
                )
            )
        self.shape = self.ops[-1].shape

    def pad(self, tag: str, amount: int) -> None:
        *sides, channels = self.shape
        shape = (*(side and side + 2 * amount for side in sides), channels)
        self.ops.append(Pad(f"{self.name}_{tag}pad", shape, amount))
        self.shape = shape

    def activations(self, code: str, tag: str, *, zero_gamma: bool = False) -> None:
        """Batch norms and ReLUs from their letters."""
        for letter in code:
            if letter == "R":
                self.ops.append(Relu(f"{self.name}_{tag}relu", self.shape))
            elif self.spec.norm == "batch":
                self.ops.append(Norm(f"{self.name}_{tag}bn", self.shape, zero_gamma))

    def pool(
        self,
        tag: str,
        kind: Literal["max", "average"],
        size: int,
        stride: int,
        padding: Literal["valid", "same"],
        dilation: int = 1,
    ) -> None:
        valid = size if padding == "valid" else 1
        shape = _strided(self.shape, stride, valid=valid)
        name = f"{self.name}_{tag}pool"
        self.ops.append(Pool(name, shape, kind, size, stride, padding, dilation))
        self.shape = shape

    def pad_channels(self, tag: str, channels: int) -> None:
        extra = channels - self.channels
        self.shape = (*self.shape[:-1], channels)
        self.ops.append(PadChannels(f"{self.name}_{tag}pad", self.shape, extra))


def _strided(shape: Shape, stride: int, valid: int = 1) -> Shape:
    """The shape after a window of `valid` pixels that moves by `stride`."""
    *sides, channels = shape
    return (*(side and (side - valid) // stride + 1 for side in sides), channels)


def check_spec(spec: object) -> ResNetSpec:
    """The same, if it is a spec.

    Raises:
        SpecError: it isn't.
    """
    if not isinstance(spec, ResNetSpec):
        raise SpecError(
            f"network: {spec!r} is not a ResNetSpec; get_spec makes one of a name"
        )
    return spec


def make_plan(spec: ResNetSpec) -> Plan:
    """Decides every layer of the network.

    Raises:
        SpecError: not a spec, or its image is too small for its strides.
    """
    spec = check_spec(spec)
    return _plan(spec, [range(depth) for depth in spec.depths])


def make_outline(spec: ResNetSpec) -> tuple[Plan, tuple[int, ...]]:
    """A plan with equal units of a stage once, and how often each unit stands there.

    Between a stage's first unit and its last (where that strides) all are equal, but
    for their names and survival.

    Raises:
        SpecError: as `make_plan`.
    """
    ends = 1 if spec.stride_at == "first" else 2  # units that differ from the middle
    kept = [sorted({0, min(1, n - 1), n - 1 if ends == 2 else 0}) for n in spec.depths]
    plan = _plan(spec, kept)
    counts = tuple(
        spec.depths[unit.stage - 1] - ends
        if unit.block == 2 and spec.depths[unit.stage - 1] > ends
        else 1
        for unit in plan.units
    )
    return plan, counts


def _plan(spec: ResNetSpec, kept: Sequence[Sequence[int]]) -> Plan:
    """The plan with some units of each stage."""
    activations = ORDERS[spec.order]
    stem = _plan_stem(spec, activations)
    shape = stem.shape
    units: list[Unit] = []
    dilation, total = 1, 4 if spec.stem in ("imagenet", "deep") else 1
    for stage, count in enumerate(spec.depths):
        for index in kept[stage]:
            strides = stage > 0 and index == 0
            if spec.stride_at == "last":
                strides = stage < len(spec.depths) - 1 and index == count - 1
            strides = strides and spec.block != "dense"
            stride, before = 1, dilation
            if strides:
                if spec.output_stride and total * 2 > spec.output_stride:
                    dilation *= 2
                else:
                    stride = 2
                    total *= 2
            unit = _plan_unit(spec, stage, index, shape, stride, (before, dilation))
            units.append(unit)
            shape = unit.shape
    _check_strides(spec, total)
    head = _Branch(spec, LAST, shape)
    head.activations(activations.head, "")
    if spec.block != "dense":
        pooled = (shape[-1],)
        head.ops.append(Pool("avg_pool", pooled, "global", 0, 0, "valid"))
    head.ops.append(Dense("predictions", (spec.classes,), head.channels, True))
    return Plan(spec, tuple(stem.ops), tuple(units), tuple(head.ops))


def _check_strides(spec: ResNetSpec, total: int) -> None:
    """Refuses an image or an output stride that the total stride doesn't fit.

    Raises:
        SpecError: naming the field.
    """
    if spec.output_stride and total < spec.output_stride:
        raise SpecError(
            f"output_stride: {spec.output_stride} is above the network's own {total}"
        )
    for side in spec.input_shape[:-1]:
        if side is not None and side < total:
            raise SpecError(
                f"input_shape: {list(spec.input_shape)} is too small for a total "
                f"stride of {total}; at least {total}x{total} pixels are needed"
            )


def _plan_stem(spec: ResNetSpec, activations: Activations) -> _Branch:
    stem = _Branch(spec, "conv1", spec.input_shape)
    bias = spec.conv_bias != "none"
    width = spec.stem_width
    code = activations.stem
    if spec.stem == "deep":
        # ResNet-C (He 2018, Figure 2b); the names carry the convolution's number.
        half = max(width // 2, 1)
        for tag, channels, stride in (("1_", half, 2), ("2_", half, 1)):
            stem.conv(tag, channels, kernel=3, stride=stride, bias=bias)
            stem.activations("BR", tag)
        stem.conv("3_", width, kernel=3, bias=bias)
    elif spec.stem == "imagenet":
        stem.conv("", width, kernel=7, stride=2, bias=bias)
    else:
        stem.conv("", width, kernel=3 if spec.stem == "cifar" else 1, bias=bias)
    if spec.stem in ("imagenet", "deep"):
        if _stem_activated(spec):
            code = "BR"
        stem.activations(code, "3_" if spec.stem == "deep" else "")
        stem.name = "pool1"
        if spec.stem_pool_pad == "zero":
            stem.pad("", 1)
            stem.pool("", "max", 3, 2, "valid")
        else:
            # Keras' "same" pads by minus infinity, but not symmetrically where it
            # strides: so pool every pixel, then take every second.
            stem.pool("all_", "max", 3, 1, "same")
            stem.pool("", "max", 1, 2, "valid")
    else:
        stem.activations(code, "")
    return stem


def _stem_activated(spec: ResNetSpec) -> bool:
    """Whether a pre-activation network's stem has its own batch norm and ReLU.

    Then the first unit begins with its convolution (fb.resnet.torch's ImageNet
    networks). CIFAR networks and keras.applications V2 start with a bare convolution,
    and the first unit's activation is shared by both branches (He 2016, appendix).
    """
    return spec.stem in ("imagenet", "deep") and spec.conv_bias != "keras_v2"


def _plan_unit(
    spec: ResNetSpec,
    stage: int,
    index: int,
    in_shape: Shape,
    stride: int,
    dilations: tuple[int, int],
) -> Unit:
    """A unit, with the dilation up to the layers that stride, and that behind them.

    They differ where it dilates instead. Then its pixels are those of the striding
    unit, and others between them.
    """
    name = f"conv{stage + 2}_block{index + 1}"
    number = sum(spec.depths[:stage]) + index + 1
    outer, inner = spec.outer_width(stage), spec.inner_width(stage)
    activations = ORDERS[spec.order]

    shared = _Branch(spec, name, in_shape)
    preactivation = activations.before
    if number == 1 and _stem_activated(spec):
        preactivation = ""
    if index == 0 or spec.shortcut == "project_all":
        # Units that open a stage, and projections, see the first activation too.
        shared.activations(preactivation, "preact_")
        preactivation = ""

    shortcut = _Branch(spec, name, in_shape)
    if spec.merge != "none":
        _plan_shortcut(shortcut, outer, stride, dilations)

    residual = _Branch(spec, name, in_shape)
    survival = spec.survival_of(number)
    if survival < 1 and spec.survival_mode == "batch":
        residual.ops.append(Skip(f"{name}_skip", in_shape, survival))
    residual.activations(preactivation, "preact_")
    kernels = spec.conv_kernels
    strided = 1 if spec.block == "bottleneck" and spec.stride_on == "3x3" else 0
    for i, kernel in enumerate(kernels):
        last = i == len(kernels) - 1
        tag = f"{i + 1}_"
        if last and spec.dropout:
            dropout = Dropout(f"{name}_dropout", residual.shape, spec.dropout)
            residual.ops.append(dropout)
        residual.conv(
            tag,
            outer if last else inner,
            kernel=kernel,
            stride=stride if i == strided else 1,
            groups=spec.cardinality if i == 1 else 1,
            dilation=dilations[i > strided] if kernel > 1 else 1,
            bias=spec.conv_bias == "all" or (spec.conv_bias == "keras_v2" and last),
        )
        if last:
            residual.activations(activations.last, tag, zero_gamma=spec.zero_gamma)
        else:
            # What stands before the next convolution is named after this one, as
            # keras.applications does.
            residual.activations(activations.after + activations.before, tag)

    merge, after = None, _Branch(spec, name, residual.shape)
    if spec.merge != "none":
        tag = "add" if activations.merged else "out"
        merge = Merge(f"{name}_{tag}", residual.shape, spec.merge, survival)
    for letter in activations.merged:
        if letter == "R":
            after.ops.append(Relu(f"{name}_out", after.shape))
        else:
            after.activations(letter, "add_")
    return Unit(
        name=name,
        stage=stage + 1,
        block=index + 1,
        number=number,
        in_shape=in_shape,
        shape=residual.shape,
        stride=stride,
        shared=tuple(shared.ops),
        shortcut=tuple(shortcut.ops),
        residual=tuple(residual.ops),
        merge=merge,
        after=tuple(after.ops),
    )


def _plan_shortcut(
    shortcut: _Branch, outer: int, stride: int, dilations: tuple[int, int]
) -> None:
    """Matches the shortcut's shape to the residual's (options A, B and C)."""
    spec = shortcut.spec
    widens = shortcut.channels != outer
    dilation, behind = dilations
    halves = stride > 1 or behind > dilation  # or dilates in place of that
    # keras.applications V2 strides in the last unit of a stage, without a projection:
    # one only widens.
    projects = spec.shortcut == "project_all" or (
        spec.shortcut == "project"
        and (widens or (halves and spec.stride_at == "first"))
    )
    if halves and (spec.project_pool if projects else spec.pad_pool == "average"):
        shortcut.pool("0_", "average", 2, stride, "same", dilation)
        stride = 1
    if projects:
        bias = spec.conv_bias != "none"
        shortcut.conv("0_", outer, stride=stride, bias=bias)
        if spec.project_norm:
            shortcut.activations("B", "0_")
        return
    if stride > 1:
        shortcut.pool("0_", "max", 1, stride, "valid")
    if outer < shortcut.channels:
        raise SpecError(
            f"shortcut: 'pad' can't narrow {shortcut.channels} channels to {outer}; "
            "use 'project'"
        )
    if widens:
        shortcut.pad_channels("0_", outer)
