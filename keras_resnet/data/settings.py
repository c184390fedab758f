"""What augmentation a recipe asks for. No TensorFlow."""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass(frozen=True, kw_only=True)
class Augment:
    """Random changes of training images.

    Attributes:
        pad: pixels by which an image may be shifted in each direction; what comes in
            is the mean pixel (He 2015, section 4.2, pads after subtracting the mean).
        flip: whether left and right are exchanged half of the time.
    """

    pad: int = 0
    flip: bool = False
