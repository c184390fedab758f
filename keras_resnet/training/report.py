"""What a run leaves for the eye: `report.json`, its figures, and some test images."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from keras_resnet import files
from keras_resnet.run import CONFUSION
from keras_resnet.training import plots
from keras_resnet.training.evaluation import Evaluation

if TYPE_CHECKING:
    from keras_resnet.data import Splits

REPORT = "report.json"
MISTAKES = "mistakes.png"
CALIBRATION = "calibration.png"
FILES = (REPORT, CONFUSION, MISTAKES, CALIBRATION)  # what `write_report` writes

SHOWN = 10  # test images written beside the run


def write_report(
    evaluation: Evaluation,
    images: Sequence[np.ndarray],
    folder: Path,
    paths: Sequence[str] = (),
    notes: Mapping[str, Any] | None = None,
) -> None:
    """Writes `FILES`: the numbers, and pictures of confusion, mistakes, calibration.

    Args:
        evaluation: of the test images.
        images: those of `evaluation.worst`, uint8 (height, width, channels).
        folder: the run folder.
        paths: of all test images, where they are files.
        notes: what else `report.json` has to say of the metrics.
    """
    names = evaluation.class_names
    table = {
        **evaluation.metrics,
        **(notes or {}),
        "per_class": evaluation.per_class,
        "calibration": [b._asdict() for b in evaluation.bins],
        "worst_mistakes": [_mistake(evaluation, i, paths) for i in evaluation.worst],
        "likely_wrong_labels": [
            _mistake(evaluation, i, paths) for i in evaluation.suspects
        ],
    }
    files.write_json(folder / REPORT, table)
    plots.draw_confusion(
        evaluation.labels, evaluation.predictions, names, folder / CONFUSION
    )
    mistakes = [
        plots.Mistake(
            image,
            names[evaluation.labels[i]],
            names[evaluation.predictions[i]],
            float(evaluation.confidences[i]),
        )
        for i, image in zip(evaluation.worst, images, strict=True)
    ]
    plots.draw_mistakes(mistakes, folder / MISTAKES)
    plots.draw_calibration(
        evaluation.bins, evaluation.metrics["calibration_error"], folder / CALIBRATION
    )


def _mistake(evaluation: Evaluation, i: int, paths: Sequence[str]) -> dict[str, Any]:
    """What an image is, and what it was taken for."""
    names = evaluation.class_names
    return {
        "image": int(i),
        **({"file": paths[i]} if paths else {}),
        "is": names[evaluation.labels[i]],
        "taken_for": names[evaluation.predictions[i]],
        "confidence": float(evaluation.confidences[i]),
    }


def write_augmented(data: Splits, path: Path) -> None:
    """Draws training images as the first epoch has them, unless that has been done."""
    if path.exists():
        return
    data.start(0)
    images, labels = next(iter(data.train.take(1).as_numpy_iterator()))
    if labels.ndim > 1:
        labels = labels.argmax(axis=-1)  # mixed: the largest share
    names = [data.class_names[label] for label in labels[: plots.SHOWN]]
    plots.draw_images(images[: plots.SHOWN], names, path)


def write_samples(data: Splits, folder: Path) -> np.ndarray:
    """Writes some test images as PNG, named by their class; returns them.

    Of other channels than 1 or 3 no file can be made that `predict` takes.
    """
    images, labels = next(data.test.unbatch().batch(SHOWN).as_numpy_iterator())
    if images.shape[-1] not in (1, 3):
        return np.asarray(images)
    folder.mkdir(exist_ok=True)
    for i, (image, label) in enumerate(zip(images, labels, strict=True)):
        name = re.sub(r"[^\w.-]+", "-", data.class_names[label])
        path = folder / f"{i}-is-{name}.png"
        with files.replacing(path) as temporary:
            Image.fromarray(image.squeeze(-1) if image.shape[-1] == 1 else image).save(
                temporary
            )
    return np.asarray(images)
