"""A model as a SavedModel that TF Serving takes as it is."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf

from keras_resnet import runfolder
from keras_resnet.errors import UserError

LABELS = Path("assets") / "labels.txt"


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
        ExportError: the version exists or isn't one, or names and classes don't match.
    """
    path = Path(path)
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
        _write(model, temporary)
        if class_names is not None:
            (temporary / LABELS).parent.mkdir(exist_ok=True)
            (temporary / LABELS).write_text(
                "".join(f"{name}\n" for name in class_names)
            )
    return target


def _write(model: keras.Model, path: Path) -> None:
    last = getattr(model.layers[-1], "activation", None)
    ends_in_softmax = last is keras.activations.softmax

    def serve(images: Any) -> dict[str, Any]:
        outputs = model(tf.cast(images, tf.float32), training=False)
        probabilities = outputs if ends_in_softmax else tf.nn.softmax(outputs)
        return {
            "probabilities": probabilities,
            "classes": tf.argmax(probabilities, axis=-1),
        }

    archive = keras.export.ExportArchive()
    archive.track(model)
    images = tf.TensorSpec((None, *model.input_shape[1:]), tf.uint8, name="images")
    archive.add_endpoint("serving_default", serve, input_signature=[images])
    archive.write_out(str(path), verbose=False)


def is_saved_model(path: Path) -> bool:
    """Whether `path` is a SavedModel's folder."""
    return (path / "saved_model.pb").is_file()


def load_signature(path: Path) -> tuple[Any, list[str] | None]:
    """The `serving_default` function of a SavedModel, and its class names.

    Raises:
        ExportError: not a SavedModel with that signature.
    """
    try:
        loaded = tf.saved_model.load(str(path))
        signature = loaded.signatures["serving_default"]
    except (OSError, KeyError, ValueError) as error:
        raise ExportError(f"model: can't load {path}: {error}") from None
    # A signature lives only as long as the object it came from.
    signature.keep_alive = loaded
    labels = path / LABELS
    return signature, labels.read_text().splitlines() if labels.is_file() else None
