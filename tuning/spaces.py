"""The preset spaces, a table."""

from __future__ import annotations

from typing import Any, Literal

from keras_resnet.spec import ResNetSpec
from tuning.space import Range, Space, SpaceError

Stem = Literal["cifar", "imagenet"]

_TRAINING: dict[str, Any] = {
    "learning_rate": Range(0.02, 0.5, log=True),
    "l2": Range(1e-5, 3e-3, log=True),
    "augment": (0.0, 0.5, 1.0),
    "batch_size": (64, 128, 256),
}
_ORDERS: dict[str, Any] = {"order": ("post", "pre"), "survival": (0.5, 0.8, 1.0)}
_CIFAR_DEPTHS = (8, 14, 20, 32, 44, 56, 110)
_IMAGENET_DEPTHS = (26, 50, 101, 152)
_BASIC_DEPTHS = (18, 26, 34, 50)  # of ImageNet's stem with basic units
_WIDTHS = (1.0, 2.0, 4.0, 8.0, 10.0)
_IMAGENET_WIDTHS = (0.5, 1.0, 1.5, 2.0)
_NARROW = Range(0.35, 2.0, log=True)
_GROUPS = (1, 2, 4, 8, 16, 32)
_BLOCKS = ("basic", "bottleneck")

# Name -> the space for images of about 32 pixels, and for those of ImageNet's size.
SPACES: dict[str, dict[Stem, Space]] = {
    "depth": {
        "cifar": Space(name="depth", depth=_CIFAR_DEPTHS),
        "imagenet": Space(name="depth", depth=_IMAGENET_DEPTHS),
    },
    "wide": {
        "cifar": Space(name="wide", depth=(10, 16, 22, 28, 40), k=_WIDTHS),
        "imagenet": Space(name="wide", depth=_IMAGENET_DEPTHS, k=_IMAGENET_WIDTHS),
    },
    "small": {
        "cifar": Space(
            name="small",
            block=_BLOCKS,
            depth=(8, 11, 14, 20, 26),
            k=_NARROW,
            cardinality=(1, 2, 4, 8),
        ),
        "imagenet": Space(
            name="small",
            block=_BLOCKS,
            depth=(14, 18, 26, 34, 50),
            k=_NARROW,
            cardinality=(1, 2, 4, 8, 32),
        ),
    },
    "resnext": {
        "cifar": Space(
            name="resnext",
            block=("bottleneck",),
            depth=(11, 20, 29),
            cardinality=_GROUPS,
        ),
        "imagenet": Space(
            name="resnext",
            block=("bottleneck",),
            depth=_IMAGENET_DEPTHS,
            cardinality=(1, 2, 4, 8, 32),
        ),
    },
    "all": {
        "cifar": Space(
            name="all",
            block=_BLOCKS,
            depth=_CIFAR_DEPTHS,
            k=_WIDTHS,
            cardinality=_GROUPS,
            **_ORDERS,
            **_TRAINING,
        ),
        "imagenet": Space(
            name="all",
            block=_BLOCKS,
            depth=_IMAGENET_DEPTHS,
            k=_IMAGENET_WIDTHS,
            cardinality=(1, 2, 4, 8, 32),
            stem=("imagenet", "deep"),
            **_ORDERS,
            **_TRAINING,
        ),
    },
}


def get_space(name: str, base: ResNetSpec) -> Space:
    """A preset space for networks with a base's stem.

    Raises:
        SpaceError: no such space.
    """
    if name not in SPACES:
        raise SpaceError(f"space: {name!r} is not one of {', '.join(SPACES)}")
    if base.stem not in ("imagenet", "deep"):
        return SPACES[name]["cifar"]
    space = SPACES[name]["imagenet"]
    if base.block == "basic" and space.block is None:
        return space.replace(depth=_BASIC_DEPTHS)
    return space
