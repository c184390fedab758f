"""Losses and accuracies for labels of all kinds.

Mixup and cutmix turn the training labels into shares of the classes, while validation
keeps classes; Keras' own losses and metrics take one kind each.
"""

from __future__ import annotations

from collections.abc import Sequence
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
        class_weight: what each class counts; None: 1. An image's loss is the sum of
            its classes' by their shares and weights: of one that isn't mixed, its
            class' weight times its loss, as by Keras' `class_weight`.
        **kwargs: as `keras.losses.Loss`.

    The loss of an image whose class there isn't is not a number.

    Raises:
        ValueError: the smoothing is no share; labels of neither kind, a single logit,
            which has no classes to choose from, or weights of other classes.
    """

    def __init__(
        self,
        *,
        binary: bool = False,
        label_smoothing: float = 0.0,
        class_weight: Sequence[float] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**{"name": "label_loss", **kwargs})
        if not 0 <= label_smoothing < 1:
            raise ValueError(f"label_smoothing: {label_smoothing!r} is not in [0, 1)")
        self.binary = binary
        self.label_smoothing = label_smoothing
        self.class_weight = class_weight and tuple(class_weight)

    def call(self, y_true: Any, y_pred: Any) -> Any:
        """The loss of each image."""
        classes = y_pred.shape[-1]
        known: Any = True
        if not _are_shares(y_true, y_pred):
            y_true = _flat(y_true)
            known = ops.logical_and(y_true >= 0, y_true < classes)
            y_true = ops.one_hot(y_true, classes, dtype=y_pred.dtype)
        weight: Any = 1.0
        if self.class_weight:
            if len(self.class_weight) != classes:
                raise ValueError(
                    f"class_weight: {len(self.class_weight)} weights of {classes} "
                    "classes"
                )
            y_true = y_true * ops.convert_to_tensor(self.class_weight, y_pred.dtype)
            weight = ops.sum(y_true, axis=-1)
            # A gradient of the cross-entropy is right for labels of sum 1 only.
            y_true = ops.divide_no_nan(y_true, weight[..., None])
        y_true = (1 - self.label_smoothing) * y_true + self.label_smoothing / classes
        if self.binary:
            each = ops.binary_crossentropy(y_true, y_pred, from_logits=True)
            loss = ops.mean(each, axis=-1)
        else:
            loss = ops.categorical_crossentropy(y_true, y_pred, from_logits=True)
        loss = loss * weight
        # One-hot, a class that there isn't is no label at all, and would cost nothing.
        return loss if known is True else ops.where(known, loss, float("nan"))

    def get_config(self) -> dict[str, Any]:
        """The arguments."""
        names = ("binary", "label_smoothing", "class_weight")
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}


def balanced_weights(counts: Sequence[int]) -> tuple[float, ...]:
    """What each class counts so that all count alike: n / (k * its images).

    Of n images in k classes; their mean over the images is 1. scikit-learn's
    `compute_class_weight("balanced")`.
    """
    return tuple(sum(counts) / (len(counts) * count) for count in counts)


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


@register
class LogitAccuracy(keras.metrics.MeanMetricWrapper):
    """Share of images whose one logit is on the side of their class, 0 or 1.

    Of mixed images the larger share counts.
    """

    def __init__(self, *, name: str = "accuracy", **kwargs: Any) -> None:
        super().__init__(_sides, name=name, **kwargs)

    def get_config(self) -> dict[str, Any]:
        """The arguments."""
        return {"name": self.name, "dtype": self.dtype}


def _sides(y_true: Any, y_pred: Any) -> Any:
    """1 for each image that is right, else 0."""
    second = ops.cast(ops.reshape(y_true, (-1,)), "float32") > 0.5
    right = second == (ops.reshape(y_pred, (-1,)) > 0)
    return ops.cast(right, "float32")


@register
class BinaryLoss(keras.losses.BinaryCrossentropy):
    """Cross-entropy of logits, each of one label: 0, 1, or a share of mixed images.

    Args:
        label_smoothing: as Keras has it: a share that is half of each.
        class_weight: what images of the first and second class count; None: alike.
        **kwargs: as `keras.losses.Loss`.
    """

    def __init__(
        self,
        *,
        label_smoothing: float = 0.0,
        class_weight: Sequence[float] | None = None,
        **kwargs: Any,
    ) -> None:
        kwargs = {"name": "binary_crossentropy", **kwargs, "from_logits": True}
        super().__init__(label_smoothing=label_smoothing, **kwargs)
        self.class_weight = class_weight and tuple(class_weight)

    def call(self, y_true: Any, y_pred: Any) -> Any:
        """The loss of each image."""
        losses = super().call(y_true, y_pred)
        if not self.class_weight:
            return losses
        first, second = self.class_weight
        share = ops.reshape(ops.cast(y_true, losses.dtype), (-1,))
        return losses * (first + (second - first) * share)

    def get_config(self) -> dict[str, Any]:
        """The arguments."""
        return {**super().get_config(), "class_weight": self.class_weight}


@register
class StandardizedError(keras.losses.Loss):
    """Huber's loss of values, in standard deviations of their targets, averaged.

    Half the squared error up to one deviation, linear beyond: its gradient is bounded
    as a cross-entropy's is, so that the papers' rates don't diverge.

    Args:
        deviations: standard deviation of each target in the training images.
        **kwargs: as `keras.losses.Loss`.
    """

    def __init__(self, deviations: Any = (1.0,), **kwargs: Any) -> None:
        super().__init__(**{"name": "huber", **kwargs})
        self.deviations = list(map(float, deviations))

    def call(self, y_true: Any, y_pred: Any) -> Any:
        """The loss of each image."""
        apart = (ops.cast(y_true, y_pred.dtype) - y_pred) / ops.cast(
            self.deviations, y_pred.dtype
        )
        apart = ops.abs(apart)
        near = ops.minimum(apart, 1.0)
        return ops.mean(near * (apart - near / 2), axis=-1)

    def get_config(self) -> dict[str, Any]:
        """The arguments."""
        return {**super().get_config(), "deviations": self.deviations}


def _hits(y_true: Any, y_pred: Any, k: int) -> Any:
    """1 for each image that is right, else 0."""
    if _are_shares(y_true, y_pred):
        y_true = ops.argmax(y_true, axis=-1)
    return ops.in_top_k(_flat(y_true), y_pred, k)


def _are_shares(y_true: Any, y_pred: Any) -> bool:
    classes = y_pred.shape[-1]
    if classes == 1:
        raise ValueError(
            "labels: a single logit has no classes; give two, or use "
            "keras.losses.BinaryCrossentropy(from_logits=True)"
        )
    rank = len(y_true.shape)
    if rank > 2 or (rank == 2 and y_true.shape[-1] not in (1, classes, None)):
        raise ValueError(
            f"labels: of shape {tuple(y_true.shape)}, neither classes (batch,) nor "
            f"shares (batch, {classes})"
        )
    return rank == 2 and y_true.shape[-1] == classes


def _flat(classes: Any) -> Any:
    return ops.cast(ops.reshape(classes, (-1,)), "int32")
