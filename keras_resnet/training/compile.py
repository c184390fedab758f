"""Recipe -> optimizer, loss and metrics."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras

from keras_resnet.errors import RecipeError
from keras_resnet.heads import head_of
from keras_resnet.losses import (
    BinaryLoss,
    LabelAccuracy,
    LabelLoss,
    LogitAccuracy,
    StandardizedError,
    balanced_weights,
)
from keras_resnet.network import target_stats_of
from keras_resnet.optimizers import SGD
from keras_resnet.recipe import Recipe
from keras_resnet.tasks import PRECISION, R2
from keras_resnet.training.finetuning import rate_factors
from keras_resnet.training.schedules import learning_rates

Weights = tuple[float, ...] | None
TOP_5_FROM = 100  # classes: where single guesses are a hard test, as on ImageNet


def compile_args(
    recipe: Recipe,
    model: keras.Model,
    steps: int,
    class_counts: Sequence[int] = (),
) -> dict[str, Any]:
    """Arguments for `model.compile`: optimizer, loss on logits, metrics.

    Args:
        recipe: the recipe.
        model: the model to train; it must put out logits.
        steps: steps an epoch, `Splits.steps`.
        class_counts: training images of each class, `Splits.class_counts["train"]`,
            where the recipe weighs classes.

    Raises:
        UserError: the model does not put out logits, or not those of the task; or
            classes are to be weighed whose images aren't counted.
    """
    head = head_of(model)
    if head.kind != "logits":
        raise RecipeError(
            f"model: ends in a {head.kind}; build it with classifier_activation=None, "
            "or compile it yourself"
        )
    if head.task != recipe.task:
        head_of(model, recipe.task)  # refuses what can't be of it
    loss, metrics = _JUDGED[recipe.task]
    return {
        "optimizer": _optimizer(recipe, model, learning_rates(recipe, steps)),
        "loss": loss(recipe, model, _weights(recipe, class_counts)),
        "metrics": metrics(recipe, model.output_shape[-1]),
        "steps_per_execution": recipe.steps_per_execution,
    }


def _optimizer(recipe: Recipe, model: keras.Model, rates: Any) -> Any:
    shared = {"global_clipnorm": recipe.clip_norm or None}
    decay = recipe.weight_decay
    if recipe.optimizer == "sgd":
        decays = recipe.stage_decay != 1
        optimizer = SGD(
            rates,
            momentum=recipe.momentum,
            nesterov=recipe.nesterov,
            l2=recipe.l2,
            l2_on_vectors=recipe.l2_on_vectors,
            rate_in_velocity=recipe.rate_in_velocity,
            weight_decay=decay or None,
            rate_factors=rate_factors(model, recipe.stage_decay) if decays else None,
            **shared,
        )
    else:
        kinds = {"lamb": keras.optimizers.Lamb, "adamw": keras.optimizers.AdamW}
        optimizer = kinds[recipe.optimizer](rates, weight_decay=decay, **shared)
    if decay and not recipe.l2_on_vectors:
        vectors = [v for v in model.trainable_variables if len(v.shape) < 2]
        optimizer.exclude_from_weight_decay(var_list=vectors)
    return optimizer


def _weights(recipe: Recipe, class_counts: Sequence[int]) -> Weights:
    """What each class counts; None: all alike."""
    if recipe.class_weight == "none":
        return None
    if not class_counts:
        raise RecipeError(
            f"class_weight: {recipe.class_weight!r} needs the training images of each "
            "class, which of what doesn't fit into memory, a stream, aren't known; "
            "compile_args takes them as class_counts"
        )
    return balanced_weights(class_counts)


def _class_metrics(recipe: Recipe, classes: int) -> list[Any]:
    top_5 = [LabelAccuracy(k=5, name="top5_accuracy")] * (classes >= TOP_5_FROM)
    return [LabelAccuracy() if recipe.augment.mixes else "accuracy", *top_5]


def _class_loss(recipe: Recipe, _: keras.Model, weights: Weights) -> Any:
    plain = recipe.loss == "cross_entropy" and not recipe.label_smoothing
    if plain and not recipe.augment.mixes and weights is None:
        return keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    return LabelLoss(
        binary=recipe.loss == "binary",
        label_smoothing=recipe.label_smoothing,
        class_weight=weights,
    )


def _sigmoid_loss(recipe: Recipe, _: keras.Model, weights: Weights) -> Any:
    smoothing = {"label_smoothing": recipe.label_smoothing}
    if weights is None:
        return keras.losses.BinaryCrossentropy(from_logits=True, **smoothing)
    return BinaryLoss(class_weight=weights, **smoothing)


def _value_loss(_: Recipe, model: keras.Model, weights: Weights) -> Any:
    """In standard deviations of the targets, where the model knows them."""
    stats = target_stats_of(model)
    return StandardizedError(stats[1] if stats else [1.0] * model.output_shape[-1])


# Task -> loss, and the metrics of an epoch.
_JUDGED: dict[str, tuple[Any, Any]] = {
    "classes": (_class_loss, _class_metrics),
    "binary": (_sigmoid_loss, lambda *_: [LogitAccuracy()]),
    "labels": (
        _sigmoid_loss,
        lambda _, labels: [
            keras.metrics.AUC(
                curve="PR",
                multi_label=True,
                num_labels=labels,
                from_logits=True,
                name=PRECISION.key,
            )
        ],
    ),
    "regression": (
        _value_loss,
        lambda *_: [keras.metrics.R2Score(name=R2.key)],
    ),
}
