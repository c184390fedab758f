"""Recipe -> optimizer, loss and metrics."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras

from keras_resnet.errors import RecipeError
from keras_resnet.heads import head_of
from keras_resnet.losses import LabelAccuracy, LabelLoss, balanced_weights
from keras_resnet.optimizers import SGD
from keras_resnet.recipe import Recipe
from keras_resnet.training.finetuning import rate_factors
from keras_resnet.training.schedules import learning_rates

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
        UserError: the model does not put out logits, or classes are to be weighed
            whose images aren't counted.
    """
    if (kind := head_of(model).kind) != "logits":
        raise RecipeError(
            f"model: ends in a {kind}; build it with classifier_activation=None, "
            "or compile it yourself"
        )
    top_5 = model.output_shape[-1] >= TOP_5_FROM
    if recipe.augment.mixes:
        accuracy: list[Any] = [LabelAccuracy()]
    else:
        accuracy = ["accuracy"]
    return {
        "optimizer": _optimizer(recipe, model, learning_rates(recipe, steps)),
        "loss": _loss(recipe, class_counts),
        "metrics": accuracy + [LabelAccuracy(k=5, name="top5_accuracy")] * top_5,
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


def _loss(recipe: Recipe, class_counts: Sequence[int]) -> Any:
    weights = balanced_weights(class_counts) if recipe.class_weight != "none" else None
    if recipe.class_weight != "none" and not class_counts:
        raise RecipeError(
            f"class_weight: {recipe.class_weight!r} needs the training images of each "
            "class, which of what doesn't fit into memory, a stream, aren't known; "
            "compile_args takes them as class_counts"
        )
    plain = recipe.loss == "cross_entropy" and not recipe.label_smoothing
    if plain and not recipe.augment.mixes and weights is None:
        return keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    return LabelLoss(
        binary=recipe.loss == "binary",
        label_smoothing=recipe.label_smoothing,
        class_weight=weights,
    )
