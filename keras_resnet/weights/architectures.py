"""What timm and torchvision call their networks, as specs: a table."""

from __future__ import annotations

import difflib
import re
from typing import Any

from keras_resnet.errors import WeightsError
from keras_resnet.spec import ResNetSpec

_BASIC: dict[str, Any] = {
    "block": "basic",
    "widths": (64, 128, 256, 512),
    "stride_on": "1x1",  # they have none, as in the presets
    "init": "he_fan_in",
}
_DEPTHS: dict[str, dict[str, Any]] = {
    "18": {"depths": (2, 2, 2, 2), **_BASIC},
    "34": {"depths": (3, 4, 6, 3), **_BASIC},
    "26": {"depths": (2, 2, 2, 2)},
    "50": {"depths": (3, 4, 6, 3)},
    "101": {"depths": (3, 4, 23, 3)},
    "152": {"depths": (3, 8, 36, 3)},
    "200": {"depths": (3, 24, 36, 3)},
}
_V1_5: dict[str, Any] = {"stride_on": "3x3", "init": "he_fan_out"}
_DEEP: dict[str, Any] = {"stem": "deep"}
_D: dict[str, Any] = {**_DEEP, "project_pool": True}
# timm's ResNetV2 as keras.applications' V2, with what it does otherwise.
_V2: dict[str, Any] = {
    "order": "pre",
    "project_norm": False,
    "conv_bias": "keras_v2",
    "stride_on": "3x3",
    "stem_pool_pad": "minus_inf",
}


def _groups(cardinality: int, width: int) -> dict[str, Any]:
    return {"cardinality": cardinality, "group_width": width}


# Name -> what differs from `ResNetSpec()`.
ARCHITECTURES: dict[str, dict[str, Any]] = {
    **{f"resnet{n}": {**_V1_5, **_DEPTHS[n]} for n in _DEPTHS},
    **{
        f"resnet{n}d": {**_V1_5, **_DEPTHS[n], **_D}
        for n in ("18", "26", "34", "50", "101", "152", "200")
    },
    **{f"resnet{n}c": {**_V1_5, **_DEPTHS[n], **_DEEP} for n in ("50", "101", "152")},
    **{
        f"resnet{n}s": {**_V1_5, **_DEPTHS[n], **_DEEP, "stem_width": 128}
        for n in ("50", "101", "152")
    },
    **{
        f"wide_resnet{n}_2": {**_V1_5, **_DEPTHS[n], **_groups(1, 128)}
        for n in ("50", "101")
    },
    **{
        f"resnext{n}_{c}x{d}d": {**_V1_5, **_DEPTHS[n], **_groups(c, d)}
        for n, c, d in (
            ("50", 32, 4),
            ("101", 32, 4),
            ("101", 32, 8),
            ("101", 32, 16),
            ("101", 32, 32),
            ("101", 32, 48),
            ("101", 64, 4),
        )
    },
    "resnext50d_32x4d": {**_V1_5, **_DEPTHS["50"], **_D, **_groups(32, 4)},
    **{f"resnetv2_{n}": {**_DEPTHS[n], **_V2} for n in ("50", "101", "152")},
    **{f"resnetv2_{n}d": {**_DEPTHS[n], **_V2, **_D} for n in ("50", "101", "152")},
}

# Of the names that aren't there: what such a network has that a spec can't say.
_LACKING: tuple[tuple[str, str], ...] = (
    (r"_pruned$", "widths that were pruned unit by unit"),
    (r"^test_", "units of two kinds"),
    (r"^resnetrs", "squeeze-and-excitation, and no pool in its stem"),
    (r"se(res)?net|seresnext", "squeeze-and-excitation"),
    (r"^(eca|ska|gc|bat|ese|cbam|lambda|halo|bot)res", "attention in its units"),
    (r"^(resnest|sk)", "split attention"),
    (r"^res2ne", "convolutions of several scales in a unit"),
    (r"aa\d|blur", "pools against aliasing"),
    (r"_bit", "weight standardization and group norm"),
    (r"_gn$", "group norm"),
    (r"_evos$", "evolved normalization"),
    (r"_frn$", "filter response normalization"),
    (r"^resnet(v2_)?\d+t$", "a stem of 24, 32 and 64 channels"),
    (r"^resnetv2_(18|34)d?$", "a first unit that adds its input before the activation"),
)


def spec_of(architecture: str, source: str) -> ResNetSpec:
    """The network of a name.

    Args:
        architecture: timm's or torchvision's name.
        source: what messages call the weights.

    Raises:
        WeightsError: none that a spec can express; it says what is lacking.
    """
    changes = ARCHITECTURES.get(architecture)
    if changes is not None:
        return ResNetSpec(name=architecture, **changes)
    for pattern, what in _LACKING:
        if re.search(pattern, architecture):
            raise WeightsError(
                f"weights: {source} is a {architecture}, which has {what}: no spec "
                "expresses that"
            )
    close = difflib.get_close_matches(architecture, ARCHITECTURES, 3, 0.6)
    raise WeightsError(
        f"weights: {source} is a {architecture!r}, which is no residual network of "
        "timm's that is known here"
        + (f"; closest: {', '.join(close)}" if close else "")
    )
