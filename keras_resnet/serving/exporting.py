"""A model or a run -> a version in a folder of exports, in one or several formats."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import importlib
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_resnet import files
from keras_resnet.data.image_files import CENTRAL, MAX_GIF, MAX_PIXELS
from keras_resnet.errors import ExportError, ExportWarning, UserError, one_line
from keras_resnet.folding import fold_batch_norm
from keras_resnet.heads import Head, head_of, is_guessed
from keras_resnet.limits import LimitError, check_names
from keras_resnet.network import pixel_stats_of
from keras_resnet.run import EXPORT, Run
from keras_resnet.serving import (
    check,
    graph,
    locking,
    quantizing,
    runtimes,
    saved_model,
    server,
)
from keras_resnet.serving.silence import silenced
from keras_resnet.version import __version__


@dataclasses.dataclass(frozen=True)
class Source:
    """What is exported.

    Attributes:
        model: from images to one output.
        head: what that is.
        names: a name for each class.
        about: more for the description.
        samples: uint8 images to check exports by.
        run: the run that the model is of.
    """

    model: keras.Model
    head: Head
    names: list[str]
    about: Mapping[str, Any]
    samples: np.ndarray | None
    run: Run | None


def export(
    model: keras.Model | Path | str,
    path: Path | str | None = None,
    *,
    format: str = "saved_model",
    quantize: str | None = None,
    version: int | None = None,
    fold: bool = True,
    class_names: Sequence[str] | None = None,
    task: str | None = None,
    about: Mapping[str, Any] | None = None,
    samples: np.ndarray | None = None,
    images: np.ndarray | None = None,
    limit: float = 1.0,
    force: bool = False,
    check: bool = True,
    unfinished: bool = False,
) -> Path:
    """Writes a model as a version of an export, whole or not at all.

    All formats take raw uint8 images (batch, height, width, channels), any number of
    them, and give float32 `probabilities` (batch, classes), or a regression's
    `values`. "litert", "onnx" and "openvino" are one file each (OpenVINO's has its
    weights beside it), in `path/FORMAT/VERSION/`, that says itself what its classes
    and sizes are.

    A "saved_model", in `path/VERSION/`, has four signatures, each for any number of
    images up to the limit in `model.json`:

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
        format: "saved_model", "litert", "onnx" or "openvino".
        quantize: "int8": weights and activations, after the training, by its images;
            "float16": weights, of LiteRT and OpenVINO. None leaves float32.
        version: a positive integer; the next that is free in all formats if None.
        fold: whether batch norms go into convolutions (`surgery.fold_batch_norm`).
        class_names: a name for each class; of a run they are known. One logit or
            sigmoid has two classes, its own the second.
        task: "classes", "binary", "labels" or "regression", where the model's loss
            doesn't say what its outputs are of. A "regression" is served as `values`,
            float32 (batch, units), in place of `probabilities` and `classes`; its
            `labels` are their names. Of a run its recipe says it.
        about: more for `model.json`, such as metrics or a licence.
        samples: uint8 images to check the export by; of a run its samples.
        images: uint8 training images to calibrate int8 by; of a run they are known.
        limit: points of accuracy that int8 may lose on the run's validation images.
        force: whether it is kept if it loses more.
        check: whether the export is run by its own runtime (a SavedModel in a process
            without Keras) and compared with the model before it is published.
        unfinished: whether a run is exported that hasn't ended.

    Returns:
        The version's folder.

    Raises:
        UserError: no such run; the model gives neither logits nor probabilities, or
            one number that may be a logit or a value; the version exists or isn't
            one; names and classes don't match; a format or a package is missing, or
            can't hold the model; the export does not compute what the model does, or
            int8 loses too much.
    """
    runtimes.check_formats([format], quantize)
    source = find(model, class_names, task, about, samples, unfinished=unfinished)
    [found] = write(
        source,
        _folder(path, source.run),
        [format],
        Options(quantize, version, fold, images, limit, force, check),
    )
    return found


@dataclasses.dataclass(frozen=True)
class Options:
    """How to export; see `export`."""

    quantize: str | None = None
    version: int | None = None
    fold: bool = True
    images: np.ndarray | None = None
    limit: float = 1.0
    force: bool = False
    check: bool = True


def find(
    model: keras.Model | Path | str,
    class_names: Sequence[str] | None = None,
    task: str | None = None,
    about: Mapping[str, Any] | None = None,
    samples: np.ndarray | None = None,
    *,
    unfinished: bool = False,
) -> Source:
    """What is exported of a model or a run folder; see `export`.

    Raises:
        UserError: no such run or an unfinished one, no head or names that can be
            served.
    """
    run = None
    about = dict(about or {})
    if not isinstance(model, keras.Model):
        run = Run(model)
        run.check_trained()
        if not unfinished:
            server.check_ended(run)
        model = run.load_model(at_test_size=True)
        class_names = run.data["class_names"] if class_names is None else class_names
        samples = run.read_samples() if samples is None else samples
        about = run.describe() | about
        task = run.recipe.task if task is None else task
    head = head_of(model, task)
    if head.task is None:
        ending = {
            "logits": "one number, a logit or a value",
            "sigmoid": "sigmoids, but its loss is of values",
        }[head.kind]
        other = "labels" if head.units > 1 else "binary"
        raise ExportError(
            f"model: {model.name} ends in {ending}; say task={other!r} or "
            "task='regression'"
        )
    _check_layout(model)
    if task is None and run is None and is_guessed(model, head):
        warnings.warn(
            f"model: {model.name}'s loss doesn't say what its {head.units} outputs are "
            "of; they are served as logits of classes, unless task says otherwise",
            ExportWarning,
            stacklevel=3,
        )
    if not all(hasattr(end, "shape") for end in (model.input, model.output)):
        # In a dictionary or a list.
        model = keras.Model(model.inputs[0], model.outputs[0], name=model.name)
    names = _checked_names(class_names, head.classes)
    return Source(model, head, names, about, samples, run)


def _check_layout(model: keras.Model) -> None:
    """Refuses a model that takes its channels first: all formats have them last.

    Raises:
        ExportError: it does.
    """
    for layer in model.layers:
        layout = getattr(layer, "data_format", None)
        if layout == "channels_last" or isinstance(layer, _TURNING):
            return
        if layout == "channels_first":
            raise ExportError(
                f"model: {model.name} takes images with their channels first; put "
                "keras.layers.Permute((3, 1, 2)) before it"
            )


_TURNING = (keras.layers.Permute, keras.layers.Reshape)


def _folder(path: Path | str | None, run: Run | None) -> Path:
    if path is None and run is None:
        raise ExportError("path: none is given; name the model's folder")
    return run.folder / EXPORT if path is None and run else Path(path or "")


def write(
    source: Source, path: Path | None, formats: Sequence[str], options: Options
) -> list[Path]:
    """Writes a version in all of the formats, or in none.

    Args:
        source: what.
        path: the model's folder; of a run its `export/` if None.
        formats: names that `runtimes.check_formats` has seen.
        options: how.

    Returns:
        The version's folder of each format.

    Raises:
        UserError: see `export`.
    """
    path = _folder(path, source.run)
    server.free_version(path, options.version)
    if "saved_model" in formats:
        server.labels_of(path)  # or else it would be found damaged at the end
    images = None
    if options.quantize == "int8":
        images = quantizing.calibration_images(source.run, options.images)
    small = fold_batch_norm(source.model) if options.fold else source.model
    places = [runtimes.folder_of(path, name, 0).parent for name in formats]
    with locking.writing(path, places), contextlib.ExitStack() as stack:
        version = server.free_version(path, options.version)
        about = _describe(source, version, options)
        targets = [place / str(version) for place in places]
        for name, target in zip(formats, targets, strict=True):
            temporary = stack.enter_context(files.replacing(target))
            try:
                if name == "saved_model":
                    _write_saved_model(source, small, about, temporary, path, options)
                else:
                    temporary.mkdir()
                    _write_file(source, small, about, temporary, name, images, options)
            except UserError as error:
                if len(formats) == 1:
                    raise
                raise ExportError(
                    f"{error}; none of {', '.join(formats)} was written"
                ) from None
        stack.close()  # all are renamed, or none
        if "saved_model" in formats:
            server.configure(path)
    return targets


def _write_saved_model(
    source: Source,
    small: keras.Model,
    about: dict[str, Any],
    folder: Path,
    path: Path,
    options: Options,
) -> None:
    name = server.name_of(path)
    signatures = saved_model.write(folder, small, source.head, about, name)
    _add_hash(folder, runtimes.MODEL)
    if options.check:
        result = check.check_export(
            folder, source.model, source.head, source.samples, signatures
        )
        files.write_json(folder / runtimes.CHECK, result)


def _write_file(
    source: Source,
    small: keras.Model,
    about: dict[str, Any],
    folder: Path,
    name: str,
    images: np.ndarray | None,
    options: Options,
) -> None:
    """A format of one file, its description and its check."""
    row = runtimes.FORMATS[name]
    about = {**about, "format": name, "quantize": options.quantize}
    module = graph.portable(small, source.head)
    writer = importlib.import_module(f"keras_resnet.serving.{row.module}")
    try:
        with silenced():
            note = writer.write(
                folder / row.file, module, about, options.quantize, images
            )
    except (OSError, UserError):
        raise
    except Exception as error:  # whatever a converter raises
        raise ExportError(
            f"format: {source.model.name} can't be written as {name}"
            f"{f' ({options.quantize})' * bool(options.quantize)}: {one_line(error)}"
        ) from None
    if note:
        warnings.warn(f"quantize: {name}: {note}", ExportWarning, stacklevel=2)
    (folder / "labels.txt").write_text("".join(f"{n}\n" for n in source.names), "utf-8")
    files.write_json(folder / "model.json", about)
    _add_hash(folder, Path("model.json"))
    if not options.check:
        return
    try:
        served = runtimes.load(folder)
    except ExportError as error:
        reason = str(error).partition(f"{folder}: ")[2] or error
        raise ExportError(
            f"format: {source.model.name} as {name} can't be loaded by what serves it: "
            f"{reason}"
        ) from None
    found = check.check_file(
        served, source.model, source.head, source.samples, options.quantize
    )
    if images is not None:
        found |= quantizing.compare(
            source.model, source.head, served, source.run, images
        ) | {"calibration_images": len(images), "limit_points": options.limit}
        if not options.force:
            quantizing.check_loss(found, options.limit)
    files.write_json(folder / "check.json", found | {"bytes": _size(folder)})


def _size(folder: Path) -> int:
    """Bytes of a version's files."""
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


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
    try:
        check_names(found)
    except LimitError as error:
        raise ExportError(f"class_names: {error}") from None
    if len(found) != classes:
        raise ExportError(f"class_names: {len(found)} names for {classes} classes")
    return found


def _describe(source: Source, version: int, options: Options) -> dict[str, Any]:
    """What `model.json` says of a model."""
    model, head = source.model, source.head
    spec = getattr(model, "spec", None)
    stats = pixel_stats_of(model)
    return {
        "schema": 1,
        "model": model.name,
        "version": version,
        "spec": spec and spec.to_dict(),
        "image_shape": list(model.input_shape[1:]),
        "classes": head.classes,
        "labels": source.names,
        "task": head.task,
        "licence": None,
        "max_batch": graph.largest_batch(model),
        "batch_norms_folded": options.fold,
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
        "weights": weights_digest(model),
        **source.about,
    }


def weights_digest(model: keras.Model) -> str:
    """SHA-256 of a model's weights, whatever their order."""
    digests = sorted(
        hashlib.sha256(str(array.shape).encode() + array.tobytes()).digest()
        for array in map(np.asarray, model.get_weights())
        if array.dtype.kind == "f"
    )
    return f"sha256:{hashlib.sha256(b''.join(digests)).hexdigest()}"


def _add_hash(folder: Path, description: Path) -> None:
    """Notes the SHA-256 of all that was written so far, but for the description.

    And for TensorFlow's fingerprint, which has a random number: that of equal models
    is equal.
    """
    total = hashlib.sha256()
    for file in sorted(folder.rglob("*")):
        if file.is_file() and file.name not in (description.name, "fingerprint.pb"):
            with file.open("rb") as opened:
                total.update(hashlib.file_digest(opened, "sha256").digest())
    about = files.read_json(folder / description)
    about["hash"] = f"sha256:{total.hexdigest()}"
    files.write_json(folder / description, about)
