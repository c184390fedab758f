"""OpenVINO's format: a graph, model.xml, and its weights, model.bin."""

from __future__ import annotations

import errno
import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from keras_resnet.errors import one_line
from keras_resnet.serving import runtimes

_SECTION = "model_info"  # where OpenVINO's tools look for what a model says of itself


def write(
    file: Path,
    module: Any,
    about: Mapping[str, Any],
    quantize: str | None,
    images: np.ndarray | None,
) -> str | None:
    """Writes a model by OpenVINO's converter.

    Arguments and result are as `litert.write` has them.

    "int8" is by NNCF; "float16" is of the weights as they are stored.
    """
    import openvino
    import tensorflow as tf

    # From a folder: of functions in memory the converter fails on Python 3.13.
    with tempfile.TemporaryDirectory() as folder:
        served = module.serve.get_concrete_function()
        tf.saved_model.save(module, folder, signatures=served)
        model = openvino.convert_model(folder)
    note = None
    if quantize == "int8" and images is not None:
        from keras_resnet.serving.quantizing import by_nncf

        model, note = by_nncf(model, [image[np.newaxis] for image in images])
    for name, text in runtimes.as_text(about).items():
        model.set_rt_info(text, [_SECTION, name])
    try:
        openvino.save_model(model, file, compress_to_fp16=quantize == "float16")
    except RuntimeError as error:  # which doesn't say of what
        reason = f"{one_line(error)}; is the disk full?"
        raise OSError(errno.EIO, reason) from None
    return note


def load(file: Path) -> runtimes.Served:
    """Loads a model into OpenVINO, on the CPU."""
    import openvino

    core = openvino.Core()
    model = core.read_model(file)
    about = json.loads(model.get_rt_info([_SECTION, "keras_resnet"]).astype(str))
    # A processor with bfloat16 would compute in that.
    hint = {"INFERENCE_PRECISION_HINT": "f32"}
    compiled = core.compile_model(model, "CPU", hint)
    answer = runtimes.answer_of(about)
    return runtimes.served_as(about, lambda images: compiled(images)[answer])
