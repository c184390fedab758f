"""What a network is trained for: a table of tasks. No TensorFlow.

What needs Keras for a task, its loss and an epoch's metrics, is in `training.compile`;
how it is judged in `training.evaluation`; what a head puts out in `heads`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

from keras_resnet.units import count

Task = Literal["classes", "binary", "labels", "regression"]


class Measure(NamedTuple):
    """A number that a network is judged by.

    Attributes:
        key: its name in histories and results, behind "val_" and "test_".
        name: what it is called.
        form: how it is written, by Python's format.
        higher: whether more is better.
    """

    key: str
    name: str
    form: str
    higher: bool = True


ACCURACY = Measure("accuracy", "accuracy", ".2%")
PRECISION = Measure("mean_average_precision", "mean average precision", ".2%")
R2 = Measure("r2", "R2", ".4f")
LOSS = Measure("loss", "cross-entropy", ".4f", higher=False)
CALIBRATION = Measure("calibration_error", "calibration error", ".2%", higher=False)


class TaskRow(NamedTuple):
    """What differs between tasks.

    Attributes:
        target: what an image has.
        each: what one of its outputs stands for.
        score: what runs are compared by: at most 1, and more is better.
        monitor: of the validation images, which the best epoch is chosen by.
        measures: of the test images, as they are printed; the score first.
        outputs: what a trained model puts out for each image, before the export.
        sources: kinds of data that have such targets; None: all.
    """

    target: str
    each: str
    score: Measure
    monitor: Measure
    measures: tuple[Measure, ...]
    outputs: str
    sources: tuple[str, ...] | None = None


_TARGETS_IN = ("csv", "npz")

TASKS: dict[str, TaskRow] = {
    "classes": TaskRow(
        "one class of several",
        "class",
        ACCURACY,
        # Rather than accuracy, which ties and jumps where images are few.
        LOSS,
        (ACCURACY, Measure("top5_accuracy", "top-5", ".2%"), LOSS, CALIBRATION),
        "a logit for each class, of which softmax makes probabilities",
    ),
    "binary": TaskRow(
        "one class of two",
        "class",
        ACCURACY,
        LOSS,
        (
            ACCURACY,
            Measure("f1", "F1", ".2%"),
            Measure("auc", "AUC", ".4f"),
            LOSS,
            CALIBRATION,
        ),
        "one logit, of which a sigmoid makes the second class' probability",
    ),
    "labels": TaskRow(
        "any of several labels",
        "label",
        PRECISION,
        # It ranks, so that it doesn't jump; the loss rises while labels become surer.
        PRECISION,
        (
            PRECISION,
            Measure("macro_f1", "macro F1", ".2%"),
            Measure("exact_match", "all labels right", ".2%"),
            LOSS,
            CALIBRATION,
        ),
        "a logit for each label, of which a sigmoid makes its probability",
        _TARGETS_IN,
    ),
    "regression": TaskRow(
        "one or several numbers",
        "value",
        R2,
        Measure("loss", "Huber loss", ".4f", higher=False),
        (
            R2,
            Measure("mae", "MAE", ".4g", higher=False),
            Measure("rmse", "RMSE", ".4g", higher=False),
        ),
        "values in the targets' own units",
        _TARGETS_IN,
    ),
}


def units(task: str, classes: int) -> int:
    """How many numbers a network puts out: one for two classes of a binary task."""
    return 1 if task == "binary" else classes


def has_classes(task: str) -> bool:
    """Whether an image has one class: an integer, by which splits are stratified."""
    return task in ("classes", "binary")


def best_epoch(task: str, history: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The row of the epoch that a run's model is of; without validation the last."""
    return max(history, key=lambda row: monitored(task, row))


def monitored(task: str, row: dict[str, Any]) -> float:
    """What an epoch's row is worth, more being better; what is no number is worst."""
    monitor = TASKS[task].monitor
    value = row.get(f"val_{monitor.key}")
    if value is None:
        return float(row["epoch"])
    if math.isnan(value):
        return -math.inf
    return float(value) if monitor.higher else -float(value)


def verdict(task: str, metrics: dict[str, float]) -> str:
    """Test metrics on one line."""
    first, *others = TASKS[task].measures
    images = round(metrics["images"])
    of = count(images, "image")
    if first is ACCURACY:
        of = f"{round(metrics[first.key] * images)} of {of}"
    parts = [f"test {first.name} {metrics[first.key]:{first.form}} ({of})"]
    parts += [
        f"{each.name} {metrics[each.key]:{each.form}}"
        for each in others
        if each.key in metrics
    ]
    return ", ".join(parts)


def target_text(task: str, target: Any, names: Sequence[str]) -> str:
    """An image's target in words: its class, its labels, or its values."""
    if has_classes(task):
        return names[int(target)]
    if task == "labels":
        return ", ".join(names[i] for i, on in enumerate(target) if on > 0.5) or "none"
    if len(names) == 1:
        return f"{float(target[0]):.4g}"
    return ", ".join(
        f"{name} {float(each):.4g}" for name, each in zip(names, target, strict=True)
    )
