"""How good a classifier is on its test images, in numbers, and where it goes wrong."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

BINS = 15  # of confidence (Guo 2017, section 4)
WORST = 20  # mistakes of the highest confidence that are named


class Bin(NamedTuple):
    """Images whose confidence is in one of the `BINS` equal parts of 0 to 1.

    Attributes:
        images: how many.
        confidence: their mean confidence; 0 without images.
        accuracy: share of them that is right; 0 without images.
    """

    images: int
    confidence: float
    accuracy: float


class Mistake(NamedTuple):
    """What an image is, what it was taken for, and how surely or how far off.

    Attributes:
        true: its class, labels or values, in words.
        predicted: the same of the answer.
        degree: confidence, or error in the target's unit.
        text: the degree in words.
    """

    true: str
    predicted: str
    degree: float
    text: str


class Evaluation(NamedTuple):
    """What a classifier's logits are worth.

    Attributes:
        metrics: loss (cross-entropy), accuracy, top5_accuracy where there are more
            than five classes, balanced_accuracy and macro_f1 (the means of recall and
            of f1 over the classes that have images), calibration_error (expected, Guo
            2017, equation 3) and the number of images. Of a binary task also f1 and
            auc (under the ROC curve) of its second class.
        per_class: precision, recall, f1 and support of each class, with its name.
        bins: the reliability diagram's.
        labels: true classes, (images,).
        predictions: most probable classes, (images,).
        confidences: their probabilities, (images,).
        worst: indices of the mistakes of highest confidence, at most `WORST`, the
            most confident first.
        class_names: a name for each class.
        suspects: indices of the images whose labels are likely wrong, the surest
            first, at most `WORST`: another class is at least as probable as it is, on
            average, in images of that class (confident learning: Northcutt 2021,
            1911.00068, section 3.1).
    """

    metrics: dict[str, float]
    per_class: list[dict[str, Any]]
    bins: list[Bin]
    labels: np.ndarray
    predictions: np.ndarray
    confidences: np.ndarray
    worst: np.ndarray
    class_names: tuple[str, ...]
    suspects: np.ndarray

    def mistake(self, i: int) -> Mistake:
        """What an image was taken for."""
        names, confidence = self.class_names, float(self.confidences[i])
        true, predicted = names[self.labels[i]], names[self.predictions[i]]
        return Mistake(true, predicted, confidence, f"at {confidence:.1%}")


def evaluate_logits(
    logits: np.ndarray, labels: np.ndarray, class_names: Sequence[str]
) -> Evaluation:
    """Compares logits with the truth.

    Args:
        logits: (images, classes).
        labels: (images,), integers.
        class_names: a name for each class.
    """
    from scipy.special import log_softmax
    from sklearn.metrics import precision_recall_fscore_support, top_k_accuracy_score

    classes = range(len(class_names))
    logits = np.asarray(logits, np.float64)
    log_probabilities = log_softmax(logits, axis=-1)
    predictions = logits.argmax(axis=-1)
    confidences = np.exp(log_probabilities.max(axis=-1))
    right = predictions == labels
    bins = bins_of(confidences, right)
    metrics = {
        "loss": float(-log_probabilities[np.arange(len(labels)), labels].mean()),
        "accuracy": float(right.mean()),
        "calibration_error": calibration_error(bins),
        "images": len(labels),
    }
    if len(classes) > 5:
        metrics["top5_accuracy"] = float(
            top_k_accuracy_score(labels, logits, k=5, labels=classes)
        )
    columns = precision_recall_fscore_support(
        labels, predictions, labels=classes, zero_division=0
    )
    seen = columns[3] > 0
    metrics["balanced_accuracy"] = float(columns[1][seen].mean())
    metrics["macro_f1"] = float(columns[2][seen].mean())
    per_class = [
        {
            "class": name,
            "precision": float(precision),
            "recall": float(recall),
            "f1": float(f1),
            "support": int(support),
        }
        for name, precision, recall, f1, support in zip(
            class_names, *columns, strict=True
        )
    ]
    wrong = np.flatnonzero(~right)
    worst = wrong[np.argsort(-confidences[wrong], kind="stable")][:WORST]
    return Evaluation(
        metrics=metrics,
        per_class=per_class,
        bins=bins,
        labels=np.asarray(labels),
        predictions=predictions,
        confidences=confidences,
        worst=worst,
        class_names=tuple(class_names),
        suspects=_suspects(np.exp(log_probabilities), np.asarray(labels)),
    )


def _suspects(probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Images whose labels are likely wrong; see `Evaluation`."""
    classes = probabilities.shape[-1]
    counts = np.bincount(labels, minlength=classes)
    own = probabilities[np.arange(len(labels)), labels]
    usual = np.bincount(labels, own, classes) / np.maximum(counts, 1)
    usual[counts == 0] = np.inf  # a class without images has no threshold
    others = np.where(probabilities >= usual, probabilities, 0.0)
    others[np.arange(len(labels)), labels] = 0.0
    surest = others.max(axis=-1)
    found = np.flatnonzero(surest > own)
    return found[np.argsort(own[found] - surest[found], kind="stable")][:WORST]


def evaluate_binary(
    logits: np.ndarray, labels: np.ndarray, class_names: Sequence[str]
) -> Evaluation:
    """Compares single logits (images, 1), each of the second class, with the truth."""
    from sklearn.metrics import roc_auc_score

    # A sigmoid is the softmax of the logit and 0.
    found = evaluate_logits(
        np.concatenate([np.zeros_like(logits), logits], axis=-1), labels, class_names
    )
    found.metrics["f1"] = float(found.per_class[1]["f1"])
    if len(np.unique(labels)) == 2:
        found.metrics["auc"] = float(roc_auc_score(labels, logits[:, 0]))
    return found


def pick(dataset: Any, indices: Sequence[int] | np.ndarray) -> list[np.ndarray]:
    """Some images of a data set of batches, which needn't fit into memory.

    Args:
        dataset: a `tf.data.Dataset` of (images, labels), in the order of the indices.
        indices: which images.

    Returns:
        The images in the order of `indices`.
    """
    wanted = {int(index) for index in indices}
    found: dict[int, np.ndarray] = {}
    start = 0
    for images, *_ in dataset.as_numpy_iterator():
        stop = start + len(images)
        found |= {i: images[i - start] for i in wanted if start <= i < stop}
        if len(found) == len(wanted):
            break
        start = stop
    return [found[int(index)] for index in indices]


def calibration_error(bins: Sequence[Bin]) -> float:
    """The expected one: the mean distance of accuracy and confidence (Guo 2017)."""
    images = sum(each.images for each in bins)
    apart = sum(each.images * abs(each.accuracy - each.confidence) for each in bins)
    return float(apart / images)


def bins_of(confidences: np.ndarray, right: np.ndarray) -> list[Bin]:
    """Answers by their confidence, each right or wrong, in `BINS` parts."""
    # A confidence on the border belongs to the bin below, as in Guo 2017.
    which = np.clip(np.ceil(confidences * BINS).astype(int) - 1, 0, BINS - 1)
    counts = np.bincount(which, minlength=BINS)
    shares = np.maximum(counts, 1)
    confidence = np.bincount(which, confidences, minlength=BINS) / shares
    accuracy = np.bincount(which, right, minlength=BINS) / shares
    return [
        Bin(*row)
        for row in zip(
            counts.tolist(), confidence.tolist(), accuracy.tolist(), strict=True
        )
    ]
