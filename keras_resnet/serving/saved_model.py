"""A model as a SavedModel that TF Serving takes as it is."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from keras_resnet import runfolder
from keras_resnet.errors import UserError
from keras_resnet.network import ends_in_softmax

LABELS = Path("assets") / "labels.txt"

# Up to so many bytes, weights are written as constants: TensorFlow's saver takes
# minutes over the variables of a thousand layers, and constants are served faster.
# While they are written they take about twelve times their size in memory.
FROZEN_LIMIT = 2**28


class ExportError(UserError):
    """A model or folder that can't be exported or read."""


def export(
    model: keras.Model,
    path: Path | str,
    *,
    version: int | None = None,
    class_names: Sequence[str] | None = None,
) -> Path:
    """Writes a SavedModel as `path/<version>/`, whole or not at all.

    Its `serving_default` takes `images`, uint8 (batch, height, width, channels), and
    gives `probabilities`, float32 (batch, classes), and `classes`, int64 (batch,).

    Args:
        model: from images to logits or, if it ends in a softmax, probabilities.
        path: the model's folder, that TF Serving watches.
        version: a positive integer; the next free one if None.
        class_names: written beside it as `assets/labels.txt`, a line each.

    Returns:
        The version's folder.

    Raises:
        UserError: the model gives neither logits nor probabilities; the version
            exists or isn't one; names and classes don't match.
    """
    path = Path(path)
    probabilities = ends_in_softmax(model)
    classes = model.output_shape[-1]
    if class_names is not None and len(class_names) != classes:
        raise ExportError(
            f"class_names: {len(class_names)} names for {classes} classes"
        )
    existing = [
        int(entry.name) for entry in path.glob("[0-9]*") if entry.name.isdigit()
    ]
    if version is None:
        version = max(existing, default=0) + 1
    if type(version) is not int or version < 1:
        raise ExportError(f"version: {version!r} is not a positive integer")
    if version in existing:
        raise ExportError(f"version: {path / str(version)} exists; name a higher one")
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ExportError(f"path: can't write to {path}: {error.strerror}") from None
    target = path / str(version)
    with runfolder.replacing(target) as temporary:
        _write(model, temporary, probabilities)
        if class_names is not None:
            (temporary / LABELS).parent.mkdir(exist_ok=True)
            (temporary / LABELS).write_text(
                "".join(f"{name}\n" for name in class_names)
            )
    return target


def _write(model: keras.Model, path: Path, is_softmax: bool) -> None:
    module = tf.Module()
    variables = [variable.value for variable in model.variables]
    sizes = [value.shape.num_elements() * value.dtype.size for value in variables]
    frozen = sum(sizes) <= FROZEN_LIMIT
    if frozen:
        weights = [(variable, variable.numpy()) for variable in model.variables]
    else:
        module.weights = variables

    def serve(images: Any) -> dict[str, Any]:
        with keras.StatelessScope(weights) if frozen else contextlib.nullcontext():
            outputs = model(tf.cast(images, tf.float32), training=False)
        probabilities = outputs if is_softmax else tf.nn.softmax(outputs)
        return {
            "probabilities": probabilities,
            "classes": tf.argmax(probabilities, axis=-1),
        }

    images = tf.TensorSpec((None, *model.input_shape[1:]), tf.uint8, name="images")
    function = tf.function(serve, input_signature=[images], autograph=False)
    signatures = {"serving_default": function.get_concrete_function()}
    tf.saved_model.save(module, str(path), signatures=signatures)


def is_saved_model(path: Path) -> bool:
    """Whether `path` is a SavedModel's folder."""
    return (path / "saved_model.pb").is_file()


class Served(NamedTuple):
    """A SavedModel as TF Serving would answer with it.

    Attributes:
        predict: uint8 images (batch, height, width, channels) -> float32
            probabilities (batch, classes).
        image_shape: (height, width, channels), None where open.
        class_names: a name for each class; its number where the export has none.
    """

    predict: Callable[[np.ndarray], np.ndarray]
    image_shape: tuple[int | None, int | None, int]
    class_names: tuple[str, ...]


def load(path: Path | str) -> Served:
    """Loads an exported SavedModel, without Keras.

    Raises:
        ExportError: not a SavedModel that `export` wrote.
    """
    path = Path(path)
    try:
        loaded = tf.saved_model.load(str(path))
        signature = loaded.signatures["serving_default"]
        images = signature.structured_input_signature[1]["images"]
        classes = signature.structured_outputs["probabilities"].shape[-1]
    except (OSError, KeyError, ValueError) as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise ExportError(f"model: can't load {path}: {reason}") from None

    def predict(batch: np.ndarray) -> np.ndarray:
        # Through `loaded`: its signatures live only as long as it does.
        outputs = loaded.signatures["serving_default"](images=tf.constant(batch))
        return np.asarray(outputs["probabilities"])

    labels = path / LABELS
    names = list(map(str, range(classes)))
    if labels.is_file():
        names = labels.read_text().splitlines()
    if len(names) != classes:
        raise ExportError(
            f"model: {labels} has {len(names)} names for {classes} classes"
        )
    return Served(predict, tuple(images.shape[1:]), tuple(names))
