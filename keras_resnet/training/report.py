"""What a run leaves for the eye: `report.json`, its figures, and some test images."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from keras_resnet import files
from keras_resnet.run import CONFUSION, LABELS, VALUES
from keras_resnet.tasks import target_text
from keras_resnet.training import plots
from keras_resnet.training.evaluation import Evaluation
from keras_resnet.training.judging import AnyEvaluation
from keras_resnet.training.multilabel import LabelEvaluation, draw_labels
from keras_resnet.training.regression import ValueEvaluation, draw_values

if TYPE_CHECKING:
    from keras_resnet.data import Splits

REPORT = "report.json"
MISTAKES = "mistakes.png"
CALIBRATION = "calibration.png"
FILES = (REPORT, CONFUSION, MISTAKES, CALIBRATION)  # of classes
OTHERS = (LABELS, VALUES)  # of other tasks

SHOWN = 10  # test images written beside the run
NAME = 100  # characters of their targets in their names


def write_report(
    evaluation: AnyEvaluation,
    images: Sequence[np.ndarray],
    folder: Path,
    paths: Sequence[str] = (),
    notes: Mapping[str, Any] | None = None,
) -> None:
    """Writes the numbers, and pictures of confusion, mistakes, calibration.

    Of several labels there is a picture of these instead of confusion, of values one
    of these, and no calibration.

    Args:
        evaluation: of the test images.
        images: those of `evaluation.worst`, uint8 (height, width, channels).
        folder: the run folder.
        paths: of all test images, where they are files.
        notes: what else `report.json` has to say of the metrics.
    """
    table = {
        **evaluation.metrics,
        **(notes or {}),
        "per_class": evaluation.per_class,
        "worst_mistakes": [_mistake(evaluation, i, paths) for i in evaluation.worst],
    }
    if not isinstance(evaluation, ValueEvaluation):
        table["calibration"] = [b._asdict() for b in evaluation.bins]
    if isinstance(evaluation, Evaluation):
        suspects = [_mistake(evaluation, i, paths) for i in evaluation.suspects]
        table["likely_wrong_labels"] = suspects
    files.write_json(folder / REPORT, table)
    mistakes = [evaluation.mistake(i) for i in evaluation.worst]
    plots.draw_mistakes(images, mistakes, folder / MISTAKES)
    _DRAWN[type(evaluation)](evaluation, folder)


def _draw_classes(found: Evaluation, folder: Path) -> None:
    names, error = found.class_names, found.metrics["calibration_error"]
    plots.draw_confusion(found.labels, found.predictions, names, folder / CONFUSION)
    plots.draw_calibration(found.bins, error, folder / CALIBRATION)


def _draw_labels(found: LabelEvaluation, folder: Path) -> None:
    error, of = found.metrics["calibration_error"], "labels of images"
    draw_labels(found, folder / LABELS)
    plots.draw_calibration(found.bins, error, folder / CALIBRATION, of)


_DRAWN: dict[type, Callable[[Any, Path], None]] = {
    Evaluation: _draw_classes,
    LabelEvaluation: _draw_labels,
    ValueEvaluation: lambda found, folder: draw_values(found, folder / VALUES),
}


def _mistake(evaluation: AnyEvaluation, i: int, paths: Sequence[str]) -> dict[str, Any]:
    """What an image is, and what it was taken for."""
    mistake = evaluation.mistake(i)
    degree = "error" if isinstance(evaluation, ValueEvaluation) else "confidence"
    return {
        "image": int(i),
        **({"file": paths[i]} if paths else {}),
        "is": mistake.true,
        "taken_for": mistake.predicted,
        degree: mistake.degree,
    }


def write_augmented(data: Splits, path: Path) -> None:
    """Draws training images as the first epoch has them, unless that has been done."""
    if path.exists():
        return
    data.start(0)
    images, labels = next(iter(data.train.take(1).as_numpy_iterator()))
    if data.task == "classes" and labels.ndim > 1:
        labels = labels.argmax(axis=-1)  # mixed: the largest share
    elif data.task == "binary":
        labels = labels > 0.5
    names = [
        target_text(data.task, label, data.class_names)
        for label in labels[: plots.SHOWN]
    ]
    plots.draw_images(images[: plots.SHOWN], names, path)


def write_samples(data: Splits, folder: Path) -> np.ndarray:
    """Writes some test images as PNG, named by what they are; returns them.

    Of other channels than 1 or 3 no file can be made that `predict` takes.
    """
    images, labels = next(data.test.unbatch().batch(SHOWN).as_numpy_iterator())
    if images.shape[-1] not in (1, 3):
        return np.asarray(images)
    folder.mkdir(exist_ok=True)
    for i, (image, label) in enumerate(zip(images, labels, strict=True)):
        text = target_text(data.task, label, data.class_names)
        name = re.sub(r"[^\w.-]+", "-", text)[:NAME]
        path = folder / f"{i}-is-{name}.png"
        with files.replacing(path) as temporary:
            Image.fromarray(image.squeeze(-1) if image.shape[-1] == 1 else image).save(
                temporary
            )
    return np.asarray(images)
