"""What a residual network is, in the papers' words: a frozen, validated record.

A spec holds orthogonal axes, never a "family": a Wide ResNet is a pre-activation
network with a width factor, a ResNeXt is a bottleneck network with a cardinality.
`keras_resnet.plan` decides every layer from it. Standard library only.
"""

from __future__ import annotations

import dataclasses
import re
from typing import Literal

from keras_resnet import records
from keras_resnet.errors import SpecError

Stem = Literal["imagenet", "cifar", "deep", "dense"]
Block = Literal["basic", "bottleneck", "dense"]
MergeKind = Literal[
    "add",
    "none",
    "scale",
    "exclusive_gate",
    "shortcut_gate",
    "dropout",
    "dropout_inverted",
]
Shortcut = Literal["pad", "project", "project_all"]
PadPool = Literal["subsample", "average"]
Order = Literal["post", "pre", "bn_after_add", "relu_before_add", "relu_only_pre"]
StrideOn = Literal["1x1", "3x3"]
StrideAt = Literal["first", "last"]
SurvivalMode = Literal["sample", "batch"]
SurvivalRule = Literal["linear", "uniform"]
Init = Literal["he_fan_in", "he_fan_out", "glorot"]
NormKind = Literal["batch", "none"]
ConvBias = Literal["none", "all", "keras_v2"]
StemPoolPad = Literal["zero", "minus_inf"]

# The bounds that tell a typing error from an ambition.
MAX_SIDE = 16_384
MAX_CHANNELS = 65_536
MAX_UNITS = 10_000
MAX_CLASSES = 10_000_000

EXPANSION = 4  # outer width over inner width of a bottleneck (He 2015, Table 1)


_KERNELS: dict[str, tuple[int, ...]] = {
    "basic": (3, 3),
    "bottleneck": (1, 3, 1),
    "dense": (1, 1),
}

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")  # as TensorFlow names what it runs

_SIDE = records.integer(1, MAX_SIDE)
_CHANNELS = records.integer(1, MAX_CHANNELS)

_CHECKS: dict[str, records.Check] = {
    "name": (
        lambda value: isinstance(value, str) and bool(_NAME.fullmatch(value)),
        "a name of the letters A to Z, digits and _ . -, that begins with a letter or "
        "digit",
    ),
    "input_shape": (
        lambda value: (
            type(value) is tuple
            and len(value) in (1, 3)
            and all(side is None or _SIDE[0](side) for side in value[:-1])
            and _CHANNELS[0](value[-1])
        ),
        f"[height, width, channels] with sides from 1 to {MAX_SIDE:,} (or null), "
        "or [features] for stem 'dense'",
    ),
    "classes": records.integer(1, MAX_CLASSES),
    "stem": records.choice(Stem),
    "stem_width": _CHANNELS,
    "block": records.choice(Block),
    "kernels": records.optional(
        records.several(
            (
                lambda value: type(value) is int and value in (1, 3, 5, 7),
                "1, 3, 5 or 7",
            ),
            1,
            8,
        )
    ),
    "depths": records.several(records.integer(1, MAX_UNITS), 1, 8),
    "widths": records.several(_CHANNELS, 1, 8),
    "k": records.number(0, 1024, above=True),
    "cardinality": records.integer(1, MAX_CHANNELS),
    "group_width": records.optional(_CHANNELS),
    "merge": records.choice(MergeKind),
    "merge_scales": records.several(records.number(-100, 100), 2, 2),
    "merge_dropout": records.number(0, 1, below=True),
    "gate_bias": records.number(-100, 100),
    "shortcut": records.choice(Shortcut),
    "pad_pool": records.choice(PadPool),
    "project_norm": records.FLAG,
    "project_pool": records.FLAG,
    "order": records.choice(Order),
    "stride_on": records.choice(StrideOn),
    "stride_at": records.choice(StrideAt),
    "output_stride": records.optional(
        (lambda value: type(value) is int and value in (4, 8, 16, 32), "4, 8, 16 or 32")
    ),
    "survival": records.number(0, 1, above=True),
    "survival_rule": records.choice(SurvivalRule),
    "survival_mode": records.choice(SurvivalMode),
    "dropout": records.number(0, 1, below=True),
    "zero_gamma": records.FLAG,
    "init": records.choice(Init),
    "norm": records.choice(NormKind),
    "conv_bias": records.choice(ConvBias),
    "bn_epsilon": records.number(0, 1, above=True),
    "bn_momentum": records.number(0, 1),
    "stem_pool_pad": records.choice(StemPoolPad),
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class ResNetSpec(records.Record):
    """A network of residual units. The defaults are ResNet-50 (He 2015, Table 1).

    Attributes:
        name: name of the model, of letters, digits and _ . - (TensorFlow takes no
            others).
        input_shape: (height, width, channels), height and width may be None where
            only known later; (features,) for `stem="dense"`.
        classes: number of classes.
        stem: "imagenet" 7x7/2 convolution and 3x3/2 max pool; "cifar" one 3x3;
            "deep" three 3x3 and the pool (ResNet-C); "dense" one dense layer.
        stem_width: channels that leave the stem. The width factor leaves it alone.
        block: "basic" (two 3x3), "bottleneck" (1x1, 3x3, 1x1), "dense" (two dense
            layers).
        kernels: kernel sizes of the unit's convolutions where they aren't the
            usual, such as (3, 1, 3) for the B(3,1,3) of Wide ResNets, Table 2.
        depths: units in each stage.
        widths: outer channels of each stage, before the width factor.
        k: width factor, multiplies outer widths and bottlenecks' inner ones.
        cardinality: groups C of the bottleneck's 3x3 (ResNeXt).
        group_width: channels d of one group in the first stage ("C x d"); doubled
            where the outer width doubles. None: a quarter of the outer width in all.
        merge: how shortcut x and residual F meet: "add" x + F; "none" F (plain);
            "scale"; "exclusive_gate" (1-g)x + gF, the highway unit;
            "shortcut_gate" (1-g)x + F; "dropout" on x (He 2016, Table 1), or
            "dropout_inverted" as Keras scales it.
        merge_scales: the factors of x and F under "scale".
        merge_dropout: the rate under both dropouts.
        gate_bias: initial bias of the gates' 1x1 convolutions.
        shortcut: how shapes are matched: "pad" zero channels (option A), "project"
            1x1 convolution where the shape changes (B), "project_all" in every
            unit (C).
        pad_pool: how "pad" halves the image: every second pixel, or 2x2 average.
        project_norm: batch norm after a projection.
        project_pool: 2x2 average pool before a projection (ResNet-D).
        order: where batch norm and ReLU stand in a unit (He 2016, Table 2).
        stride_on: the bottleneck's convolution that strides: "1x1" (the paper,
            keras.applications) or "3x3" (v1.5: torchvision, ResNeXt).
        stride_at: the unit of a stage that strides; "last" is keras.applications V2.
        output_stride: total stride at which strides turn into dilation, or None.
            Every so many pixels of the maps are those of the strided network.
        survival: p_L of stochastic depth, the probability that the last unit survives.
        survival_rule: that of unit l of L: "linear" 1 - (l/L)(1 - p_L) (Huang 2016,
            Equation 4), or "uniform" p_L.
        survival_mode: one draw a "batch" (the paper) or a "sample".
        dropout: rate inside a unit, before its last convolution (Wide ResNets).
        zero_gamma: batch norms that end a residual branch start at 0 (Goyal 2017).
        init: initialization of convolutions.
        norm: "batch" or "none".
        conv_bias: convolutions with a bias: "none", "all" (keras.applications V1),
            or its V2's: stem, projections and last 1x1; V2's stem has no batch norm.
        bn_epsilon: added to the variance.
        bn_momentum: of the moving averages, Keras' convention (torch's 0.1 is 0.9).
        stem_pool_pad: what surrounds the image in the stem's max pool. The same
            unless the stem's output is signed.

    Raises:
        SpecError: naming the field, its value and what is allowed.
    """

    _kind = "spec"
    _error = SpecError
    _checks = _CHECKS
    _schema = 1

    name: str = "resnet"
    input_shape: tuple[int | None, ...] = (224, 224, 3)
    classes: int = 1000
    stem: Stem = "imagenet"
    stem_width: int = 64
    block: Block = "bottleneck"
    kernels: tuple[int, ...] | None = None
    depths: tuple[int, ...] = (3, 4, 6, 3)
    widths: tuple[int, ...] = (256, 512, 1024, 2048)
    k: float = 1
    cardinality: int = 1
    group_width: int | None = None
    merge: MergeKind = "add"
    merge_scales: tuple[float, ...] = (1.0, 1.0)
    merge_dropout: float = 0.5
    gate_bias: float = -1.0
    shortcut: Shortcut = "project"
    pad_pool: PadPool = "subsample"
    project_norm: bool = True
    project_pool: bool = False
    order: Order = "post"
    stride_on: StrideOn = "1x1"
    stride_at: StrideAt = "first"
    output_stride: int | None = None
    survival: float = 1.0
    survival_rule: SurvivalRule = "linear"
    survival_mode: SurvivalMode = "batch"
    dropout: float = 0.0
    zero_gamma: bool = False
    init: Init = "he_fan_in"
    norm: NormKind = "batch"
    conv_bias: ConvBias = "none"
    bn_epsilon: float = 1e-5
    bn_momentum: float = 0.9
    stem_pool_pad: StemPoolPad = "zero"

    def _check_combinations(self) -> None:
        _check_combinations(self)

    @property
    def conv_kernels(self) -> tuple[int, ...]:
        """Kernel sizes of a unit's convolutions (1 for a dense layer)."""
        return self.kernels or _KERNELS[self.block]

    def outer_width(self, stage: int) -> int:
        """Channels that leave the units of `stage` (from 0)."""
        return int(self.widths[stage] * self.k)

    def inner_width(self, stage: int) -> int:
        """Channels inside the units of `stage` (from 0).

        With a group width d it is C floor(d k w_i / w_0), torchvision's and the
        ResNeXt code's floor(n d / 64) C.
        """
        if self.block != "bottleneck":
            return self.outer_width(stage)
        if self.group_width is None:
            return self.outer_width(stage) // EXPANSION
        scale = self.widths[stage] / self.widths[0]
        return self.cardinality * int(self.group_width * self.k * scale)

    def survival_of(self, unit: int) -> float:
        """Survival probability of unit 1 .. L."""
        if self.survival_rule == "uniform":
            return self.survival
        return 1 - unit / sum(self.depths) * (1 - self.survival)

    def image_shape(
        self, side: int | None = None, channels: int | None = None
    ) -> tuple[int | None, ...]:
        """The input shape, with another side or number of channels.

        Raises:
            SpecError: either is given, and the network takes no images.
        """
        if side is None and channels is None:
            return self.input_shape
        if len(self.input_shape) == 1:
            raise SpecError(
                f"input_shape: {self.name} takes {self.input_shape[0]} features, not "
                "images of some size and channels"
            )
        height, width, own = self.input_shape
        return side or height, side or width, channels or own


def _check_combinations(spec: ResNetSpec) -> None:
    """Refuses what is right field by field and wrong together."""
    if len(spec.depths) != len(spec.widths):
        raise SpecError(
            f"depths: {len(spec.depths)} stages, but widths has {len(spec.widths)}"
        )
    if sum(spec.depths) > MAX_UNITS:
        raise SpecError(
            f"depths: {sum(spec.depths):,} units are more than {MAX_UNITS:,}"
        )
    dense = [spec.stem == "dense", spec.block == "dense", len(spec.input_shape) == 1]
    if any(dense) and not all(dense):
        raise SpecError(
            "stem: 'dense', block 'dense' and a flat input_shape [features] go "
            f"together; got stem {spec.stem!r}, block {spec.block!r} and "
            f"input_shape {list(spec.input_shape)}"
        )
    for stage in range(len(spec.widths)):
        _check_width(spec, stage)
    if spec.block != "bottleneck" and (spec.cardinality, spec.group_width) != (1, None):
        raise SpecError(
            f"cardinality: {spec.cardinality} with group_width {spec.group_width} "
            "needs block 'bottleneck'; units of two layers have nothing to group "
            "(ResNeXt, section 3.3)"
        )
    if spec.kernels:
        _check_kernels(spec, spec.kernels)
    if spec.zero_gamma and (
        spec.norm == "none"
        or spec.order not in ("post", "relu_only_pre")
        or spec.merge == "none"
    ):
        raise SpecError(
            "zero_gamma: true needs shortcuts, and residual branches that end in a "
            "batch norm (norm 'batch' and order 'post' or 'relu_only_pre'); elsewhere "
            "the ReLU or convolution after it would never learn"
        )
    if spec.survival < 1 and spec.merge not in ("add", "scale"):
        raise SpecError(
            f"survival: {spec.survival:g} needs merge 'add' or 'scale': a dropped "
            f"branch leaves nothing to merge by {spec.merge!r}"
        )
    if spec.order == "bn_after_add" and spec.norm == "none":
        raise SpecError("order: 'bn_after_add' needs norm 'batch'")


def _check_width(spec: ResNetSpec, stage: int) -> None:
    width = spec.widths[stage] * spec.k
    if width != int(width) or not 1 <= width <= MAX_CHANNELS:
        raise SpecError(
            f"k: {spec.k:g} times width {spec.widths[stage]} is {width:g}, "
            f"not an integer from 1 to {MAX_CHANNELS:,}"
        )
    if spec.block != "bottleneck":
        return
    if spec.group_width is None and int(width) % EXPANSION:
        raise SpecError(
            f"widths: {int(width)} is not a multiple of {EXPANSION}, a bottleneck's "
            "outer width over its inner"
        )
    inner = spec.inner_width(stage)
    if not 1 <= inner <= MAX_CHANNELS:
        raise SpecError(
            f"group_width: {spec.group_width} makes stage {stage + 1} {inner:,} wide "
            f"inside, not 1 to {MAX_CHANNELS:,}"
        )
    if inner % spec.cardinality:
        raise SpecError(
            f"cardinality: {spec.cardinality} does not divide {inner}, the inner "
            f"width of stage {stage + 1}"
        )


def _check_kernels(spec: ResNetSpec, kernels: tuple[int, ...]) -> None:
    if spec.block == "dense":
        raise SpecError("kernels: block 'dense' has no convolutions; leave it null")
    if spec.block == "bottleneck" and (
        len(kernels) != 3 or kernels[0] != 1 or kernels[2] != 1
    ):
        raise SpecError(
            f"kernels: {list(kernels)} is not [1, K, 1], as block 'bottleneck' needs"
        )
