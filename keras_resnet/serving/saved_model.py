"""A model as a SavedModel that TF Serving takes as it is."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from keras_resnet import files
from keras_resnet.data.image_files import CENTRAL, MAX_GIF, MAX_PIXELS
from keras_resnet.errors import ExportError, one_line
from keras_resnet.folding import fold_batch_norm
from keras_resnet.heads import Head, head_of
from keras_resnet.network import pixel_stats_of
from keras_resnet.run import EXPORT, Run
from keras_resnet.serving import graph, server, warmup
from keras_resnet.serving.check import CHECK, check_export
from keras_resnet.version import __version__

LABELS = Path("assets") / "labels.txt"
MODEL = Path("assets") / "model.json"


def export(
    model: keras.Model | Path | str,
    path: Path | str | None = None,
    *,
    version: int | None = None,
    fold: bool = True,
    class_names: Sequence[str] | None = None,
    task: str | None = None,
    about: Mapping[str, Any] | None = None,
    samples: np.ndarray | None = None,
    check: bool = True,
    unfinished: bool = False,
) -> Path:
    """Writes a SavedModel as `path/<version>/`, whole or not at all.

    Signatures, each for any number of images up to the limit in `model.json`:

    - `serving_default`: `images`, uint8 (batch, height, width, channels) ->
      `probabilities`, float32 (batch, classes), `classes`, int64 (batch,), and
      `labels`, the names of the likeliest five, strings (batch, 5);
    - `serving_float`: the same from float32 pixels, 0 to 255;
    - `image_bytes`: the same from `image_bytes`, strings (batch,): JPEG, PNG, GIF or
      BMP of any size, cropped and resized as in evaluation. Not of models whose size
      is open, or of other than 1 or 3 channels;
    - `features`: `images` as the first -> `features`, float32 (batch, width), what
      the classifier sees. Not of models that hold the classifier in another model.

    Beside it are `assets/labels.txt`, `assets/model.json`, requests with which TF
    Serving warms up, and in `path/server/` configuration for it.

    Args:
        model: from images to logits or probabilities, whatever it ends in
            (`heads.head_of`); or a run folder, of which it is the best model.
        path: the model's folder, that TF Serving watches; of a run its `export/`.
        version: a positive integer; the next free one if None.
        fold: whether batch norms go into convolutions (`surgery.fold_batch_norm`).
        class_names: a name for each class; of a run they are known. One logit or
            sigmoid has two classes, its own the second.
        task: "classes", "binary", "labels" or "regression", where the model's loss
            doesn't say what its outputs are of. A "regression" is served as `values`,
            float32 (batch, units), in place of `probabilities`, `classes`, `labels`.
        about: more for `model.json`, such as metrics.
        samples: uint8 images to check the export by; of a run its samples.
        check: whether the export is loaded in a process without Keras and compared
            with the model before it is published.
        unfinished: whether a run is exported that hasn't ended.

    Returns:
        The version's folder.

    Raises:
        UserError: no such run; the model gives neither logits nor probabilities, or
            one number that may be a logit or a value; the version exists or isn't
            one; names and classes don't match; the export does not compute what the
            model does.
    """
    if not isinstance(model, keras.Model):
        run = Run(model)
        run.check_trained()
        if not unfinished and (progress := run.unfinished):
            raise ExportError(
                f"run: {run.folder} is unfinished, at {progress}; let it end, or "
                "export its best model so far by unfinished=True (--unfinished)"
            )
        model = run.load_model(at_test_size=True)
        class_names = run.data["class_names"] if class_names is None else class_names
        samples = run.read_samples() if samples is None else samples
        about = run.describe() | dict(about or {})
        path = run.folder / EXPORT if path is None else path
    if path is None:
        raise ExportError("path: none is given; name the model's folder")
    path = Path(path)
    head = head_of(model, task)
    if head.task is None:
        raise ExportError(
            f"model: {model.name} ends in one number, a logit or a value; say "
            "task='binary' or task='regression'"
        )
    names = _checked_names(class_names, head.classes)
    version = _free(path, version)
    small = fold_batch_norm(model) if fold else model
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ExportError(f"path: can't write to {path}: {error.strerror}") from None
    target = path / str(version)
    with files.replacing(target) as temporary:
        module = tf.Module()
        signatures = graph.make_signatures(module, small, head, names)
        tf.saved_model.save(module, str(temporary), signatures=signatures)
        described = {
            **_describe(model, head, version, fold),
            "signatures": read_signatures(temporary),
            "hash": _hash(temporary),
            **(about or {}),
        }
        (temporary / MODEL).parent.mkdir(exist_ok=True)
        (temporary / LABELS).write_text("".join(f"{name}\n" for name in names))
        files.write_json(temporary / MODEL, described)
        warmup.write_requests(temporary, described, server.name_of(path))
        if check:
            result = check_export(
                temporary, model, head, samples, described["signatures"]
            )
            files.write_json(temporary / CHECK, result)
    server.configure(path)
    return target


def _checked_names(names: Any, classes: int) -> list[str]:
    """A name for each class, by default its number."""
    if names is None:
        return [str(i) for i in range(classes)]
    if isinstance(names, str | Mapping):
        raise ExportError(f"class_names: {names!r} is not a list of names")
    found: list[str] = list(names)
    for name in found:
        if not isinstance(name, str):
            raise ExportError(f"class_names: {name!r} is not a string")
        if "\n" in name or "\r" in name:  # labels.txt has one on each line
            raise ExportError(f"class_names: {name!r} has a line break")
    if len(found) != classes:
        raise ExportError(f"class_names: {len(found)} names for {classes} classes")
    return found


def _free(path: Path, version: int | None) -> int:
    """The version, if it can be written."""
    existing = server.versions(path)
    if version is None:
        version = max(existing, default=0) + 1
    if type(version) is not int or version < 1:
        raise ExportError(f"version: {version!r} is not a positive integer")
    if version in existing:
        raise ExportError(f"version: {path / str(version)} exists; name a higher one")
    return version


def _describe(
    model: keras.Model, head: Head, version: int, fold: bool
) -> dict[str, Any]:
    """What `model.json` says of a model."""
    spec = getattr(model, "spec", None)
    stats = pixel_stats_of(model)
    return {
        "schema": 1,
        "model": model.name,
        "version": version,
        "spec": spec and spec.to_dict(),
        "image_shape": list(model.input_shape[1:]),
        "classes": head.classes,
        "task": head.task,
        "max_batch": graph.largest_batch(model),
        "batch_norms_folded": fold,
        "preprocessing": {
            "pixels": "0 to 255, channels last",
            "normalization": stats and {"mean": stats[0], "std": stats[1]},
            "image_bytes": {
                "crop": f"the middle, {CENTRAL} of the shorter side",
                "resize": "bilinear, antialiased",
                "transparency": "on white",
                "orientation": "as stored: a camera's note is not followed",
                "max_pixels": MAX_PIXELS,
                "max_gif_bytes": MAX_GIF,
            },
        },
        "versions": {
            "keras": keras.__version__,
            "keras-residual": __version__,
            "tensorflow": tf.__version__,
        },
    }


def _hash(path: Path) -> str:
    """SHA-256 of the graph and weights."""
    total = hashlib.sha256()
    files = [path / "saved_model.pb", *sorted((path / "variables").glob("*"))]
    for file in files:
        with file.open("rb") as opened:
            total.update(hashlib.file_digest(opened, "sha256").digest())
    return f"sha256:{total.hexdigest()}"


def read_signatures(path: Path) -> dict[str, dict[str, dict[str, str]]]:
    """Inputs and outputs of a SavedModel's signatures, with their tensors.

    Raises:
        ExportError: the graph holds what some servers can't run.
    """
    from tensorflow.core.protobuf import saved_model_pb2

    saved = saved_model_pb2.SavedModel.FromString(
        (path / "saved_model.pb").read_bytes()
    )
    [meta] = saved.meta_graphs
    for function in meta.graph_def.library.function:
        if function.attr["_XlaMustCompile"].b:
            raise ExportError(
                f"model: {function.signature.name} must be compiled by XLA, which TF "
                "Serving may not have; export with fold=True, or build it of "
                "keras_resnet's layers"
            )

    def tensors(infos: Mapping[str, Any]) -> dict[str, str]:
        return {name: infos[name].name for name in sorted(infos)}

    return {
        name: {"inputs": tensors(each.inputs), "outputs": tensors(each.outputs)}
        for name, each in sorted(meta.signature_def.items())
        if not name.startswith("__")
    }


def describe(path: Path | str) -> dict[str, Any]:
    """What a version's `model.json` says.

    Raises:
        ExportError: there is none.
    """
    try:
        found = json.loads((Path(path) / MODEL).read_text())
    except (OSError, ValueError) as error:
        raise ExportError(f"model: can't read {Path(path) / MODEL}: {error}") from None
    if not isinstance(found, dict):
        raise ExportError(f"model: {Path(path) / MODEL} is not an object")
    return found


class Served(NamedTuple):
    """A SavedModel as TF Serving would answer with it.

    Attributes:
        predict: uint8 images (batch, height, width, channels) -> float32
            probabilities (batch, classes), or a regression's values.
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
        outputs = signature.structured_outputs
        answer = "values" if "values" in outputs else "probabilities"
        classes = outputs[answer].shape[-1]
    except (OSError, KeyError, ValueError) as error:
        reason = one_line(error)
        raise ExportError(f"model: can't load {path}: {reason}") from None

    def predict(batch: np.ndarray) -> np.ndarray:
        # Through `loaded`: its signatures live only as long as it does.
        outputs = loaded.signatures["serving_default"](images=tf.constant(batch))
        return np.asarray(outputs[answer])

    labels = path / LABELS
    names = list(map(str, range(classes)))
    if labels.is_file():
        names = labels.read_text().removesuffix("\n").split("\n")
    if len(names) != classes:
        raise ExportError(
            f"model: {labels} has {len(names)} names for {classes} classes"
        )
    return Served(predict, tuple(images.shape[1:]), tuple(names))
