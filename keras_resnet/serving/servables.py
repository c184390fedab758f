"""Versions of a model, as a local server answers of them.

What is refused is so in TF Serving's words and by its codes.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from tensorflow.core.protobuf import saved_model_pb2
from tensorflow_serving.apis import (
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_pb2,
)

from keras_resnet.errors import one_line
from keras_resnet.serving.native import NativeError, NativeModel
from keras_resnet.serving.server import (
    find_versions,
    labels_of,
    name_of,
    saved_versions,
)

DEFAULT = "serving_default"

Arrays = dict[str, np.ndarray]


class Refusal(Exception):
    """A request that is not answered: a code of gRPC by its name, and why."""

    def __init__(self, code: str, reason: str) -> None:
        super().__init__(reason)
        self.code, self.reason = code, reason


class Version(NamedTuple):
    """A version that is loaded.

    Attributes:
        number: of it.
        signatures: TensorFlow's SignatureDefs by their names.
        model: what runs them.
    """

    number: int
    signatures: Mapping[str, Any]
    model: NativeModel

    def signature(self, name: str) -> Any:
        """A signature, by default `serving_default`.

        Raises:
            Refusal: there is none.
        """
        name = name or DEFAULT
        if name not in self.signatures:
            raise Refusal(
                "FAILED_PRECONDITION", f'Serving signature key "{name}" not found.'
            )
        return self.signatures[name]

    def run(
        self, name: str, inputs: Mapping[str, np.ndarray], wanted: list[str]
    ) -> Arrays:
        """The outputs of a signature, those wanted or all.

        Raises:
            Refusal: no such signature, inputs or outputs, or the model refuses them.
        """
        signature = self.signature(name)
        names = ",".join(sorted(signature.inputs))
        if len(inputs) != len(signature.inputs):
            raise Refusal(
                "INVALID_ARGUMENT",
                f"input size does not match signature: {len(inputs)}!="
                f"{len(signature.inputs)} len({{{','.join(sorted(inputs))}}}) != "
                f"len({{{names}}})",
            )
        for kind, given, known in (
            ("input", inputs, signature.inputs),
            ("output", wanted, signature.outputs),
        ):
            for alias in given:
                if alias not in known:
                    raise Refusal(
                        "INVALID_ARGUMENT",
                        f"{kind} tensor alias not found in signature: {alias}. "
                        f"{kind.capitalize()}s expected to be in the set "
                        f"{{{','.join(sorted(known))}}}.",
                    )
        try:
            return self.model.run(name or DEFAULT, inputs, wanted or None)
        except NativeError as error:
            raise Refusal("INVALID_ARGUMENT", one_line(error)) from None


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
        self._loaded: dict[int, Version] = {}

    def versions(self) -> list[int]:
        """Those that are served, the newest last."""
        return saved_versions(self.folder, self.only)

    def load(self, spec: Any) -> Version:
        """The version that a ModelSpec names, by default the newest.

        Raises:
            Refusal: there is none, or it is damaged.
        """
        number = self._find(spec)
        with self._lock:
            if number not in self._loaded:
                try:
                    self._loaded[number] = _load(self.folder / str(number), number)
                except (OSError, ValueError, NativeError) as error:
                    raise Refusal(
                        "NOT_FOUND",
                        f"Servable not found for request: Specific({self.name}, "
                        f"{number}): {one_line(error)}",
                    ) from None
            return self._loaded[number]

    def _find(self, spec: Any) -> int:
        if not spec.name:
            raise Refusal("INVALID_ARGUMENT", "ModelSpec has no name specified.")
        if label := spec.version_label:
            number = labels_of(self.folder).get(label)
            if spec.name != self.name or number is None:
                raise Refusal(
                    "INVALID_ARGUMENT", f"Unrecognized servable version label: {label}"
                )
        elif spec.HasField("version"):
            number = spec.version.value
        else:
            number = self.versions()[-1]
        if spec.name != self.name or number not in self.versions():
            wanted = f"Latest({spec.name})"
            if spec.HasField("version") or label:
                wanted = f"Specific({spec.name}, {number})"
            raise Refusal("NOT_FOUND", f"Servable not found for request: {wanted}")
        return number

    def status(self, spec: Any) -> Any:
        """TF Serving's GetModelStatusResponse, of the version that is named or all.

        Raises:
            Refusal: there is none.
        """
        found = self.versions() if spec.name == self.name else []
        named = spec.HasField("version")
        if spec.version_label:
            found = [self._find(spec)]
        elif named:
            found = [each for each in found if each == spec.version.value]
        if not found:
            which = f"version {spec.version.value}" if named else "any versions"
            raise Refusal("NOT_FOUND", f"Could not find {which} of model {spec.name}")
        response = get_model_status_pb2.GetModelStatusResponse()
        available = get_model_status_pb2.ModelVersionStatus.AVAILABLE
        for number in found:
            state = response.model_version_status.add(version=number, state=available)
            state.status.SetInParent()
        return response

    def metadata(self, spec: Any) -> tuple[Any, Any]:
        """What a version is and takes: a ModelSpec and a SignatureDefMap.

        Raises:
            Refusal: there is no such version.
        """
        version = self.load(spec)
        signatures = get_model_metadata_pb2.SignatureDefMap()
        for name, signature in version.signatures.items():
            signatures.signature_def[name].CopyFrom(signature)
        return spec_of(self.name, version.number), signatures


def _load(path: Path, number: int) -> Version:
    text = (path / "saved_model.pb").read_bytes()
    [graph] = saved_model_pb2.SavedModel.FromString(text).meta_graphs
    signatures = dict(graph.signature_def)
    names = {
        name: {
            "inputs": {key: info.name for key, info in each.inputs.items()},
            "outputs": {key: info.name for key, info in each.outputs.items()},
        }
        for name, each in signatures.items()
    }
    return Version(number, signatures, NativeModel(path, names))


def spec_of(
    name: str, version: int | None = None, label: str = "", signature: str = ""
) -> Any:
    """TF Serving's ModelSpec."""
    spec = model_pb2.ModelSpec(name=name, signature_name=signature)
    if label:
        spec.version_label = label
    elif version is not None:
        spec.version.value = version
    return spec
