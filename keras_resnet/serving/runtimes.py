"""The formats that models are exported in, and what runs each of them."""

from __future__ import annotations

import importlib
import importlib.util
import json
import zipfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from keras_resnet.errors import ExportError, one_line
from keras_resnet.files import read_json
from keras_resnet.limits import check_names, read_text
from keras_resnet.serving.silence import silenced


class Format(NamedTuple):
    """How a format is written, run and served.

    Attributes:
        file: its name in a version's folder.
        module: of this package, that writes and loads it.
        packages: that this needs, by the names that they are imported by.
        quantize: the types that weights can be made smaller by.
        server: what serves it.
    """

    file: str
    module: str
    packages: tuple[str, ...]
    quantize: tuple[str, ...]
    server: str


FORMATS = {
    "saved_model": Format("saved_model.pb", "saved_model", (), (), "TF Serving"),
    "litert": Format(
        "model.tflite",
        "litert",
        ("ai_edge_litert",),
        ("int8", "float16"),
        "LiteRT, inside an app",
    ),
    "onnx": Format(
        "model.onnx",
        "onnx_graph",
        ("onnx", "onnxruntime", "tf2onnx"),
        ("int8",),
        "onnxruntime or Triton",
    ),
    "openvino": Format(
        "model.xml",
        "openvino_ir",
        ("openvino",),
        ("int8", "float16"),
        "OpenVINO Model Server",
    ),
}
LABELS = Path("assets") / "labels.txt"  # of a SavedModel
MODEL = Path("assets") / "model.json"
CHECK = Path("assets.extra") / "check.json"
_QUANTIZER = "nncf"  # of the formats that have none of their own
QUANTIZED = ("int8", "float16")


class Served(NamedTuple):
    """An exported model, in the runtime that it was written for.

    Attributes:
        predict: uint8 images (batch, height, width, channels) -> float32
            probabilities (batch, classes), or a regression's values.
        image_shape: (height, width, channels), None where open.
        class_names: a name for each class; its number where the export has none.
        task: what the answers are of, as in `heads.Head`.
    """

    predict: Callable[[np.ndarray], np.ndarray]
    image_shape: tuple[Any, ...]
    class_names: tuple[str, ...]
    task: str = "classes"


def check_formats(formats: Sequence[str], quantize: str | None) -> None:
    """Refuses formats that can't be written, before anything is loaded.

    Raises:
        ExportError: no such format, one that isn't quantized so, or a package that is
            missing.
    """
    if quantize is not None and quantize not in QUANTIZED:
        raise ExportError(
            f"quantize: {quantize!r} is not one of {', '.join(map(repr, QUANTIZED))}"
        )
    for name in formats:
        if name not in FORMATS:
            raise ExportError(
                f"format: {name!r} is not one of {', '.join(map(repr, FORMATS))}"
            )
        if quantize and quantize not in FORMATS[name].quantize:
            able = [key for key, row in FORMATS.items() if quantize in row.quantize]
            raise ExportError(
                f"quantize: {quantize} is not of {name}, but of {' and '.join(able)}"
            )
        packages = list(FORMATS[name].packages)
        if quantize == "int8" and name in ("onnx", "openvino"):
            packages.append(_QUANTIZER)
        _require(name, packages)


def _require(name: str, packages: Sequence[str]) -> None:
    missing = [each for each in packages if importlib.util.find_spec(each) is None]
    if missing:
        raise ExportError(
            f"format: {name} needs packages that are not installed: pip install "
            + " ".join(each.replace("_", "-") for each in missing)
        )


def folder_of(path: Path, name: str, version: int) -> Path:
    """Where a version in a format is."""
    return path / ("" if name == "saved_model" else name) / str(version)


def format_of(path: Path) -> str | None:
    """The format of a version's folder or of a model's file; None if it is neither."""
    for name, row in FORMATS.items():
        suffix = Path(row.file).suffix
        if (path / row.file).is_file() or (
            path.is_file() and path.suffix == suffix and name != "saved_model"
        ):
            return name
    return None


def refuse_versions(path: Path) -> None:
    """Refuses a folder of versions, where one of them is wanted.

    Raises:
        ExportError: naming the newest.
    """
    numbers = [int(each.name) for each in path.glob("*") if each.name.isdigit()]
    newest = max(numbers, default=None)
    if newest is not None and format_of(path / str(newest)):
        raise ExportError(
            f"model: {path} holds versions; name one, such as {path / str(newest)}"
        )


def look(path: Path) -> None:
    """Refuses a model's file that is no such file by its first bytes.

    Raises:
        ExportError: it is none, or damaged.
    """
    name = format_of(path)
    file = path / FORMATS[name].file if name and path.is_dir() else path
    if name not in _SOUND:
        return
    try:
        with file.open("rb") as opened:
            sound = _SOUND[name](opened.read(64)) and (
                name != "litert" or zipfile.is_zipfile(file)  # what it says of itself
            )
    except OSError as error:
        raise ExportError(f"model: can't load {path}: {error.strerror}") from None
    if not sound:
        raise ExportError(
            f"model: can't load {path}: it is damaged, or no {file.suffix} file that "
            "export wrote"
        )


_SOUND: dict[str | None, Callable[[bytes], bool]] = {
    "litert": lambda begin: begin[4:8] == b"TFL3",
    "openvino": lambda begin: begin.startswith(b"<?xml"),
}


def load(path: Path | str) -> Served:
    """Loads an export in its own runtime, without Keras.

    Args:
        path: a version's folder, or a file .tflite, .onnx or .xml, which says itself
            what its classes are.

    Raises:
        ExportError: nothing that `export` wrote, or its runtime is not installed.
    """
    path = Path(path)
    name = format_of(path)
    if name is None:
        raise ExportError(f"model: can't load {path}: it is no exported model")
    row = FORMATS[name]
    _require(name, [each for each in row.packages if each != "tf2onnx"])
    module = importlib.import_module(f"keras_resnet.serving.{row.module}")
    file = path / row.file if path.is_dir() and name != "saved_model" else path
    try:
        with silenced():
            served: Served = module.load(file)
    except ExportError:
        raise
    except Exception as error:  # whatever a runtime raises at a file that is none
        raise ExportError(f"model: can't load {path}: {one_line(error)}") from None
    return served


def served_as(
    about: Mapping[str, Any], predict: Callable[[np.ndarray], np.ndarray]
) -> Served:
    """A model that says of itself what it is.

    Raises:
        LimitError: its names are none.
    """
    labels = tuple(map(str, about["labels"]))
    check_names(labels)

    def checked(images: np.ndarray) -> np.ndarray:
        answers = predict(images)
        if answers.shape[-1] != len(labels):
            raise ExportError(
                f"model: it answers {answers.shape[-1]} numbers an image, and has "
                f"{len(labels)} names of classes"
            )
        return answers

    return Served(checked, tuple(about["image_shape"]), labels, about["task"])


def answer_of(about: Mapping[str, Any]) -> str:
    """The name of a model's output."""
    return "values" if about["task"] == "regression" else "probabilities"


def as_text(about: Mapping[str, Any]) -> dict[str, str]:
    """What a file says of itself, as most formats keep it: names and strings."""
    run = about.get("run", {})
    return {
        "keras_resnet": json.dumps(about, sort_keys=True),
        "labels": "\n".join(about["labels"]),
        "image_shape": "x".join(str(side or "?") for side in about["image_shape"]),
        "input": "uint8 pixels from 0 to 255, (batch, height, width, channels)",
        "output": f"{answer_of(about)}, float32",
        "run": str(run.get("mlflow_run") or run.get("folder") or ""),
        "licence": about.get("licence") or "not stated",
    }


def read_check(path: Path) -> dict[str, Any] | None:
    """What came of a version's check; None if it wasn't checked."""
    for file in (path / CHECK, path / CHECK.name):
        if file.exists():
            found: dict[str, Any] = read_json(file)
            return found
    return None


def describe(path: Path | str) -> dict[str, Any]:
    """What a version's `model.json` says.

    Raises:
        ExportError: there is none.
    """
    path = Path(path)
    file = path / MODEL if (path / MODEL).exists() else path / MODEL.name
    try:
        found = json.loads(read_text(file))
    except (OSError, ValueError, RecursionError) as error:
        raise ExportError(f"model: can't read {path / MODEL}: {error}") from None
    if not isinstance(found, dict):
        raise ExportError(f"model: {file} is not an object")
    return found
