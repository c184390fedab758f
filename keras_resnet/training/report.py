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
    notes: Mapping[str, Any] | None = None,
) -> None:
    """Writes `FILES`: the numbers, and pictures of confusion, mistakes, calibration.

    Args:
        evaluation: of the test images.
        images: those of `evaluation.worst`, uint8 (height, width, channels).
        folder: the run folder.
        notes: what else `report.json` has to say of the metrics.
    """
    names = evaluation.class_names
    table = {
        **evaluation.metrics,
        **(notes or {}),
        "per_class": evaluation.per_class,
        "calibration": [b._asdict() for b in evaluation.bins],
        "worst_mistakes": [
            {
                "image": int(i),
                "is": names[evaluation.labels[i]],
                "taken_for": names[evaluation.predictions[i]],
                "confidence": float(evaluation.confidences[i]),
            }
            for i in evaluation.worst
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
