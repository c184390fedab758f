"""A SavedModel: what TF Serving takes as it is."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args

import keras
import numpy as np
import tensorflow as tf

from keras_resnet import files, limits
from keras_resnet.errors import ExportError, RunFolderError, one_line
from keras_resnet.heads import Head
from keras_resnet.serving import graph, warmup
from keras_resnet.serving.runtimes import LABELS, MODEL, Served
from keras_resnet.tasks import Task


def write(
    folder: Path, model: keras.Model, head: Head, about: Mapping[str, Any], name: str
) -> dict[str, Any]:
    """Writes signatures, labels, description and warm-up requests.

    Args:
        folder: the version's, that is made.
        model: from images to one output.
        head: what that is.
        about: its description, with its labels.
        name: by which it is served.

    Returns:
        The signatures, with their tensors.

    Raises:
        ExportError: the graph holds what some servers can't run.
    """
    module = tf.Module()
    functions = graph.make_signatures(module, model, head, about["labels"])
    tf.saved_model.save(module, str(folder), signatures=functions)
    (folder / MODEL).parent.mkdir(exist_ok=True)
    (folder / LABELS).write_text(
        "".join(f"{name}\n" for name in about["labels"]), "utf-8"
    )
    signatures = read_signatures(folder)
    described = {**about, "signatures": signatures}
    files.write_json(folder / MODEL, described)
    warmup.write_requests(folder, described, name)
    return signatures


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
        names = limits.read_text(labels).removesuffix("\n").split("\n")
    if len(names) != classes:
        raise ExportError(
            f"model: {labels} has {len(names)} names for {classes} classes"
        )
    try:
        limits.check_names(names)
    except limits.LimitError as error:
        raise ExportError(f"model: {labels}: {error}") from None
    return Served(
        predict, tuple(images.shape[1:]), tuple(names), _task_of(path, answer)
    )


def _task_of(path: Path, answer: str) -> str:
    """As it is described; exports of older versions are of classes."""
    try:
        task = files.read_json(path / MODEL).get("task", "classes")
    except RunFolderError:
        return "regression" if answer == "values" else "classes"
    if task not in get_args(Task):
        raise ExportError(f"model: {path / MODEL}: task: {task!r} is none")
    return str(task)
