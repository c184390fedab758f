"""How the networks of each family are drawn: a color and a marker each."""

from __future__ import annotations

import re
from typing import NamedTuple


class Family(NamedTuple):
    """How the networks whose names match are drawn."""

    pattern: str
    label: str
    color: str
    marker: str


FAMILIES = (
    Family(r"(bn_)?alexnet.*", "AlexNet", "#D55E00", "s"),
    Family(r"(bn_)?nin", "NiN", "#F0E442", "^"),
    Family(r"vgg.*", "VGG", "#CC79A7", "v"),
    Family(r"googlenet|inception.*", "Inception", "#E69F00", "D"),
    Family(r".*resnext.*", "ResNeXt", "#56B4E9", "p"),
    Family(r"wrn.*|wide.*", "Wide ResNet", "#009E73", "h"),
    Family(r".*", "ResNet", "#0072B2", "o"),
)


def family_of(network: str) -> Family:
    """The first family whose pattern a network's name has."""
    return next(f for f in FAMILIES if re.fullmatch(f.pattern, network))
