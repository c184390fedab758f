"""SavedModels through TensorFlow's C API: the loader and session of TF Serving.

Without TensorFlow's Python package, Keras, and the rest of this one: what loads here
needs no Python. Run as a program, it loads a SavedModel, runs requests and writes what
came of them.
"""

from __future__ import annotations

import ctypes
import importlib.util
import json
import os
import statistics
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

Names = Mapping[str, str]  # of inputs or outputs -> of tensors in the graph

# tensorflow/c/tf_datatype.h
_DTYPES: dict[int, Any] = {
    1: np.dtype("float32"),
    3: np.dtype("int32"),
    4: np.dtype("uint8"),
    9: np.dtype("int64"),
    10: np.dtype("bool"),
}
_STRING = 7
_STRING_BYTES = 24  # of a TF_TString
_CODES = {dtype: code for code, dtype in _DTYPES.items()}


class NativeError(Exception):
    """What TensorFlow refused, in its words."""


class _Output(ctypes.Structure):
    _fields_ = (("operation", ctypes.c_void_p), ("index", ctypes.c_int))


class NativeModel:
    """A SavedModel in a session of TensorFlow's C++ runtime.

    Args:
        path: the SavedModel's folder.
        signatures: for each signature its inputs and outputs by their names, with
            the tensors that they are in the graph ("serving_default_images:0").

    Raises:
        NativeError: it can't be loaded.
    """

    def __init__(
        self, path: Path | str, signatures: Mapping[str, Mapping[str, Names]]
    ) -> None:
        self.signatures = signatures
        self._lib = _library()
        self._graph = self._lib.TF_NewGraph()
        options = self._lib.TF_NewSessionOptions()
        tags = (ctypes.c_char_p * 1)(b"serve")
        with _Status(self._lib) as status:
            self._session = self._lib.TF_LoadSessionFromSavedModel(
                options, None, os.fsencode(path), tags, 1, self._graph, None, status
            )
        self._lib.TF_DeleteSessionOptions(options)

    def close(self) -> None:
        """Frees the session and its graph."""
        with _Status(self._lib) as status:
            self._lib.TF_DeleteSession(self._session, status)
        self._lib.TF_DeleteGraph(self._graph)

    def run(
        self,
        signature: str,
        inputs: Mapping[str, np.ndarray],
        outputs: Sequence[str] | None = None,
    ) -> dict[str, np.ndarray]:
        """The outputs of a signature: all, or those named.

        Args:
            signature: its name.
            inputs: arrays by the names of inputs; strings as arrays of bytes objects.
            outputs: names of what is wanted.

        Raises:
            NativeError: no such signature, input or output, or the graph refuses them.
        """
        if signature not in self.signatures:
            raise NativeError(f"no signature {signature!r}")
        names = self.signatures[signature]
        wanted = list(names["outputs"] if outputs is None else outputs)
        for kind, given in (("inputs", set(inputs)), ("outputs", set(wanted))):
            if unknown := sorted(given - set(names[kind])):
                raise NativeError(f"{signature} has no {kind} {unknown}")
        if missing := sorted(set(names["inputs"]) - set(inputs)):
            raise NativeError(f"{signature} lacks inputs {missing}")
        feeds = self._places([names["inputs"][name] for name in inputs])
        fetches = self._places([names["outputs"][name] for name in wanted])
        results = (ctypes.c_void_p * len(wanted))()
        tensors = (ctypes.c_void_p * len(inputs))()
        try:
            for i, array in enumerate(inputs.values()):
                tensors[i] = self._tensor(np.asarray(array))
            with _Status(self._lib) as status:
                self._lib.TF_SessionRun(
                    self._session, None, feeds, tensors, len(inputs), fetches, results,
                    len(wanted), None, 0, None, status,
                )  # fmt: skip
            return {
                name: self._array(result)
                for name, result in zip(wanted, results, strict=True)
            }
        finally:
            for tensor in filter(None, tensors):
                self._free_strings(tensor)
            for tensor in filter(None, (*tensors, *results)):
                self._lib.TF_DeleteTensor(tensor)

    def _free_strings(self, tensor: Any) -> None:
        """What the strings of a tensor of ours hold beyond the tensor itself."""
        if self._lib.TF_TensorType(tensor) == _STRING:
            data = self._lib.TF_TensorData(tensor)
            size = self._lib.TF_TensorByteSize(tensor)
            for at in range(data or 0, (data or 0) + size, _STRING_BYTES):
                self._lib.TF_StringDealloc(at)

    def _places(self, tensors: Sequence[str]) -> Any:
        places = (_Output * len(tensors))()
        for place, tensor in zip(places, tensors, strict=True):
            operation, index = tensor.rsplit(":", 1)
            place.operation = self._lib.TF_GraphOperationByName(
                self._graph, operation.encode()
            )
            if not place.operation:
                raise NativeError(f"the graph has no {operation}")
            place.index = int(index)
        return places

    def _tensor(self, array: np.ndarray) -> Any:
        is_string = array.dtype.kind in "OSU"
        if not is_string and array.dtype not in _CODES:
            raise NativeError(f"no tensors of type {array.dtype}")
        sides = (ctypes.c_int64 * array.ndim)(*array.shape)
        size = array.size * (_STRING_BYTES if is_string else array.itemsize)
        code = _STRING if is_string else _CODES[array.dtype]
        tensor = self._lib.TF_AllocateTensor(code, sides, array.ndim, size)
        data = self._lib.TF_TensorData(tensor)
        if not is_string:
            ctypes.memmove(data, np.ascontiguousarray(array).ctypes.data, size)
            return tensor
        for i, text in enumerate(array.ravel().tolist()):
            text = text.encode() if isinstance(text, str) else text
            self._lib.TF_StringInit(data + i * _STRING_BYTES)
            self._lib.TF_StringCopy(data + i * _STRING_BYTES, text, len(text))
        return tensor

    def _array(self, tensor: Any) -> np.ndarray:
        sides = range(self._lib.TF_NumDims(tensor))
        shape: list[int] = [self._lib.TF_Dim(tensor, side) for side in sides]
        data: int = self._lib.TF_TensorData(tensor)
        code: int = self._lib.TF_TensorType(tensor)
        if code != _STRING:
            size = self._lib.TF_TensorByteSize(tensor)
            flat = np.frombuffer(ctypes.string_at(data, size), _DTYPES[code])
            return np.reshape(flat, shape)
        places = range(data, data + int(np.prod(shape)) * _STRING_BYTES, _STRING_BYTES)
        texts = [
            ctypes.string_at(
                self._lib.TF_StringGetDataPointer(at), self._lib.TF_StringGetSize(at)
            )
            for at in places
        ]
        strings = np.empty(len(texts), object)
        strings[:] = texts
        return strings.reshape(shape)


class _Status:
    """A status that raises what it holds when the context ends."""

    def __init__(self, lib: Any) -> None:
        self.lib = lib
        self.status = lib.TF_NewStatus()

    def __enter__(self) -> Any:
        return self.status

    def __exit__(self, *_: object) -> None:
        code = self.lib.TF_GetCode(self.status)
        message = self.lib.TF_Message(self.status).decode(errors="replace")
        self.lib.TF_DeleteStatus(self.status)
        if code:
            # What follows are the places in the graph.
            raise NativeError(message.split("\n")[0])


def _library() -> Any:
    """TensorFlow's shared library, with the types of what is called."""
    spec = importlib.util.find_spec("tensorflow")
    if spec is None or not spec.submodule_search_locations:
        raise NativeError("TensorFlow is not installed")
    folder = Path(spec.submodule_search_locations[0])
    # libtensorflow_cc.so.2 on Linux, libtensorflow_cc.2.dylib on macOS.
    found = next(folder.glob("libtensorflow_cc.*"), None)
    if found is None:
        raise NativeError(f"{folder} holds no libtensorflow_cc, which runs exports")
    lib = ctypes.CDLL(str(found))
    pointer, size = ctypes.c_void_p, ctypes.c_size_t
    types: dict[str, tuple[Any, list[Any] | None]] = {
        "TF_NewGraph": (pointer, []),
        "TF_DeleteGraph": (None, [pointer]),
        "TF_NewSessionOptions": (pointer, []),
        "TF_DeleteSessionOptions": (None, [pointer]),
        "TF_NewStatus": (pointer, []),
        "TF_DeleteStatus": (None, [pointer]),
        "TF_GetCode": (ctypes.c_int, [pointer]),
        "TF_Message": (ctypes.c_char_p, [pointer]),
        "TF_LoadSessionFromSavedModel": (
            pointer,
            [pointer, pointer, ctypes.c_char_p, pointer, ctypes.c_int, *[pointer] * 3],
        ),
        "TF_DeleteSession": (None, [pointer, pointer]),
        "TF_GraphOperationByName": (pointer, [pointer, ctypes.c_char_p]),
        "TF_SessionRun": (
            None,
            [
                *[pointer] * 4,
                ctypes.c_int,
                *[pointer] * 2,
                ctypes.c_int,
                pointer,
                ctypes.c_int,
                pointer,
                pointer,
            ],
        ),
        "TF_AllocateTensor": (pointer, [ctypes.c_int, pointer, ctypes.c_int, size]),
        "TF_DeleteTensor": (None, [pointer]),
        "TF_TensorData": (pointer, [pointer]),
        "TF_TensorType": (ctypes.c_int, [pointer]),
        "TF_TensorByteSize": (size, [pointer]),
        "TF_NumDims": (ctypes.c_int, [pointer]),
        "TF_Dim": (ctypes.c_int64, [pointer, ctypes.c_int]),
        "TF_StringInit": (None, [pointer]),
        "TF_StringCopy": (None, [pointer, ctypes.c_char_p, size]),
        "TF_StringDealloc": (None, [pointer]),
        "TF_StringGetDataPointer": (pointer, [pointer]),
        "TF_StringGetSize": (size, [pointer]),
    }
    for name, (result, arguments) in types.items():
        function = getattr(lib, name)
        function.restype, function.argtypes = result, arguments
    return lib


def latencies(
    model: NativeModel,
    signature: str,
    inputs: Mapping[str, np.ndarray],
    *,
    runs: int,
    limit: float,
) -> list[float]:
    """Seconds of each of at most `runs` requests, that in all take about `limit`."""
    model.run(signature, inputs)
    seconds: list[float] = []
    while len(seconds) < runs and sum(seconds) < limit:
        started = time.perf_counter()
        model.run(signature, inputs)
        seconds.append(time.perf_counter() - started)
    return seconds


def main(path: str, requests: str, answers: str) -> None:
    """Runs the requests of a file on a SavedModel.

    Args:
        path: the SavedModel's folder.
        requests: an .npz of `signatures`, JSON, and arrays "signature/input/case".
        answers: an .npz to write: "signature/output/case", and the milliseconds of a
            first image by itself, "milliseconds/signature".
    """
    with np.load(requests, allow_pickle=True) as file:
        arrays = dict(file)
    signatures = json.loads(str(arrays.pop("signatures")))
    model = NativeModel(path, signatures)
    found: dict[str, Any] = {}
    for key, array in arrays.items():
        signature, name, case = key.split("/")
        for output, value in model.run(signature, {name: array}).items():
            found[f"{signature}/{output}/{case}"] = value
        seconds = latencies(model, signature, {name: array[:1]}, runs=10, limit=0.5)
        found[f"milliseconds/{signature}/{case}"] = np.float64(
            1e3 * statistics.median(seconds)
        )
    np.savez(answers, **found)
    model.close()


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except NativeError as error:
        sys.exit(str(error))
