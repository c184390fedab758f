"""Loss and accuracy for labels of both kinds: classes, and shares of mixed images.

Mixup and cutmix turn the training labels into shares of the classes, while validation
keeps classes; Keras' own losses and metrics take one kind each.
"""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

register = keras.saving.register_keras_serializable("keras_resnet")


@register
class LabelLoss(keras.losses.Loss):
    """Cross-entropy of logits with classes (batch,) or shares (batch, classes).

    Args:
        binary: one sigmoid and binary cross-entropy a class, averaged over the classes
            (Wightman 2021, section 2), instead of a softmax over all.
        label_smoothing: share of each label that is spread over all classes.
        **kwargs: as `keras.losses.Loss`.
    """

    def __init__(
        self, *, binary: bool = False, label_smoothing: float = 0.0, **kwargs: Any
    ) -> None:
        super().__init__(**{"name": "label_loss", **kwargs})
        self.binary = binary
        self.label_smoothing = label_smoothing

    def call(self, y_true: Any, y_pred: Any) -> Any:
        """The loss of each image."""
        classes = y_pred.shape[-1]
        if not _are_shares(y_true, y_pred):
            y_true = ops.one_hot(_flat(y_true), classes, dtype=y_pred.dtype)
        y_true = (1 - self.label_smoothing) * y_true + self.label_smoothing / classes
        if self.binary:
            each = ops.binary_crossentropy(y_true, y_pred, from_logits=True)
            return ops.mean(each, axis=-1)
        return ops.categorical_crossentropy(y_true, y_pred, from_logits=True)

    def get_config(self) -> dict[str, Any]:
        """The arguments."""
        names = ("binary", "label_smoothing")
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}


@register
class LabelAccuracy(keras.metrics.MeanMetricWrapper):
    """Share of images whose label, the largest share of it, is among the k best.

    Args:
        k: how many guesses count.
        **kwargs: as `keras.metrics.Metric`.
    """

    def __init__(self, *, k: int = 1, name: str = "accuracy", **kwargs: Any) -> None:
        super().__init__(_hits, name=name, k=k, **kwargs)
        self.k = k

    def get_config(self) -> dict[str, Any]:
        """The arguments."""
        return {"name": self.name, "dtype": self.dtype, "k": self.k}


def _hits(y_true: Any, y_pred: Any, k: int) -> Any:
    """1 for each image that is right, else 0."""
    if _are_shares(y_true, y_pred):
        y_true = ops.argmax(y_true, axis=-1)
    return ops.in_top_k(_flat(y_true), y_pred, k)


def _are_shares(y_true: Any, y_pred: Any) -> bool:
    return len(y_true.shape) == 2 and y_true.shape[-1] == y_pred.shape[-1]


def _flat(classes: Any) -> Any:
    return ops.cast(ops.reshape(classes, (-1,)), "int32")
