"""Classes of image files, by a run or an export."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import keras
import numpy as np

from keras_resnet import serving
from keras_resnet.data.image_files import CENTRAL, read_image
from keras_resnet.errors import UserError
from keras_resnet.run import Run
from keras_resnet.serving.runtimes import format_of

Ranking = list[tuple[str, float]]
BATCH = 64


def predict_files(
    model: Path | str, images: Iterable[Path | str]
) -> list[tuple[Path, Ranking]]:
    """Classes of image files with their probabilities, the likeliest first.

    Args:
        model: a run folder, an export's version folder, or its file.
        images: image files; as in evaluation, the middle of one that isn't of the
            model's size, resized.

    Raises:
        UserError: not a model, or not an image.
    """
    path = Path(model)
    served = serving.load(path) if format_of(path) else _serve(Run(path))
    if served.task not in ("classes", "binary", "labels"):
        raise UserError(f"model: {path} gives values, not classes")
    paths = [Path(path) for path in images]
    # Images of a model without a size keep their own, and so can't share a batch.
    size = 1 if None in served.image_shape else BATCH
    rankings: list[tuple[Path, Ranking]] = []
    for start in range(0, len(paths), size):
        batch = paths[start : start + size]
        pixels = np.stack(
            [read_image(path, served.image_shape, CENTRAL) for path in batch]
        )
        for path, row in zip(batch, served.predict(pixels), strict=True):
            order = np.argsort(-row, kind="stable")
            ranking = [(served.class_names[i], float(row[i])) for i in order]
            rankings.append((path, ranking))
    return rankings


def _serve(run: Run) -> serving.Served:
    """A run's best model, in the form of a served one."""
    model, data = run.load_model(), run.data
    run.warn_unfinished()

    def predict(batch: np.ndarray) -> np.ndarray:
        return np.asarray(keras.ops.softmax(model.predict_on_batch(batch)))

    return serving.Served(
        predict, tuple(data["image_shape"]), tuple(data["class_names"])
    )
