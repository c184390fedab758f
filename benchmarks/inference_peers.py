"""The sides of the comparison of inference, and the exports that they run.

An export is made once, in a process of its own, into a folder that all later calls
share: quantizing takes minutes and gigabytes, and running a file neither.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.peers import ONEDNN, Job, Peer, onednn, repeated
from keras_resnet.spec import ResNetSpec

# What `serving.export` is asked for.
EXPORTS: dict[str, dict[str, Any]] = {
    "saved_model": {},
    "unfolded": {"fold": False},
    **{
        form + (f"-{quantize}" if quantize else ""): {
            "format": form,
            "quantize": quantize,
        }
        for form in ("litert", "onnx", "openvino")
        for quantize in (None, "int8")
    },
}
STOCK = "stock"  # Keras' own export
CALIBRATION = 32  # images of noise: of these files only the speed is of interest


def make(spec: ResNetSpec, folder: str, export: str) -> Job:
    """Writes one of `EXPORTS`, or Keras' own, of a network in stock layers."""
    from keras_resnet import build, serving
    from keras_resnet.surgery import to_stock

    place = Path(folder)
    started = place.with_name(f"{place.name}-started")
    shutil.rmtree(started, ignore_errors=True)
    model = trained(build(spec))
    if export == STOCK:
        to_stock(model).export(str(started), verbose=False)
    else:
        images = _pixels(spec, CALIBRATION)
        path = serving.export(
            model, started, check=False, images=images, **EXPORTS[export]
        )
        path.rename(started.with_name("version"))
        shutil.rmtree(started)
        started = started.with_name("version")
    started.rename(place)
    return {}, repeated(lambda: None)


def serve(spec: ResNetSpec, batch: int, folder: str) -> Job:
    """The serving signature of a SavedModel."""
    import tensorflow as tf

    loaded = tf.saved_model.load(folder)
    signature = loaded.signatures["serving_default"]
    ((name, image),) = signature.structured_input_signature[1].items()
    x = tf.constant(_pixels(spec, batch), image.dtype)
    return onednn(), repeated(lambda: signature(**{name: x}))


def predict_stock(spec: ResNetSpec, batch: int) -> Job:
    """`predict_on_batch` of stock Keras."""
    from keras_resnet import build
    from keras_resnet.surgery import to_stock

    model, x = to_stock(build(spec)), _pixels(spec, batch).astype("float32")
    return onednn(), repeated(lambda: model.predict_on_batch(x))


def infer_torch(
    spec: ResNetSpec, batch: int, *, compiled: bool = False, quantized: bool = False
) -> Job:
    """Inference mode, eager or compiled, in channels-last memory."""
    import torch

    from benchmarks import torch_nets

    x = torch_nets.images(torch.from_numpy(_pixels(spec, batch)).float())
    net = torch_nets.network(spec).eval()
    if quantized:
        net = torch_nets.quantized(net, x)
    forward = torch.compile(net) if compiled else net

    def infer() -> None:
        with torch.inference_mode():
            forward(x)

    return {}, repeated(infer)


def infer_openvino(spec: ResNetSpec, batch: int, folder: str) -> Job:
    """Our SavedModel as OpenVINO reads it, in float32, for this batch alone."""
    import openvino
    from openvino.properties import hint

    pixels = _pixels(spec, batch)
    model = openvino.Core().read_model(folder)
    model.reshape(list(pixels.shape))
    hints = {
        hint.performance_mode: hint.PerformanceMode.LATENCY,
        hint.inference_precision: openvino.Type.f32,
    }
    request = openvino.compile_model(model, "CPU", hints).create_infer_request()
    request.set_input_tensor(openvino.Tensor(pixels))
    return {}, repeated(request.infer)


def infer_file(spec: ResNetSpec, batch: int, folder: str) -> Job:
    """An export as `serving.load` runs it in its own runtime."""
    from keras_resnet import serving

    pixels, served = _pixels(spec, batch), serving.load(folder)
    size = sum(file.stat().st_size for file in Path(folder).iterdir())
    return {"megabytes": size / 1e6}, repeated(lambda: served.predict(pixels))


class Side(NamedTuple):
    """A side of the comparison, and the export that it runs, if it runs one."""

    peer: Peer
    export: str | None = None


INFERENCE = {
    "ours": Side(Peer(serve, {}, ONEDNN), "saved_model"),
    "ours-unfolded": Side(Peer(serve, {}, ONEDNN), "unfolded"),
    "openvino": Side(Peer(infer_openvino, {}), "saved_model"),
    "litert": Side(Peer(infer_file, {}), "litert"),
    "litert-int8": Side(Peer(infer_file, {}), "litert-int8"),
    "onnxruntime": Side(Peer(infer_file, {}), "onnx"),
    "onnxruntime-int8": Side(Peer(infer_file, {}), "onnx-int8"),
    "openvino-file": Side(Peer(infer_file, {}), "openvino"),
    "openvino-file-int8": Side(Peer(infer_file, {}), "openvino-int8"),
    "stock-export": Side(Peer(serve, {}), STOCK),
    "stock-predict": Side(Peer(predict_stock, {})),
    "torch": Side(Peer(infer_torch, {})),
    "torch.compile": Side(Peer(infer_torch, {"compiled": True})),
    "torch-int8": Side(Peer(infer_torch, {"quantized": True})),
}


def _pixels(spec: ResNetSpec, batch: int) -> Any:
    import numpy as np

    shape = (batch, *spec.input_shape)
    return np.random.default_rng(0).integers(0, 256, shape, "uint8")


def trained(model: Any) -> Any:
    """The model, with batch norms as training may leave them.

    Initial ones have no offset: a graph without its additions is not what is served.
    """
    import numpy as np

    random = np.random.default_rng(0)
    for weight in model.weights:
        if weight.name in ("gamma", "moving_variance"):
            weight.assign(random.uniform(0.5, 1.5, weight.shape))
        elif weight.name in ("beta", "moving_mean"):
            weight.assign(random.normal(0, 0.1, weight.shape))
    return model
