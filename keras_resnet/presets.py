"""Name -> spec: the published networks, a row each, citing their source.

Other depths, widths and cardinalities come from `cifar_resnet`, `wide_resnet` and
`cifar_resnext`, which also make the rows. Standard library only.
"""

from __future__ import annotations

import difflib
import fnmatch
import re
from collections.abc import Callable
from typing import Any, NamedTuple

from keras_resnet.errors import SpecError
from keras_resnet.spec import Block, ResNetSpec


class Preset(NamedTuple):
    """A published network.

    Attributes:
        depth: the depth in its name, as its source counts it.
        spec: the network.
        source: paper or code, with table or section.
    """

    depth: int
    spec: ResNetSpec
    source: str


def cifar_resnet(depth: int, block: Block = "basic", **changes: Any) -> ResNetSpec:
    """A CIFAR network: 6n+2 layers of "basic" units, 9n+2 of "bottleneck" ones.

    Basic networks use option A shortcuts (He 2015, section 4.2), bottleneck ones
    projections (He 2016). Many depths fit both blocks, so the block is never guessed.

    Raises:
        SpecError: the depth does not divide.
    """
    if block not in ("basic", "bottleneck"):
        raise SpecError(f"block: {block!r} is not 'basic' or 'bottleneck'")
    if block == "bottleneck":
        units = _units(depth, 9, 2, "a CIFAR network of bottleneck units")
        widths, shortcut = (64, 128, 256), "project"
    else:
        units = _units(depth, 6, 2, "a CIFAR network of basic units")
        widths, shortcut = (16, 32, 64), "pad"
    fields: dict[str, Any] = {
        "name": f"cifar_resnet{depth}",
        "input_shape": (32, 32, 3),
        "classes": 10,
        "stem": "cifar",
        "stem_width": 16,
        "block": block,
        "depths": (units,) * 3,
        "widths": widths,
        "shortcut": shortcut,
    }
    return ResNetSpec().replace(**fields | changes)


def wide_resnet(depth: int, k: float, **changes: Any) -> ResNetSpec:
    """WRN-depth-k: 6n+4 layers, pre-activation (Zagoruyko 2016, Table 1).

    The depth counts the three projections and not the classifier.

    Raises:
        SpecError: the depth does not divide.
    """
    units = _units(depth, 6, 4, "a Wide ResNet")
    if "block" in changes:
        raise SpecError("block: a Wide ResNet has basic units; vary its `kernels`")
    fields: dict[str, Any] = {
        "name": f"wrn_{depth}_{k}",
        "k": k,
        "shortcut": "project",
        **PRE,
    }
    return cifar_resnet(6 * units + 2, **fields | changes)


def cifar_resnext(
    depth: int, cardinality: int, width: int, **changes: Any
) -> ResNetSpec:
    """ResNeXt of 9n+2 layers, cardinality x width d (Xie 2016, section 5.3).

    Raises:
        SpecError: the depth does not divide.
    """
    units = _units(depth, 9, 2, "a CIFAR ResNeXt")
    if "block" in changes:
        raise SpecError("block: a ResNeXt has bottleneck units")
    fields: dict[str, Any] = {
        "name": f"cifar_resnext{depth}_{cardinality}x{width}d",
        "stem_width": 64,
        "depths": (units,) * 3,
        "widths": (256, 512, 1024),
        "cardinality": cardinality,
        "group_width": width,
        **_V1_5,
    }
    return cifar_resnet(depth, "bottleneck", **fields | changes)


def _units(depth: int, layers: int, rest: int, what: str) -> int:
    """n of depth = layers n + rest."""
    if type(depth) is not int:
        raise SpecError(f"depth: {depth!r} is not an integer")
    if depth > rest and (depth - rest) % layers == 0:
        return (depth - rest) // layers
    below = max((depth - rest) // layers, 1) * layers + rest
    raise SpecError(
        f"depth: {what} has {layers}n+{rest} layers, which {depth} is not; "
        f"nearest are {below} and {below + layers}"
    )


# The dialects, as the differences from He 2015.
PRE: dict[str, Any] = {"order": "pre", "project_norm": False}
_V1_5: dict[str, Any] = {"stride_on": "3x3", "init": "he_fan_out"}
_KERAS = {
    "init": "glorot",
    "conv_bias": "all",
    "bn_epsilon": 1.001e-5,
    "bn_momentum": 0.99,
}
_KERAS_V2 = {
    **_KERAS,
    **PRE,
    "conv_bias": "keras_v2",
    "stride_on": "3x3",
    "stride_at": "last",
}
_BASIC = {"block": "basic", "widths": (64, 128, 256, 512)}
PLAIN: dict[str, Any] = {"merge": "none"}
_HIGHWAY: dict[str, Any] = {"merge": "exclusive_gate", "gate_bias": -3.0}
_R18, _R34 = {"depths": (2, 2, 2, 2), **_BASIC}, {"depths": (3, 4, 6, 3), **_BASIC}
_D: dict[str, Any] = {"stem": "deep", "project_pool": True, **_V1_5}
_R50, _R101 = {"depths": (3, 4, 6, 3)}, {"depths": (3, 4, 23, 3)}
_R152, _R200 = {"depths": (3, 8, 36, 3)}, {"depths": (3, 24, 36, 3)}


def _resnext(cardinality: int, width: int) -> dict[str, Any]:
    return {"cardinality": cardinality, "group_width": width, **_V1_5}


def _dense(depth: int, **changes: Any) -> ResNetSpec:
    """2n+2 fully connected layers of 64 features."""
    return ResNetSpec(
        input_shape=(64,),
        classes=10,
        stem="dense",
        block="dense",
        depths=((depth - 2) // 2,),
        widths=(64,),
        **changes,
    )


_BAG = "He 2018 (1812.01187)"
HE15 = "He 2015 (1512.03385)"
HE16 = "He 2016 (1603.05027)"
SD = "Huang 2016 (1603.09382)"
WRN = "Zagoruyko 2016 (1605.07146)"
XT = "Xie 2016 (1611.05431)"
_HW = "Srivastava 2015 (1505.00387)"
_APPS = "keras.applications"

# ImageNet networks: name, depth, source, differences from ResNetSpec().
_IMAGENET: list[tuple[str, int, str, dict[str, Any]]] = [
    ("plain18", 18, f"{HE15} T2", {**_R18, **PLAIN}),
    ("plain34", 34, f"{HE15} T2", {**_R34, **PLAIN}),
    ("resnet18", 18, f"{HE15} T1, option B", _R18),
    ("resnet34", 34, f"{HE15} T1, option B", _R34),
    ("resnet50", 50, f"{HE15} T1", _R50),
    ("resnet101", 101, f"{HE15} T1", _R101),
    ("resnet152", 152, f"{HE15} T1", _R152),
    ("resnet200", 200, f"{HE16} T5", _R200),
    ("resnet200_v2", 200, f"{HE16} T5, fb.resnet.torch", {**_R200, **_V1_5, **PRE}),
    ("resnet50_v1_5", 50, "torchvision, Goyal 2017", {**_R50, **_V1_5}),
    ("resnet101_v1_5", 101, "torchvision, Goyal 2017", {**_R101, **_V1_5}),
    ("resnet152_v1_5", 152, "torchvision, Goyal 2017", {**_R152, **_V1_5}),
    ("resnet50_c", 50, f"{_BAG} Fig 2", {**_R50, **_V1_5, "stem": "deep"}),
    ("resnet50_d", 50, f"{_BAG} Fig 2", {**_R50, **_D}),
    ("resnet101_d", 101, f"{_BAG} Fig 2", {**_R101, **_D}),
    ("keras_resnet50", 50, _APPS, {**_R50, **_KERAS}),
    ("keras_resnet101", 101, _APPS, {**_R101, **_KERAS}),
    ("keras_resnet152", 152, _APPS, {**_R152, **_KERAS}),
    ("keras_resnet50_v2", 50, _APPS, {**_R50, **_KERAS_V2}),
    ("keras_resnet101_v2", 101, _APPS, {**_R101, **_KERAS_V2}),
    ("keras_resnet152_v2", 152, _APPS, {**_R152, **_KERAS_V2}),
    ("wide_resnet18_1_5", 18, f"{WRN} T7", {**_R18, "k": 1.5}),
    ("wide_resnet18_2", 18, f"{WRN} T7", {**_R18, "k": 2}),
    ("wide_resnet18_3", 18, f"{WRN} T7", {**_R18, "k": 3}),
    ("wide_resnet34_1_5", 34, f"{WRN} T7", {**_R34, "k": 1.5}),
    ("wide_resnet34_2", 34, f"{WRN} T7", {**_R34, "k": 2}),
    ("wide_resnet50_2", 50, f"{WRN} T8", {**_R50, **_resnext(1, 128)}),
    ("wide_resnet101_2", 101, "torchvision", {**_R101, **_resnext(1, 128)}),
    ("resnext50_2x40d", 50, f"{XT} T3", {**_R50, **_resnext(2, 40)}),
    ("resnext50_4x24d", 50, f"{XT} T3", {**_R50, **_resnext(4, 24)}),
    ("resnext50_8x14d", 50, f"{XT} T3", {**_R50, **_resnext(8, 14)}),
    ("resnext50_32x4d", 50, f"{XT} T3", {**_R50, **_resnext(32, 4)}),
    ("resnext101_2x40d", 101, f"{XT} T3", {**_R101, **_resnext(2, 40)}),
    ("resnext101_4x24d", 101, f"{XT} T3", {**_R101, **_resnext(4, 24)}),
    ("resnext101_8x14d", 101, f"{XT} T3", {**_R101, **_resnext(8, 14)}),
    ("resnext101_32x4d", 101, f"{XT} T3", {**_R101, **_resnext(32, 4)}),
    ("resnext101_1x100d", 101, f"{XT} T4", {**_R101, **_resnext(1, 100)}),
    ("resnext101_2x64d", 101, f"{XT} T4", {**_R101, **_resnext(2, 64)}),
    ("resnext101_64x4d", 101, f"{XT} T4", {**_R101, **_resnext(64, 4)}),
    ("resnext101_32x8d", 101, "torchvision", {**_R101, **_resnext(32, 8)}),
]

# CIFAR networks and those of flat input: name, depth, source, spec.
_CIFAR: list[tuple[str, int, str, ResNetSpec]] = [
    *(
        (f"cifar_resnet{depth}", depth, f"{HE15} T6", cifar_resnet(depth))
        for depth in (20, 32, 44, 56, 110, 1202)
    ),
    *(
        (f"cifar_plain{d}", d, f"{HE15} Fig 6", cifar_resnet(d, **PLAIN))
        for d in (20, 32, 44, 56, 110)
    ),
    *(
        (f"cifar_highway{d}", d, f"{_HW}, {HE16} T1", cifar_resnet(d, **_HIGHWAY))
        for d in (20, 32, 56)
    ),
    ("cifar_resnet164", 164, f"{HE16} T2", cifar_resnet(164, "bottleneck")),
    ("cifar_resnet1001", 1001, f"{HE16} T3", cifar_resnet(1001, "bottleneck")),
    ("cifar_resnet110_v2", 110, f"{HE16} T2", cifar_resnet(110, **PRE)),
    ("cifar_resnet164_v2", 164, f"{HE16} T2", cifar_resnet(164, "bottleneck", **PRE)),
    (
        "cifar_resnet1001_v2",
        1001,
        f"{HE16} T3",
        cifar_resnet(1001, "bottleneck", **PRE),
    ),
    ("cifar_resnet110_sd", 110, f"{SD} T1", cifar_resnet(110, survival=0.5)),
    ("cifar_resnet1202_sd", 1202, f"{SD} s4", cifar_resnet(1202, survival=0.5)),
    *(
        (f"wrn_{depth}_{k}", depth, f"{WRN} T4", wide_resnet(depth, k))
        for depth, k in (
            (16, 4), (16, 8), (16, 10), (22, 8), (22, 10), (28, 10), (28, 12),
            (40, 1), (40, 2), (40, 4), (40, 8), (40, 10),
        )
    ),
    *(
        (f"dense_resnet{d}", d, "Ours: units of dense layers", _dense(d))
        for d in (8, 20, 56)
    ),
    *(
        (f"dense_plain{d}", d, "Ours: the same, plain", _dense(d, **PLAIN))
        for d in (8, 20, 56)
    ),
    ("cifar_resnext29_1x64d", 29, f"{XT} s5.3", cifar_resnext(29, 1, 64)),
    ("cifar_resnext29_8x64d", 29, f"{XT} T7", cifar_resnext(29, 8, 64)),
    ("cifar_resnext29_16x64d", 29, f"{XT} T7", cifar_resnext(29, 16, 64)),
]  # fmt: skip

PRESETS: dict[str, Preset] = {
    name: Preset(depth, spec.replace(name=name), source)
    for name, depth, source, spec in [
        *((n, d, s, ResNetSpec().replace(**changes)) for n, d, s, changes in _IMAGENET),
        *_CIFAR,
    ]
}

# Names that say all: other sizes of these families need no row.
_FAMILIES: list[tuple[re.Pattern[str], Callable[..., ResNetSpec]]] = [
    (re.compile(r"wrn_([0-9]{1,6})_([0-9]{1,6})"), wide_resnet),
    (
        re.compile(r"cifar_resnext([0-9]{1,6})_([0-9]{1,6})x([0-9]{1,6})d"),
        cifar_resnext,
    ),
]


def list_networks(pattern: str = "*") -> list[str]:
    """Names of the presets that match a shell pattern, in the table's order."""
    return [name for name in PRESETS if fnmatch.fnmatch(name, pattern)]


def get_spec(name: str, /, **changes: Any) -> ResNetSpec:
    """The spec of a preset, with some fields changed.

    `wrn_<depth>_<k>` and `cifar_resnext<depth>_<C>x<d>d` take any number.

    Raises:
        SpecError: no such preset (the closest names are given), or a wrong change.
    """
    if not isinstance(name, str):
        raise SpecError(f"network: {name!r} is not the name of a preset")
    if name in PRESETS:
        return PRESETS[name].spec.replace(**changes)
    for pattern, make in _FAMILIES:
        if match := pattern.fullmatch(name):
            return make(*map(int, match.groups())).replace(**changes)
    raise SpecError(_unknown(name))


# What a CIFAR network of a family differs in from He 2015's.
_FAMILY_CHANGES: dict[str, dict[str, Any]] = {
    "resnet": {},
    "plain": PLAIN,
    "highway": _HIGHWAY,
}


def _unknown(name: str) -> str:
    """Why there is no such preset, and what is near."""
    message = f"network: no preset is named {name!r}"
    if match := re.fullmatch(r"cifar_(resnet|plain|highway)([0-9]{1,6})(_v2)?", name):
        depth = int(match[2])
        changes = _FAMILY_CHANGES[match[1]] | (PRE if match[3] else {})
        given = "".join(f", {field}={value!r}" for field, value in changes.items())
        blocks = [
            f"{block!r} ({n}n+2)"
            for block, n in (("basic", 6), ("bottleneck", 9))
            if depth > 2 and (depth - 2) % n == 0
        ]
        if not blocks:
            return f"{message}: {depth} layers are neither 6n+2 (basic) nor 9n+2 " + (
                "(bottleneck units)"
            )
        return (
            f"{message}; make it by cifar_resnet({depth}, block{given}) with block "
            + " or ".join(blocks)
        )
    close = difflib.get_close_matches(name, PRESETS, n=4, cutoff=0.5)
    return message + (
        f"; closest: {', '.join(close)}" if close else "; see `keras-resnet list`"
    )
