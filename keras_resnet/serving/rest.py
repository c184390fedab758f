"""TF Serving's REST of a local server: predictions by rows or columns, and status."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable
from typing import Any

import fastapi
import numpy as np
from fastapi.concurrency import run_in_threadpool
from google.protobuf import json_format
from tensorflow.core.framework import types_pb2

from keras_resnet.errors import one_line
from keras_resnet.serving.rpc import SIGNATURES, refuse_method
from keras_resnet.serving.servables import DEFAULT, Models, Refusal, Version, spec_of

# As TF Serving reads paths.
_MODEL = r"(?i)/v1/models/([^/:]+)(?:/versions/(\d+)|/labels/([^/:]+))?"
_ASKED = re.compile(f"{_MODEL}:(classify|regress|predict)")
_TOLD = re.compile(f"{_MODEL}(/metadata)?")
_STATUS = {"NOT_FOUND": 404, "INVALID_ARGUMENT": 400, "FAILED_PRECONDITION": 412}

# Kinds of numpy's that a JSON number may be of, by what a tensor holds.
_KINDS = {"DT_UINT8": "iu", "DT_INT32": "iu", "DT_INT64": "iu", "DT_BOOL": "b"}
_DTYPES: dict[str, Any] = {
    "DT_UINT8": np.uint8,
    "DT_INT32": np.int32,
    "DT_INT64": np.int64,
    "DT_BOOL": np.bool_,
    "DT_FLOAT": np.float32,
}


def app_of(models: Models) -> fastapi.FastAPI:
    """An application that answers requests for the models."""
    app = fastapi.FastAPI(docs_url=None, redoc_url=None, openapi_url=None)

    async def answer(request: fastapi.Request) -> fastapi.Response:
        body = await request.body()
        try:
            make = _find(models, request.method, request.url.path, body)
            answer, status = await run_in_threadpool(make), 200
        except Refusal as refusal:
            answer, status = {"error": refusal.reason}, _STATUS[refusal.code]
        # NaN and Infinity as they are, as TF Serving has them.
        return fastapi.Response(json.dumps(answer), status, None, "application/json")

    methods = ["GET", "POST", "PUT", "PATCH", "DELETE"]  # all but GET, POST: refused
    app.add_api_route("/{path:path}", answer, methods=methods)
    return app


def _find(
    models: Models, method: str, path: str, body: bytes
) -> Callable[[], dict[str, Any]]:
    """What makes the answer of a request."""
    malformed = Refusal("INVALID_ARGUMENT", f"Malformed request: {method} {path}")
    if method == "POST" and (found := _ASKED.fullmatch(path)):
        name, number, label, verb = found.groups()
        spec = spec_of(name, int(number) if number else None, label or "")
        if verb.lower() == "predict":
            return lambda: _predict(models, spec, body)
        return lambda: _refuse(models, spec, verb.lower(), body)
    if method == "GET" and (found := _TOLD.fullmatch(path)):
        name, number, label, metadata = found.groups()
        spec = spec_of(name, int(number) if number else None, label or "")
        return lambda: _metadata(models, spec) if metadata else _status(models, spec)
    raise malformed


def _status(models: Models, spec: Any) -> dict[str, Any]:
    return _as_json(models.status(spec))


def _metadata(models: Models, spec: Any) -> dict[str, Any]:
    found, signatures = models.metadata(spec)
    return {
        "model_spec": _as_json(found),
        "metadata": {SIGNATURES: _as_json(signatures)},
    }


def _as_json(message: Any) -> dict[str, Any]:
    found: dict[str, Any] = json_format.MessageToDict(
        message,
        preserving_proto_field_name=True,
        always_print_fields_with_no_presence=True,
    )
    return found


def _refuse(models: Models, spec: Any, method: str, body: bytes) -> dict[str, Any]:
    spec.signature_name = _parsed(body).get("signature_name", "")
    refuse_method(models, spec, method)
    raise AssertionError


def _parsed(body: bytes) -> dict[str, Any]:
    try:
        found = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise Refusal(
            "INVALID_ARGUMENT", f"JSON Parse error: {one_line(error)}"
        ) from None
    if not isinstance(found, dict):
        raise Refusal("INVALID_ARGUMENT", "JSON Value: Is not object")
    if not isinstance(found.get("signature_name", ""), str):
        raise Refusal(
            "INVALID_ARGUMENT", "'signature_name' key must be a string value."
        )
    return found


def _predict(models: Models, spec: Any, text: bytes) -> dict[str, Any]:
    """A body of "inputs", columns, or "instances", rows -> the same of outputs."""
    body = _parsed(text)
    version = models.load(spec)
    name = body.get("signature_name") or DEFAULT
    if name not in version.signatures:
        raise Refusal(
            "INVALID_ARGUMENT",
            f'Serving signature name: "{name}" not found in signature def',
        )
    if not body.keys() & {"inputs", "instances"}:
        raise Refusal("INVALID_ARGUMENT", "Missing 'inputs' or 'instances' key")
    if {"inputs", "instances"} <= body.keys():
        raise Refusal(
            "INVALID_ARGUMENT",
            "Not formatted correctly expecting only one of 'inputs' or 'instances' "
            "keys to exist",
        )
    by_rows = "instances" in body
    inputs = _inputs(version, name, body["instances" if by_rows else "inputs"], by_rows)
    found = {key: _plain(each) for key, each in version.run(name, inputs, []).items()}
    # Outputs are named only where there are several.
    if not by_rows:
        return {"outputs": found if len(found) > 1 else next(iter(found.values()))}
    rows = [
        dict(zip(found, row, strict=True)) for row in zip(*found.values(), strict=True)
    ]
    single = [next(iter(row.values())) for row in rows]
    return {"predictions": rows if len(found) > 1 else single}


def _inputs(
    version: Version, signature: str, given: Any, by_rows: bool
) -> dict[str, np.ndarray]:
    """Arrays of a signature's inputs."""
    known = version.signatures[signature].inputs
    if by_rows and not (isinstance(given, list) and given):
        raise Refusal("INVALID_ARGUMENT", "'instances' must be a list, with values")
    named = _is_named(given[0] if by_rows else given)
    if not named and len(known) > 1:
        raise Refusal(
            "INVALID_ARGUMENT", f"inputs must be named: {', '.join(sorted(known))}"
        )
    if by_rows and named:
        for at, row in enumerate(given):
            if not isinstance(row, dict) or set(row) != set(known):
                raise Refusal(
                    "INVALID_ARGUMENT",
                    f"Failed to process element: {at} of 'instances' list. Its keys "
                    f"must be equal to: {','.join(sorted(known))}",
                )
        columns = {key: [row[key] for row in given] for key in known}
    else:
        columns = given if named else {next(iter(known)): given}
    for key in known:
        if key not in columns:
            raise Refusal(
                "INVALID_ARGUMENT", f"Missing named input: {key} in 'inputs' object."
            )
    return {key: _array(columns[key], known[key].dtype) for key in known}


def _is_named(value: Any) -> bool:
    return isinstance(value, dict) and not (
        set(value) == {"b64"} and isinstance(value["b64"], str)
    )


def _array(value: Any, dtype: int) -> np.ndarray:
    """JSON as a tensor of a type, or refused: nothing is rounded or wrapped."""
    name = types_pb2.DataType.Name(dtype)
    try:
        if name == "DT_STRING":
            return np.array(_decoded(value), object)
        array = np.asarray(value)
    except (ValueError, TypeError, RecursionError) as error:
        raise Refusal("INVALID_ARGUMENT", one_line(error)) from None
    if array.dtype.kind not in _KINDS.get(name, "iuf"):
        raise Refusal(
            "INVALID_ARGUMENT",
            f"JSON values of {array.dtype} are not of expected type: "
            f"{name.removeprefix('DT_').lower()}",
        )
    converted: np.ndarray = array.astype(_DTYPES[name])
    if array.dtype.kind in "iu" and (converted != array).any():
        raise Refusal(
            "INVALID_ARGUMENT",
            f"JSON values from {array.min()} to {array.max()} are not all of expected "
            f"type: {converted.dtype}",
        )
    return converted


def _decoded(value: Any) -> Any:
    if isinstance(value, list):
        return [_decoded(each) for each in value]
    if isinstance(value, str):
        return value.encode()
    if not isinstance(value, dict) or _is_named(value):
        raise TypeError(
            f"JSON Value: {str(value)[:50]} is not of expected type: string"
        )
    return base64.b64decode(value["b64"], validate=True)


def _plain(value: np.ndarray) -> Any:
    if value.dtype == object:
        value = np.vectorize(bytes.decode, otypes=[object])(value)
    return value.tolist()
