"""Published figures: errors of networks, ILSVRC's winners, the 1x1 example.

Errors of different crops can't be compared: ten crops are about 1.8 points better than
one. So rows are chosen by test set and protocol. Standard library only.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from keras_resnet.errors import UserError

TABLE = Path(__file__).with_name("published.csv")
IMAGENET = "ImageNet validation"
ONE_CROP = "1-crop"  # with the side of the crop after it
TESTED_ON_MORE = "1-crop 320"  # a protocol of its own: images larger than trained on

# Networks of the comparison that are no presets; `reference` builds them.
REFERENCES = (
    "alexnet", "alexnet_one_tower", "bn_alexnet", "nin", "bn_nin", "googlenet", "vgg16",
    "vgg19", "inception_v3", "inception_v4", "inception_resnet_v2",
)  # fmt: skip


class NetworkResult(NamedTuple):
    """A network's error. Errors are in per cent, None where not reported.

    Attributes:
        network: a preset, one of `reference.REFERENCES`, or the network of a run.
        title: its name in print, with what sets the row apart.
        test_set: the images that it was tested on.
        crop: the protocol: how many crops of what side.
        top1_error: share of images whose class was not the likeliest.
        top5_error: share of images whose class was not among the five likeliest.
        params: trainable parameters.
        macs: multiply-adds of an image.
        source: paper and table, repository, or run.
        own: whether it is a run of the user's.
    """

    network: str
    title: str
    test_set: str
    crop: str
    top1_error: float | None
    top5_error: float | None
    params: int
    macs: int
    source: str
    own: bool = False

    @property
    def accuracy(self) -> float:
        """Top-1, in per cent; not a number where not reported."""
        return math.nan if self.top1_error is None else round(100 - self.top1_error, 3)


def _number(text: str) -> float | None:
    return float(text) if text else None


_NUMBERS: dict[str, Callable[[str], Any]] = {
    "top1_error": _number, "top5_error": _number, "params": int, "macs": int,
}  # fmt: skip


def published_results(
    test_set: str | None = None, protocol: str | None = None
) -> list[NetworkResult]:
    """All results, or those of a test set and a protocol.

    Args:
        test_set: such as "ImageNet validation" or "CIFAR-10 test".
        protocol: the crop's first word, such as "1-crop" or "10-crop"; images larger
            than the network was trained on ("1-crop 320") are never among these.

    Raises:
        UserError: nothing was published of it.
    """
    with TABLE.open(newline="", encoding="utf-8") as file:
        rows = [
            NetworkResult(**{k: _NUMBERS.get(k, str)(v) for k, v in row.items()})
            for row in csv.DictReader(file)
        ]
    for field, wanted in (("test_set", test_set), ("crop", protocol)):
        if wanted is None:
            continue
        known = sorted({getattr(row, field) for row in rows})
        rows = [row for row in rows if _matches(getattr(row, field), wanted)]
        if not rows:
            raise UserError(f"{field}: {wanted!r} is not one of {', '.join(known)}")
    return rows


def _matches(found: str, wanted: str) -> bool:
    if found == TESTED_ON_MORE:
        return wanted == found
    return found == wanted or found.startswith(f"{wanted} ")


# The comparison of the lecture: network, and the source whose row is taken. The first
# is the code of Canziani 2016; what that doesn't list comes from others, all one crop.
_CANZIANI = "szagoruyko/imagenet-validation.torch README"
_LECTURE = [
    *(
        (network, _CANZIANI)
        for network in (
            "alexnet", "bn_alexnet", "bn_nin", "vgg16", "vgg19", "resnet18",
            "resnet34", "resnet50_v1_5", "resnet101_v1_5", "inception_v3",
        )
    ),
    ("googlenet", "torchvision"),
    ("resnet152_v1_5", "fb.resnet.torch README"),
    ("inception_v4", "TF-slim"),
    ("inception_resnet_v2", "He 2016"),
]  # fmt: skip
LECTURE_NOTE = (
    "ImageNet validation, one crop of 224 pixels (AlexNet 227, Inception 299), as the "
    "code of Canziani 2016 measured it;\nGoogLeNet torchvision, ResNet-152 "
    "fb.resnet.torch, Inception-v4 TF-slim, Inception-ResNet-v2 He 2016."
)


def lecture() -> list[NetworkResult]:
    """The networks of the lecture's comparison, a row each, under one protocol."""
    rows = published_results(IMAGENET, ONE_CROP)
    return [
        next(
            row._replace(title=row.title.split(" v1.5")[0].removesuffix(" B"))
            for row in rows
            if row.network == network and row.source.startswith(source)
        )
        for network, source in _LECTURE
    ]


class Winner(NamedTuple):
    """A winner of ILSVRC's classification task, or who came close.

    Attributes:
        year: of the challenge.
        name: of the network, or of the team where it had none.
        top5_error: per cent, on the test set, as entered (ensembles of many crops).
        depth: weighted layers; None for features that weren't learned.
        won: False for a runner-up.
        source: of error and depth.
    """

    year: int
    name: str
    top5_error: float
    depth: int | None
    won: bool
    source: str


_ILSVRC = "Russakovsky 2015 (1409.0575); depth: He 2016, ICML tutorial"
WINNERS = (
    Winner(2010, "NEC-UIUC", 28.2, None, True, _ILSVRC),
    Winner(2011, "XRCE", 25.8, None, True, _ILSVRC),
    Winner(2012, "AlexNet", 16.4, 8, True, _ILSVRC),
    Winner(2013, "Clarifai (ZFNet)", 11.7, 8, True, _ILSVRC),
    Winner(2014, "VGG", 7.3, 19, False, _ILSVRC),
    Winner(2014, "GoogLeNet", 6.7, 22, True, _ILSVRC),
    Winner(2015, "ResNet", 3.57, 152, True, "He 2015 (1512.03385) T5"),
)


class ModuleCost(NamedTuple):
    """Multiplications of a convolution, and with a 1x1 convolution before it."""

    direct: int
    reduction: int
    after: int

    @property
    def reduced(self) -> int:
        """The 1x1 convolution and what follows."""
        return self.reduction + self.after


def reduction_cost(
    size: int = 28,
    channels: int = 192,
    *,
    kernel: int = 5,
    filters: int = 32,
    reduced: int = 16,
) -> ModuleCost:
    """What a 1x1 convolution saves; by default the lecture's GoogLeNet example.

    5x5 convolutions from 28x28x192 to 32 maps take 120,422,400 multiplications; through
    16 maps of 1x1 convolutions it is 12,443,648.
    """
    pixels, window = size * size, kernel * kernel
    return ModuleCost(
        direct=pixels * window * channels * filters,
        reduction=pixels * channels * reduced,
        after=pixels * window * reduced * filters,
    )
