"""What augmentation a recipe asks for. No TensorFlow."""

from __future__ import annotations

import dataclasses
from typing import Literal

from keras_resnet import records
from keras_resnet.errors import AugmentError

PadMode = Literal["mean", "reflect"]
Policy = Literal["none", "trivial", "rand"]
Sampling = Literal["uniform", "balanced"]  # of the training images of an epoch


def _increasing(end: records.Check, allowed: str) -> records.Check:
    return (
        lambda value: (
            value is None
            or (records.several(end, 2, 2)[0](value) and value[0] <= value[1])
        ),
        allowed,
    )


_ALPHA = records.number(0, allowed="a number, not negative")
_SHARE = records.number(0, 1)

_CHECKS: dict[str, records.Check] = {
    "pad": records.integer(0, allowed="a number of pixels, not negative"),
    "pad_mode": records.choice(PadMode),
    "scale": _increasing(
        records.number(0, 1, above=True),
        "two increasing shares of the area, from 0 to 1",
    ),
    "resize": _increasing(
        records.integer(1), "two increasing lengths of the shorter side in pixels"
    ),
    "flip": records.FLAG,
    "policy": records.choice(Policy),
    "policy_ops": records.integer(1, allowed="a positive integer"),
    "policy_magnitude": _SHARE,
    "color": _SHARE,
    "lighting": _ALPHA,
    "erase": _SHARE,
    "mixup": _ALPHA,
    "cutmix": _ALPHA,
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Augment(records.Record):
    """Random changes of training images; the defaults change nothing.

    What an operation leaves empty is filled with the mean pixel: the papers pad with
    zeros after subtracting the mean. They are applied in the order given here; of
    `pad`, `scale` and `resize`, which choose the crop, one at most.

    Attributes:
        pad: pixels by which an image may be shifted in each direction (He 2015,
            section 4.2: 4).
        pad_mode: what comes in then: "mean", the mean pixel (He 2015), or "reflect",
            the image mirrored at its edge (Wide ResNet, section 3).
        scale: least and greatest area of a crop as a share of the image's, with an
            aspect from 3/4 to 4/3, resized to the network's input (Inception;
            fb.resnet.torch: 0.08, 1).
        resize: least and greatest length in pixels of the shorter side, from which a
            crop of the network's input is taken (He 2015, section 3.4: 256, 480).
        flip: whether left and right are exchanged half of the time.
        policy: "trivial", one operation of random strength (TrivialAugment, Mueller
            2021, wide); "rand", `policy_ops` of strength `policy_magnitude`
            (RandAugment, Cubuk 2019).
        policy_ops: operations an image, of RandAugment.
        policy_magnitude: their strength as a share of the strongest (torchvision: 9
            of 30; Wightman 2021, A3: 6 of 10).
        color: greatest change of brightness, contrast and saturation, as a share
            (fb.resnet.torch: 0.4).
        lighting: standard deviation of the noise along the principal components of
            ImageNet's colors (AlexNet, section 4.1: 0.1).
        erase: probability of filling a random rectangle (Zhong 2017: 0.5).
        mixup: alpha of the Beta distribution of a mean of two images (Zhang 2017:
            0.2 on ImageNet, 1 on CIFAR).
        cutmix: alpha of that of the area in which a second image replaces the first
            (Yun 2019: 1). With mixup, each batch takes one of the two.
    """

    _kind = "augment"
    _error = AugmentError
    _checks = _CHECKS
    _prefix = "augment: "

    pad: int = 0
    pad_mode: PadMode = "mean"
    scale: tuple[float, float] | None = None
    resize: tuple[int, int] | None = None
    flip: bool = False
    policy: Policy = "none"
    policy_ops: int = 2
    policy_magnitude: float = 0.3
    color: float = 0.0
    lighting: float = 0.0
    erase: float = 0.0
    mixup: float = 0.0
    cutmix: float = 0.0

    def _check_combinations(self) -> None:
        ways = [name for name in ("pad", "scale", "resize") if getattr(self, name)]
        if len(ways) > 1:
            raise AugmentError(
                f"augment: {ways[0]}: with {ways[1]}, but an image is cropped in one "
                "way; leave one of them out"
            )

    @property
    def crops(self) -> bool:
        """Whether a part of each image is resized to the whole."""
        return self.scale is not None or self.resize is not None

    @property
    def mixes(self) -> bool:
        """Whether images are mixed, so that labels are shares of the classes."""
        return self.mixup > 0 or self.cutmix > 0
