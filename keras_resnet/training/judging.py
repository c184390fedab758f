"""A model on labelled images: what it is worth, whatever its task."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from keras_resnet.training.evaluation import (
    Evaluation,
    evaluate_binary,
    evaluate_logits,
)
from keras_resnet.training.multilabel import LabelEvaluation, evaluate_labels
from keras_resnet.training.regression import ValueEvaluation, evaluate_values

AnyEvaluation = Evaluation | LabelEvaluation | ValueEvaluation

# Task -> outputs of a model (images, units), labels and their names -> its worth.
EVALUATIONS: dict[
    str, Callable[[np.ndarray, np.ndarray, Sequence[str]], AnyEvaluation]
] = {
    "classes": evaluate_logits,
    "binary": evaluate_binary,
    "labels": evaluate_labels,
    "regression": evaluate_values,
}


def evaluate_model(
    model: Any, dataset: Any, class_names: Sequence[str], task: str = "classes"
) -> AnyEvaluation:
    """Compares a model with the truth; its images are read once.

    Args:
        model: from images to logits, or to values of a regression.
        dataset: a `tf.data.Dataset` of batches (images, labels).
        class_names: a name for each class, label or value.
        task: what the labels are.
    """
    batches = [
        (model.predict_on_batch(images), labels)
        for images, labels in dataset.as_numpy_iterator()
    ]
    outputs, labels = (np.concatenate(parts) for parts in zip(*batches, strict=True))
    return EVALUATIONS[task](outputs, labels, class_names)
