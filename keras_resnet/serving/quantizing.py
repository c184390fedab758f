"""Eight-bit models: how they are calibrated, and what they lose."""

from __future__ import annotations

import functools
import logging
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from keras_resnet import statistics
from keras_resnet.errors import ExportError
from keras_resnet.heads import Head
from keras_resnet.network import target_stats_of
from keras_resnet.run import Run
from keras_resnet.serving.runtimes import Served

CALIBRATION = 300  # training images that ranges of activations are taken from
LEAST = 32
# What int8 may lose some of, by task: `Head.errors` over the images.
MEASURES = {
    "classes": "accuracy",
    "binary": "accuracy",
    "labels": "F1 of an image's labels",
    "regression": "mean error over the standard deviation",
}


def by_nncf(
    model: Any,
    examples: Sequence[Any],
    failures: tuple[type[Exception], ...] = (),
) -> tuple[Any, str | None]:
    """An ONNX or OpenVINO model with eight-bit weights, one scale a channel.

    Args:
        model: of either package.
        examples: inputs, as the model takes them.
        failures: what the model's runtime raises at graphs that NNCF has made wrong.

    Returns:
        The model, and what a user should be told of how it was made.
    """
    import nncf

    nncf.set_log_level(logging.ERROR)
    quantize = functools.partial(
        nncf.quantize, model, nncf.Dataset(examples), subset_size=len(examples)
    )
    # Layer by layer, each on what the quantized ones before it give: the fast way lost
    # 0.8 points on the digits, where this loses none.
    try:
        return quantize(fast_bias_correction=False), None
    except failures:
        return quantize(), (
            "NNCF can't correct this graph's biases layer by layer; its fast "
            "correction was used, by which more may be lost"
        )


def calibration_images(run: Run | None, images: np.ndarray | None) -> np.ndarray:
    """Training images, uint8 (at most `CALIBRATION`, height, width, channels).

    Args:
        run: whose data they are from, unchanged and in the order of its first epoch.
        images: to take instead.

    Raises:
        ExportError: too few, or not images.
        UserError: the run's data is not there.
    """
    if images is None and run is None:
        raise ExportError("images: int8 is calibrated by training images; give some")
    if images is None and run is not None:
        size = run.data["image_shape"][:2]
        batches = run.load_splits(image_size=size).train.as_numpy_iterator()
        images = _first(images for images, _ in batches)
    if images is None or images.ndim < 2 or images.dtype != np.uint8:
        raise ExportError(
            "images: int8 is calibrated by uint8 (number, height, width, channels)"
        )
    if len(images) < LEAST:
        raise ExportError(
            f"images: {len(images)} are too few to calibrate by; give {LEAST} or more"
        )
    return images[:CALIBRATION]


def _first(batches: Iterable[np.ndarray]) -> np.ndarray:
    found: list[np.ndarray] = []
    for batch in batches:
        found.append(batch)
        if sum(map(len, found)) >= CALIBRATION:
            break
    return np.concatenate(found)


def compare(
    model: Any, head: Head, served: Served, run: Run | None, images: np.ndarray
) -> dict[str, Any]:
    """What a quantized model answers otherwise than the one that it was made from.

    Args:
        model: the Keras model.
        head: how it ends.
        served: the quantized one.
        run: whose validation and test images have labels to compare with; without
            it, the answers are compared with each other on `images`.
        images: those that it was calibrated by.

    Returns:
        for each set of images: their number, what is measured of both (`MEASURES`),
        the difference in points with its 95 % interval, a loss being negative, and the
        greatest change of a probability or value.
    """
    stats = target_stats_of(model)
    scale = np.array(stats[1]) if stats else np.ones(1)
    if run is None:
        changed = _Comparison(head, scale)
        changed.add(_answers(model, head, images), served.predict(images), None)
        return {"calibration": changed.result()}
    splits = run.load_splits(image_size=run.data["image_shape"][:2])
    found = {}
    for name, batches in (("validation", splits.val), ("test", splits.test)):
        comparison = _Comparison(head, scale)
        for pixels, labels in batches.as_numpy_iterator():
            answers = _answers(model, head, pixels)
            comparison.add(answers, served.predict(pixels), labels)
        found[name] = comparison.result()
    return found


def _answers(model: Any, head: Head, images: np.ndarray) -> np.ndarray:
    return np.asarray(head.answers(model.predict_on_batch(images)))


class _Comparison:
    """Two models' answers, batch by batch.

    Args:
        head: of the first.
        scale: of each value of a regression, its standard deviation.
    """

    def __init__(self, head: Head, scale: np.ndarray) -> None:
        self.head, self.scale = head, scale
        self.errors: tuple[list[float], list[float]] = ([], [])
        self.apart: list[float] = []
        self.greatest = 0.0

    def add(
        self, before: np.ndarray, after: np.ndarray, labels: np.ndarray | None
    ) -> None:
        """Adds a batch; without labels the first model is taken as right."""
        decided = self.head.decide(before)
        labels = decided if labels is None else labels
        for errors, answers in zip(self.errors, (before, after), strict=True):
            errors.extend(self.head.errors(answers, labels, self.scale))
        self.apart.extend(self.head.errors(after, decided, self.scale))
        self.greatest = max(self.greatest, float(np.abs(before - after).max()))

    def result(self) -> dict[str, Any]:
        """As `compare` returns it."""
        before, after = self.errors
        difference = statistics.t_test(before, after, paired=True)
        values = self.head.task == "regression"
        agreement = {} if values else {"agreement": 1 - float(np.mean(self.apart))}
        return {
            "images": len(self.apart),
            "measure": MEASURES[str(self.head.task)],
            "float32": float(np.mean(before) if values else 1 - np.mean(before)),
            "int8": float(np.mean(after) if values else 1 - np.mean(after)),
            "difference_points": 100 * difference.mean,
            "interval_points": [100 * difference.low, 100 * difference.high],
            **agreement,
            "greatest_change": self.greatest,
        }


def check_loss(found: dict[str, Any], limit: float) -> None:
    """Refuses a model that loses too much on validation images.

    Raises:
        ExportError: more than `limit` points.
    """
    name = "validation" if "validation" in found else "calibration"
    lost = -found[name]["difference_points"]
    if lost > limit:
        raise ExportError(
            f"quantize: int8 loses {lost:.2f} points of {found[name]['measure']} on "
            f"{name} images, "
            f"more than {limit:g}; it is not published (force keeps it)"
        )
