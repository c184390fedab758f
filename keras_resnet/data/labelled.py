"""Other labelled images, to test a classifier on that was trained on some."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from keras_resnet.data.decoding import Shape
from keras_resnet.data.folder_layout import some
from keras_resnet.data.images import DataError, Images
from keras_resnet.data.memory import resize
from keras_resnet.data.options import Options, free_memory
from keras_resnet.data.pipeline import evaluation_batches
from keras_resnet.data.sources import read
from keras_resnet.data.splits import common, digests


class Labelled(NamedTuple):
    """Images and labels to test on.

    Attributes:
        batches: a `tf.data.Dataset` of (images, labels), as `Splits.test`.
        images: how many.
        known: how many are left out, for they were trained on.
    """

    batches: Any
    images: int
    known: int


def load_labelled(
    source: Any,
    class_names: Sequence[str],
    shape: Shape,
    *,
    trained_on: np.ndarray | None = None,
    batch_size: int = 128,
    data_dir: Path | str | None = None,
    task: str = "classes",
    label_columns: Sequence[str] | None = None,
) -> Labelled:
    """A source's test split or, where it has none, all of its images.

    Args:
        source: as `load` has it.
        class_names: of the classifier; the source's are found among them, in any order,
            and need not be all. Of a regression all numbers must be there.
        shape: height, width and channels of the batches.
        trained_on: digests of images that are left out.
        batch_size: images a batch.
        data_dir: as `load` has it.
        task: as `load` has it.
        label_columns: as `load` has it.

    Raises:
        DataError: no such source, a class that the classifier doesn't know, images of
            other channels, a stream, or none that is left.
    """
    directory = Path(data_dir).expanduser().absolute() if data_dir else None
    options = Options(
        data_dir=directory,
        memory=free_memory() // 4,
        task=task,
        label_columns=None if label_columns is None else tuple(label_columns),
    )
    found = read(source, options)
    counts = Counter(class_names)
    unknown = [name for name in found.class_names if name not in counts]
    if unknown:
        raise DataError(
            f"data: {some(map(repr, unknown))} is no class of the model, which knows "
            f"{some(map(repr, class_names))}; rename the classes of the data"
        )
    if several := [name for name in found.class_names if counts[name] > 1]:
        raise DataError(
            f"data: {some(map(repr, several))} names several classes of the model; "
            "which of them the images are of can't be told"
        )
    missing = [name for name in class_names if name not in found.class_names]
    if missing and task == "regression":
        raise DataError(f"data: {some(missing)} is missing, which the model gives too")
    parts = [found.test] if found.test else [found.train, found.val]
    places = np.array([list(class_names).index(name) for name in found.class_names])
    kept, known = [], 0
    for images in parts:
        if images is None:
            continue
        if not isinstance(images, Images):
            raise DataError(
                "data: it doesn't fit into memory as it is encoded, and a stream can't "
                "be searched for what was trained on; take a part"
            )
        if not images.encoded and images.pixels.shape[-1] != shape[-1]:  # type: ignore[union-attr]
            raise DataError(
                f"data: images of {images.pixels.shape[-1]} channels, but the model "  # type: ignore[union-attr]
                f"takes {shape[-1]}"
            )
        own = digests({"": images})[""]
        new = np.ones(len(own), bool)
        if trained_on is not None:
            new = ~common(own, trained_on)
        known += int((~new).sum())
        chosen = images.take(np.flatnonzero(new))
        kept.append(Images(chosen.pixels, _placed(chosen.labels, places, class_names)))
    count = sum(images.count for images in kept)
    if not count:
        raise DataError(f"data: all {known} images are among those that it learnt from")
    batches = [
        evaluation_batches(
            images if images.encoded else resize(images, shape),
            shape=shape,
            batch_size=batch_size,
        )
        for images in kept
        if images.count
    ]
    joined = batches[0]
    for more in batches[1:]:
        joined = joined.concatenate(more)
    return Labelled(joined, count, known)


def _placed(
    labels: np.ndarray, places: np.ndarray, class_names: Sequence[str]
) -> np.ndarray:
    """Labels in the classifier's order; those that the source doesn't name are 0."""
    if labels.ndim == 1:
        return np.asarray(places[labels])
    found = np.zeros((len(labels), len(class_names)), labels.dtype)
    found[:, places] = labels
    return found
