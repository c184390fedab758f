"""Classes of image files, by a run or a SavedModel."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from keras_resnet import runfolder, serving
from keras_resnet.data.files import read_image

Ranking = list[tuple[str, float]]
BATCH = 64


def predict_files(
    model: Path | str, images: Iterable[Path | str]
) -> list[tuple[Path, Ranking]]:
    """Classes of image files with their probabilities, the likeliest first.

    Args:
        model: a run folder, or a SavedModel's version folder.
        images: image files; resized to the model's size.

    Raises:
        UserError: not a model, or not an image.
    """
    model = Path(model)
    paths = [Path(path) for path in images]
    probabilities_of, shape, names = (
        _saved_model(model) if serving.is_saved_model(model) else _run(model)
    )
    arrays = [read_image(path, shape) for path in paths]
    rankings: list[tuple[Path, Ranking]] = []
    for start in range(0, len(paths), BATCH):
        batch = np.stack(arrays[start : start + BATCH])
        for path, row in zip(paths[start:], probabilities_of(batch), strict=False):
            order = np.argsort(-row, kind="stable")
            rankings.append((path, [(names[i], float(row[i])) for i in order]))
    return rankings


def _run(folder: Path) -> tuple[Any, Any, list[str]]:
    import keras

    runfolder.check_trained(folder)
    described = runfolder.read_json(folder / runfolder.DATA)
    model = keras.models.load_model(folder / runfolder.BEST)

    def probabilities_of(batch: np.ndarray) -> np.ndarray:
        logits = model.predict_on_batch(batch)
        return np.asarray(keras.ops.softmax(logits))

    return probabilities_of, described["image_shape"], described["class_names"]


def _saved_model(folder: Path) -> tuple[Any, Any, list[str]]:
    signature, names = serving.load_signature(folder)
    images = signature.structured_input_signature[1]["images"]
    classes = signature.structured_outputs["probabilities"].shape[-1]

    def probabilities_of(batch: np.ndarray) -> np.ndarray:
        return np.asarray(signature(images=batch)["probabilities"])

    return (
        probabilities_of,
        tuple(images.shape[1:]),
        names or [str(i) for i in range(classes)],
    )
