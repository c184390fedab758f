"""How good a classifier is on its test images, and where it goes wrong."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from keras_resnet import files
from keras_resnet.run import CONFUSION
from keras_resnet.training import plots

REPORT = "report.json"
MISTAKES = "mistakes.png"
CALIBRATION = "calibration.png"
FILES = (REPORT, CONFUSION, MISTAKES, CALIBRATION)  # what `write` writes

BINS = 15  # of confidence (Guo 2017, section 4)
WORST = 20  # mistakes shown


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


class Report(NamedTuple):
    """What is to be said of a classifier's logits.

    Attributes:
        metrics: loss (cross-entropy), accuracy, top5_accuracy where there are more
            than five classes, calibration_error (expected, Guo 2017, equation 3) and
            the number of images.
        per_class: precision, recall, f1 and support of each class, with its name.
        bins: the reliability diagram's.
        labels: true classes, (images,).
        predictions: most probable classes, (images,).
        confidences: their probabilities, (images,).
        worst: indices of the mistakes of highest confidence, at most `WORST`, the
            most confident first.
        class_names: a name for each class.
    """

    metrics: dict[str, float]
    per_class: list[dict[str, Any]]
    bins: list[Bin]
    labels: np.ndarray
    predictions: np.ndarray
    confidences: np.ndarray
    worst: np.ndarray
    class_names: tuple[str, ...]


def judge(logits: np.ndarray, labels: np.ndarray, class_names: Sequence[str]) -> Report:
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
    bins = _bins(confidences, right)
    metrics = {
        "loss": float(-log_probabilities[np.arange(len(labels)), labels].mean()),
        "accuracy": float(right.mean()),
        "calibration_error": float(
            sum(b.images * abs(b.accuracy - b.confidence) for b in bins) / len(labels)
        ),
        "images": len(labels),
    }
    if len(classes) > 5:
        metrics["top5_accuracy"] = float(
            top_k_accuracy_score(labels, logits, k=5, labels=classes)
        )
    columns = precision_recall_fscore_support(
        labels, predictions, labels=classes, zero_division=0
    )
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
    return Report(
        metrics=metrics,
        per_class=per_class,
        bins=bins,
        labels=np.asarray(labels),
        predictions=predictions,
        confidences=confidences,
        worst=worst,
        class_names=tuple(class_names),
    )


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


def write(report: Report, images: Sequence[np.ndarray], folder: Path) -> None:
    """Writes `FILES`: the numbers, and pictures of confusion, mistakes, calibration.

    Args:
        report: from `judge`.
        images: those of `report.worst`, uint8 (height, width, channels).
        folder: the run folder.
    """
    names = report.class_names
    table = {
        **report.metrics,
        "per_class": report.per_class,
        "calibration": [b._asdict() for b in report.bins],
        "worst_mistakes": [
            {
                "image": int(i),
                "is": names[report.labels[i]],
                "taken_for": names[report.predictions[i]],
                "confidence": float(report.confidences[i]),
            }
            for i in report.worst
        ],
    }
    files.write_json(folder / REPORT, table)
    plots.draw_confusion(report.labels, report.predictions, names, folder / CONFUSION)
    mistakes = [
        plots.Mistake(
            image,
            names[report.labels[i]],
            names[report.predictions[i]],
            float(report.confidences[i]),
        )
        for i, image in zip(report.worst, images, strict=True)
    ]
    plots.draw_mistakes(mistakes, folder / MISTAKES)
    plots.draw_calibration(
        report.bins, report.metrics["calibration_error"], folder / CALIBRATION
    )


def _bins(confidences: np.ndarray, right: np.ndarray) -> list[Bin]:
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
