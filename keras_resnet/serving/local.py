"""A server for one's own machine, which speaks TF Serving's REST and gRPC.

It is for trying out: it listens on loopback alone, loads what it is asked for through
TensorFlow's C API, and never batches, polls or authenticates. TF Serving does.
"""

from __future__ import annotations

import base64
import json
import socket
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import fastapi
import grpc
import numpy as np
import tensorflow as tf
import uvicorn
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import JSONResponse
from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

from keras_resnet.errors import ExportError, one_line
from keras_resnet.serving import runtimes
from keras_resnet.serving.native import NativeError, NativeModel
from keras_resnet.serving.server import (
    HOST,
    find_versions,
    labels_of,
    name_of,
    saved_versions,
)

_MESSAGE = 2**28  # bytes of a gRPC message
_NOT_FOUND, _WRONG = 404, 400  # as HTTP and gRPC say it
_CODES = {_NOT_FOUND: "NOT_FOUND", _WRONG: "INVALID_ARGUMENT"}

Arrays = dict[str, np.ndarray]


class Refusal(Exception):
    """A request that is not answered: an HTTP status, and why."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status, self.reason = status, reason


class Models:
    """The versions of a model, each loaded when it is first asked for.

    Args:
        path: a model's folder, a version's, or a run's.

    Raises:
        ExportError: no SavedModel is there; a file of another format says what serves
            it.
    """

    def __init__(self, path: Path) -> None:
        self.folder, self.only = find_versions(path)
        self.name = name_of(self.folder)
        self._lock = threading.Lock()
        self._loaded: dict[int, NativeModel] = {}

    def versions(self) -> list[int]:
        """Those that are served, the newest last."""
        return saved_versions(self.folder, self.only)

    def signatures(self, version: int) -> Mapping[str, Any]:
        """Inputs and outputs of a version's signatures."""
        found: Mapping[str, Any] = runtimes.describe(self.folder / str(version))[
            "signatures"
        ]
        return found

    def find(self, name: str, version: str | int | None, label: str | None) -> int:
        """The version that is asked for, by default the newest.

        Raises:
            Refusal: there is none.
        """
        if name != self.name:
            raise Refusal(_NOT_FOUND, f"Servable not found for request: {name}")
        there = self.versions()
        chosen = labels_of(self.folder).get(label) if label else version or there[-1]
        if str(chosen) not in map(str, there):
            wanted = f"{name}, {'label' if label else 'version'} {label or version}"
            raise Refusal(_NOT_FOUND, f"Servable not found for request: {wanted}")
        return int(chosen or 0)

    def run(
        self,
        version: int,
        signature: str,
        inputs: Mapping[str, np.ndarray],
        outputs: list[str] | None = None,
    ) -> Arrays:
        """The outputs of a version's signature, all or some.

        Raises:
            Refusal: the model refuses the inputs.
        """
        with self._lock:
            if version not in self._loaded:
                self._loaded[version] = NativeModel(
                    self.folder / str(version), self.signatures(version)
                )
        try:
            return self._loaded[version].run(signature, inputs, outputs)
        except NativeError as error:
            raise Refusal(_WRONG, one_line(error)) from None


class _Prediction(prediction_service_pb2_grpc.PredictionServiceServicer):  # type: ignore[misc]  # untyped
    """TF Serving's gRPC."""

    def __init__(self, models: Models) -> None:
        self.models = models

    def Predict(self, request: Any, context: Any) -> Any:
        """Answers, or ends in a status of gRPC."""
        spec = request.model_spec
        try:
            version = self.models.find(
                spec.name, spec.version.value or None, spec.version_label
            )
            found = self.models.run(
                version,
                spec.signature_name or "serving_default",
                {key: tf.make_ndarray(proto) for key, proto in request.inputs.items()},
                list(request.output_filter) or None,
            )
        except Refusal as refusal:
            context.abort(
                getattr(grpc.StatusCode, _CODES[refusal.status]), refusal.reason
            )
        except (TypeError, ValueError) as error:
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, one_line(error))
        response = predict_pb2.PredictResponse(model_spec=spec)
        response.model_spec.version.value = version
        for key, value in found.items():
            proto = tf.make_tensor_proto(
                value.tolist() if value.dtype == object else value, shape=value.shape
            )
            response.outputs[key].CopyFrom(proto)
        return response


def rest(models: Models) -> fastapi.FastAPI:
    """TF Serving's REST: `:predict` in both forms, and the status of versions."""
    app = fastapi.FastAPI(docs_url=None, redoc_url=None, openapi_url=None)

    async def predict(
        request: fastapi.Request,
        name: str,
        version: str | None = None,
        label: str | None = None,
    ) -> JSONResponse:
        body = await request.body()
        return await _answered(
            lambda: _predict(models, models.find(name, version, label), body)
        )

    async def status(name: str, version: str | None = None) -> JSONResponse:
        def states() -> dict[str, Any]:
            wanted = models.find(name, version, None)
            shown = [wanted] if version else models.versions()
            return {"model_version_status": [_state(each) for each in shown]}

        return await _answered(states)

    async def unknown(request: fastapi.Request) -> JSONResponse:
        reason = f"Malformed request: {request.method} {request.url.path}"
        return JSONResponse({"error": reason}, _NOT_FOUND)

    place = "/v1/models/{name}"
    for chosen in ("", "/versions/{version}", "/labels/{label}"):
        app.add_api_route(f"{place}{chosen}:predict", predict, methods=["POST"])
    for chosen in ("", "/versions/{version}"):
        app.add_api_route(f"{place}{chosen}", status, methods=["GET"])
    app.add_api_route("/{path:path}", unknown, methods=["GET", "POST"])
    return app


async def _answered(answer: Callable[[], dict[str, Any]]) -> JSONResponse:
    """What is computed, in a thread, or why it is refused."""
    try:
        return JSONResponse(await run_in_threadpool(answer))
    except Refusal as refusal:
        return JSONResponse({"error": refusal.reason}, refusal.status)


def _state(version: int) -> dict[str, Any]:
    status = {"error_code": "OK", "error_message": ""}
    return {"version": str(version), "state": "AVAILABLE", "status": status}


def _predict(models: Models, version: int, text: bytes) -> dict[str, Any]:
    """A body of "inputs", columns, or "instances", rows -> the same of outputs."""
    try:
        body = json.loads(text)
        signature = body.get("signature_name", "serving_default")
        by_rows = "instances" in body
        given = _columns(body["instances"]) if by_rows else body["inputs"]
        names = list(models.signatures(version).get(signature, {}).get("inputs", ()))
        columns = given if isinstance(given, dict) else dict.fromkeys(names, given)
        inputs = {
            name: np.asarray(_decoded(value), _dtype(signature, name))
            for name, value in columns.items()
        }
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise Refusal(_WRONG, f"JSON Parse error: {one_line(error)}") from None
    found = {
        name: _plain(value)
        for name, value in models.run(version, signature, inputs).items()
    }
    if by_rows:
        rows = [
            dict(zip(found, row, strict=True))
            for row in zip(*found.values(), strict=True)
        ]
        single = [next(iter(row.values())) for row in rows]
        return {"predictions": rows if len(found) > 1 else single}
    # TF Serving names the outputs only where there are several.
    return {"outputs": found if len(found) > 1 else next(iter(found.values()))}


def _columns(rows: list[Any]) -> Any:
    """Rows of named values by their names; others are of the only input."""
    if rows and isinstance(rows[0], dict) and set(rows[0]) != {"b64"}:
        return {name: [row[name] for row in rows] for name in rows[0]}
    return rows


def _decoded(value: Any) -> Any:
    if isinstance(value, list):
        return [_decoded(each) for each in value]
    if isinstance(value, dict):
        return base64.b64decode(value["b64"], validate=True)
    return value


def _dtype(signature: str, name: str) -> Any:
    if name == "image_bytes":
        return object
    return np.float32 if signature == "serving_float" else np.uint8


def _plain(value: np.ndarray) -> Any:
    if value.dtype == object:
        value = np.vectorize(bytes.decode, otypes=[object])(value)
    return value.tolist()


class Server:
    """A model behind two ports of this machine.

    Args:
        path: as `Models` takes it.
        rest_port: for HTTP; 0 takes a free one.
        grpc_port: for gRPC; 0 takes a free one.

    Raises:
        ExportError: no SavedModel is there, or a port is taken.
    """

    def __init__(self, path: Path, rest_port: int, grpc_port: int) -> None:
        self.models = Models(path)
        try:
            self._socket = socket.create_server((HOST, rest_port))
        except OSError as error:
            raise ExportError(
                f"rest-port: {rest_port} can't be listened on: {error.strerror}"
            ) from None
        self._rpc = grpc.server(
            ThreadPoolExecutor(4),
            options=[
                ("grpc.max_receive_message_length", _MESSAGE),
                ("grpc.so_reuseport", 0),
            ],
        )
        prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(
            _Prediction(self.models), self._rpc
        )
        try:
            self._grpc_port = self._rpc.add_insecure_port(f"{HOST}:{grpc_port}")
        except RuntimeError:
            self._socket.close()
            raise ExportError(
                f"grpc-port: {grpc_port} can't be listened on: it is taken"
            ) from None

    @property
    def urls(self) -> dict[str, str]:
        """Where it is asked, by "rest" and "grpc", as `Client` takes it."""
        rest_port = self._socket.getsockname()[1]
        return {
            "rest": f"http://{HOST}:{rest_port}/{self.models.name}",
            "grpc": f"grpc://{HOST}:{self._grpc_port}/{self.models.name}",
        }

    def run(self) -> None:
        """Serves until it is interrupted."""
        self._rpc.start()
        config = uvicorn.Config(rest(self.models), log_level="warning")
        try:
            uvicorn.Server(config).run([self._socket])
        finally:
            self._rpc.stop(grace=None)
            self._socket.close()
