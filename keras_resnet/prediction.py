"""Classes, labels or values of image files, by a run or an export."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np

from keras_resnet import serving
from keras_resnet.data.image_files import CENTRAL, read_image
from keras_resnet.errors import UserError
from keras_resnet.heads import head_of
from keras_resnet.run import Run
from keras_resnet.serving.runtimes import format_of

Ranking = list[tuple[str, float]]
BATCH = 64


def predict_files(
    model: Path | str | serving.Served,
    images: Iterable[Path | str],
    failed: Callable[[Path, UserError], None] | None = None,
) -> list[tuple[Path, Ranking]]:
    """Classes or labels of image files with their probabilities, the likeliest first.

    Of a regression its values by their names, in their order.

    Args:
        model: a run folder, an export's version folder, its file, or what `open_model`
            made of one.
        images: image files; as in evaluation, the middle of one that isn't of the
            model's size, resized.
        failed: is told of one that can't be read; the answers are the others'.

    Raises:
        UserError: not a model, or not an image and `failed` is None.
    """
    served = open_model(model) if isinstance(model, Path | str) else model
    paths = [Path(path) for path in images]
    # Images of a model without a size keep their own, and so can't share a batch.
    size = 1 if None in served.image_shape else BATCH
    rankings: list[tuple[Path, Ranking]] = []
    for start in range(0, len(paths), size):
        read = []
        for path in paths[start : start + size]:
            try:
                read.append((path, read_image(path, served.image_shape, CENTRAL)))
            except UserError as error:
                if failed is None:
                    raise
                failed(path, error)
        if not read:
            continue
        rows = served.predict(np.stack([pixels for _, pixels in read]))
        for (path, _), row in zip(read, rows, strict=True):
            order = np.arange(len(row))
            if served.task != "regression":
                order = np.argsort(-row, kind="stable")
            ranking = [(served.class_names[i], float(row[i])) for i in order]
            rankings.append((path, ranking))
    return rankings


def open_model(path: Path | str) -> serving.Served:
    """A run's best model, or an export in its own runtime.

    Raises:
        UserError: not a model.
    """
    return serving.load(path) if format_of(Path(path)) else _serve(Run(path))


def _serve(run: Run) -> serving.Served:
    """A run's best model, in the form of a served one."""
    model, data = run.load_model(), run.data
    run.warn_unfinished()
    task = run.recipe.task
    head = head_of(model, task)

    def predict(batch: np.ndarray) -> np.ndarray:
        return np.asarray(head.answers(model.predict_on_batch(batch)))

    return serving.Served(
        predict, tuple(data["image_shape"]), tuple(data["class_names"]), task
    )
