"""Images for training: `load(source)` gives three disjoint, seeded splits."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from keras_resnet.data.augment import Augment
from keras_resnet.data.images import DataError, DataWarning
from keras_resnet.errors import AugmentError

if TYPE_CHECKING:
    from keras_resnet.data.dataset import Splits, load

__all__ = ["Augment", "AugmentError", "DataError", "DataWarning", "Splits", "load"]


def __getattr__(name: str) -> Any:
    # Recipes name their augmentation without TensorFlow; what loads imports it.
    if name in ("Splits", "load"):
        from keras_resnet.data import dataset

        return getattr(dataset, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
