"""How good a network is where an image may have several labels."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from keras_resnet.figures import (
    COLORS,
    OUTLINE,
    SMALL,
    new_figure,
    short_name,
    write_figure,
)
from keras_resnet.tasks import target_text
from keras_resnet.training.evaluation import (
    WORST,
    Bin,
    Mistake,
    bins_of,
    calibration_error,
)

DRAWN = 40  # labels of a picture, the worst


class LabelEvaluation(NamedTuple):
    """What logits of several labels are worth. A label is given from 50 % on.

    Attributes:
        metrics: mean_average_precision and macro_f1 (over the labels that are on some
            image), micro_f1 (over all labels of all images), exact_match (share of
            images all of whose labels are right), loss (binary cross-entropy, over
            images and labels), calibration_error (as of classes, over both) and the
            number of images.
        per_class: precision, recall, f1, average_precision (None without images) and
            support of each label, with its name.
        bins: of the confidences in each label, given or not.
        labels: 0 or 1, (images, labels).
        probabilities: (images, labels).
        worst: images with a wrong label, by their surest wrong one, at most `WORST`.
        class_names: a name for each label.
    """

    metrics: dict[str, float]
    per_class: list[dict[str, Any]]
    bins: list[Bin]
    labels: np.ndarray
    probabilities: np.ndarray
    worst: np.ndarray
    class_names: tuple[str, ...]

    def mistake(self, i: int) -> Mistake:
        """What an image was taken for, and the surest label that is wrong."""
        names, row = self.class_names, self.probabilities[i]
        sure = np.where(_given(row) != self.labels[i], _confidence(row), 0.0)
        label = int(sure.argmax())
        return Mistake(
            target_text("labels", self.labels[i], names),
            target_text("labels", row, names),
            float(row[label]),
            f"{names[label]} at {row[label]:.1%}",
        )


def _given(probabilities: np.ndarray) -> np.ndarray:
    return np.asarray(probabilities > 0.5)


def _confidence(probabilities: np.ndarray) -> np.ndarray:
    """In what is said of a label, that it is there or that it isn't."""
    return np.asarray(np.maximum(probabilities, 1 - probabilities))


def evaluate_labels(
    logits: np.ndarray, labels: np.ndarray, class_names: Sequence[str]
) -> LabelEvaluation:
    """Compares logits with the truth.

    Args:
        logits: (images, labels).
        labels: 0 or 1, (images, labels).
        class_names: a name for each label.
    """
    from scipy.special import expit
    from sklearn.metrics import (
        average_precision_score,
        f1_score,
        precision_recall_fscore_support,
    )

    logits = np.asarray(logits, np.float64)
    truth = np.asarray(labels) > 0.5
    probabilities = expit(logits)
    given = _given(probabilities)
    precision, recall, f1, support = precision_recall_fscore_support(
        truth, given, average=None, zero_division=0
    )
    seen = support > 0
    average = np.array(
        [
            average_precision_score(truth[:, i], logits[:, i]) if on else np.nan
            for i, on in enumerate(seen)
        ]
    )
    some = bool(seen.any())
    right = given == truth
    confidences = np.where(right, 0.0, _confidence(probabilities)).max(axis=-1)
    wrong = np.flatnonzero(confidences)
    bins = bins_of(_confidence(probabilities).ravel(), right.ravel())
    # log(1 + e^z) - yz: the cross-entropy, without an overflow.
    losses = np.logaddexp(0, logits) - truth * logits
    return LabelEvaluation(
        metrics={
            "loss": float(losses.mean()),
            "mean_average_precision": float(average[seen].mean()) if some else 0.0,
            "macro_f1": float(f1[seen].mean()) if some else 0.0,
            "micro_f1": float(f1_score(truth, given, average="micro", zero_division=0)),
            "exact_match": float(right.all(axis=-1).mean()),
            "calibration_error": calibration_error(bins),
            "images": len(truth),
        },
        per_class=[
            {
                "class": name,
                "precision": float(precision[i]),
                "recall": float(recall[i]),
                "f1": float(f1[i]),
                "average_precision": float(average[i]) if seen[i] else None,
                "support": int(support[i]),
            }
            for i, name in enumerate(class_names)
        ],
        bins=bins,
        labels=truth,
        probabilities=probabilities,
        worst=wrong[np.argsort(-confidences[wrong], kind="stable")][:WORST],
        class_names=tuple(class_names),
    )


def draw_labels(evaluation: LabelEvaluation, path: Path) -> None:
    """Average precision and F1 of each label that is on some image, the worst first."""
    seen = [row for row in evaluation.per_class if row["support"]]
    rows = sorted(seen, key=lambda row: row["average_precision"])[:DRAWN][::-1]
    figure, axes = new_figure(7.5, max(0.3 * len(rows) + 1.4, 3), grid="x")
    places = np.arange(len(rows))
    for offset, key, name, color in (
        (0.2, "average_precision", "average precision", COLORS[0]),
        (-0.2, "f1", "F1", COLORS[1]),
    ):
        values = [100 * row[key] for row in rows]
        axes.barh(places + offset, values, 0.4, label=name, color=color, **OUTLINE)
    labels = [f"{short_name(row['class'], 24)} ({row['support']})" for row in rows]
    axes.set_yticks(places, labels, fontsize=SMALL)
    axes.set(xlim=(0, 100), xlabel="% (in brackets: test images with the label)")
    figure.legend(loc="outside lower center", ncols=2, fontsize=SMALL)
    mean = evaluation.metrics["mean_average_precision"]
    few = f", the worst {DRAWN} of {len(seen)} labels" * (len(seen) > DRAWN)
    figure.suptitle(f"mean average precision {mean:.2%}{few}")
    write_figure(path, figure)
