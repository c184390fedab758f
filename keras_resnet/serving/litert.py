"""LiteRT (once TensorFlow Lite): a file that runs on phones."""

from __future__ import annotations

import json
import os
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from keras_resnet.serving import runtimes

_MODEL, _LABELS = "model.json", "labels.txt"


def write(
    file: Path,
    module: Any,
    about: Mapping[str, Any],
    quantize: str | None,
    images: np.ndarray | None,
) -> None:
    """Writes a model, with `labels.txt` and `model.json` as associated files.

    These are appended as a ZIP archive, where the tools of LiteRT look for them.

    Args:
        file: to write.
        module: as `graph.portable` makes it.
        about: what the file says of itself.
        quantize: "float16" of the weights, "int8" of weights and activations.
        images: to calibrate "int8" by.
    """
    import tensorflow as tf

    converter = tf.lite.TFLiteConverter.from_concrete_functions(
        [module.serve.get_concrete_function()], module
    )
    if quantize:
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if quantize == "float16":
        converter.target_spec.supported_types = [tf.float16]
    if quantize == "int8" and images is not None:
        one_by_one = images[:, np.newaxis]
        converter.representative_dataset = lambda: ([image] for image in one_by_one)
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
        converter.inference_input_type = tf.uint8
    file.write_bytes(converter.convert())
    with zipfile.ZipFile(file, "a") as archive:
        archive.writestr(_LABELS, "".join(f"{name}\n" for name in about["labels"]))
        archive.writestr(_MODEL, json.dumps(about, indent=2, sort_keys=True))


def load(file: Path) -> runtimes.Served:
    """Loads a model into LiteRT's interpreter."""
    from ai_edge_litert.interpreter import Interpreter

    with zipfile.ZipFile(file) as archive:
        about = json.loads(archive.read(_MODEL))
    interpreter = Interpreter(model_path=str(file), num_threads=os.cpu_count())
    runner = interpreter.get_signature_runner("serving_default")
    answer = runtimes.answer_of(about)
    return runtimes.served_as(about, lambda images: runner(images=images)[answer])
