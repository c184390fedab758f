"""ONNX: a graph that onnxruntime and many others run."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from keras_resnet.serving import runtimes

OPSET = 18  # the newest that tf2onnx writes


def write(
    file: Path,
    module: Any,
    about: Mapping[str, Any],
    quantize: str | None,
    images: np.ndarray | None,
) -> str | None:
    """Writes a model by tf2onnx; arguments and result as `litert.write` has them.

    What is quantized is so by NNCF, as QuantizeLinear and DequantizeLinear.
    """
    import onnx
    import tf2onnx

    model, _ = tf2onnx.convert.from_function(
        module.serve, input_signature=module.serve.input_signature, opset=OPSET
    )
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.shape.dim[0].dim_param = "batch"
    note = None
    if quantize and images is not None:
        from onnxruntime.capi.onnxruntime_pybind11_state import Fail

        from keras_resnet.serving.quantizing import by_nncf

        examples = [{"images": image[np.newaxis]} for image in images]
        # At stages of several basic units.
        model, note = by_nncf(model, examples, (Fail,))
    onnx.helper.set_model_props(model, runtimes.as_text(about))
    onnx.save(model, file)
    return note


def load(file: Path) -> runtimes.Served:
    """Loads a model into onnxruntime, on the CPU."""
    import onnxruntime

    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    about = json.loads(session.get_modelmeta().custom_metadata_map["keras_resnet"])
    answer = runtimes.answer_of(about)
    return runtimes.served_as(
        about, lambda images: session.run([answer], {"images": images})[0]
    )
