"""TF Serving's protocols on the C++-loaded model, where TF Serving itself is missing.

    python tests/serving_server.py MODEL_FOLDER

Real messages over real sockets, in a process without Keras. Prints its two ports.
"""

from __future__ import annotations

import base64
import json
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import grpc
import numpy as np
import tensorflow as tf
from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

from keras_resnet.serving.native import NativeError, NativeModel
from keras_resnet.serving.server import labels_of, name_of, versions

FOLDER = Path(sys.argv[1])
NAME = name_of(FOLDER)
DTYPES = {"images": np.uint8, "image_bytes": object}


class Wrong(Exception):
    """An HTTP status, its name in gRPC, and a message."""


class Models:
    """Versions, loaded when they are asked for."""

    def __init__(self):
        self.lock = threading.Lock()
        self.loaded = {}

    def run(self, name, version, label, signature, inputs, outputs=None):
        if name != NAME:
            raise Wrong(404, "NOT_FOUND", f"Servable not found for request: {name}")
        if label:
            version = labels_of(FOLDER).get(label)
        version = version if version or label else max(versions(FOLDER))
        if version not in versions(FOLDER):
            raise Wrong(404, "NOT_FOUND", f"Servable not found: {name} {label}")
        with self.lock:
            if version not in self.loaded:
                path = FOLDER / str(version)
                described = json.loads((path / "assets/model.json").read_text())
                self.loaded[version] = NativeModel(path, described["signatures"])
        try:
            return self.loaded[version].run(
                signature or "serving_default", inputs, outputs or None
            )
        except NativeError as error:
            raise Wrong(400, "INVALID_ARGUMENT", str(error)) from None


MODELS = Models()


class Prediction(prediction_service_pb2_grpc.PredictionServiceServicer):
    def Predict(self, request, context):
        spec = request.model_spec
        try:
            inputs = {
                key: tf.make_ndarray(proto) for key, proto in request.inputs.items()
            }
            found = MODELS.run(
                spec.name,
                spec.version.value,
                spec.version_label,
                spec.signature_name,
                inputs,
                list(request.output_filter),
            )
        except Wrong as wrong:
            context.abort(getattr(grpc.StatusCode, wrong.args[1]), wrong.args[2])
        except (TypeError, ValueError) as error:
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))
        response = predict_pb2.PredictResponse(model_spec=spec)
        for key, value in found.items():
            proto = tf.make_tensor_proto(
                value.tolist() if value.dtype == object else value, shape=value.shape
            )
            response.outputs[key].CopyFrom(proto)
        return response


class Rest(BaseHTTPRequestHandler):
    """The columnar form of the REST API."""

    def do_POST(self):
        try:
            text = self.rfile.read(int(self.headers["Content-Length"]))
            status, answer = 200, self.answer(text)
        except Wrong as wrong:
            status, answer = wrong.args[0], {"error": wrong.args[2]}
        body = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def answer(self, text):
        place, _, verb = self.path.partition(":")
        parts = place.strip("/").split("/")
        if verb != "predict" or parts[:2] != ["v1", "models"] or len(parts) < 3:
            raise Wrong(404, "", f"Malformed request: POST {self.path}")
        chosen = dict(zip(parts[3::2], parts[4::2], strict=True))
        try:
            body = json.loads(text)
            signature = body.get("signature_name", "serving_default")
            inputs = {
                name: np.asarray(decoded(value), dtype_of(signature, name))
                for name, value in body["inputs"].items()
            }
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise Wrong(400, "", f"JSON Parse error: {error}") from None
        version = int(chosen.get("versions", 0))
        found = MODELS.run(parts[2], version, chosen.get("labels"), signature, inputs)
        plain = {
            name: np.vectorize(bytes.decode, otypes=[object])(value).tolist()
            if value.dtype == object
            else value.tolist()
            for name, value in found.items()
        }
        # TF Serving names the outputs only where there are several.
        return {"outputs": plain if len(plain) > 1 else next(iter(plain.values()))}

    def log_message(self, *_):
        pass


def dtype_of(signature, name):
    return np.float32 if signature == "serving_float" else DTYPES[name]


def decoded(value):
    if isinstance(value, list):
        return [decoded(each) for each in value]
    if isinstance(value, dict):
        return base64.b64decode(value["b64"], validate=True)
    return value


if __name__ == "__main__":
    rpc = grpc.server(
        ThreadPoolExecutor(4),
        options=[("grpc.max_receive_message_length", 2**28), ("grpc.so_reuseport", 0)],
    )
    prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(
        Prediction(), rpc
    )
    rpc_port = rpc.add_insecure_port("127.0.0.1:0")
    rpc.start()
    http_server = ThreadingHTTPServer(("127.0.0.1", 0), Rest)
    print(rpc_port, http_server.server_port, flush=True)
    http_server.serve_forever()
