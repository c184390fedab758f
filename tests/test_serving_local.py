"""`keras-resnet serve`: the rest of REST, and what it doesn't serve."""

from __future__ import annotations

import json
import shutil
import socket
import urllib.error
import urllib.request

import grpc
import pytest
from click.testing import CliRunner
from conftest import ROOT
from PIL import Image
from servers import served
from tensorflow_serving.apis import (
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
)

from keras_resnet import build, serving
from keras_resnet.cli import main
from keras_resnet.errors import ExportError
from keras_resnet.serving.local import Server
from keras_resnet.serving.servables import Models

PREVIOUS = ROOT / "tests" / "golden" / "previous"
SEVEN = PREVIOUS / "finished" / "samples" / "0-is-7.png"


@pytest.fixture(scope="module")
def urls(tmp_path_factory):
    """The URLs of a server of the export of an earlier version."""
    folder = tmp_path_factory.mktemp("served") / "net"
    shutil.copytree(PREVIOUS / "export", folder)
    with served(folder) as found:
        yield found


@pytest.fixture
def place(urls):
    """The address of a model's REST."""
    return urls[1].replace("/net", "/v1/models/net")


@pytest.fixture
def grpc_address(urls):
    """Host and port of its gRPC."""
    return urls[0].removeprefix("grpc://").removesuffix("/net")


def ask(url, body=None):
    """Status and JSON of an answer."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data)
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


@pytest.mark.slow
def test_both_forms_of_requests(place):
    pixels = [[[p] for p in row] for row in _rows(Image.open(SEVEN))]
    _, by_columns = ask(f"{place}:predict", {"inputs": {"images": [pixels, pixels]}})
    first = by_columns["outputs"]["probabilities"][1]
    assert first[0] == pytest.approx(0.16254618763923645, abs=1e-5)
    for instances in ([pixels, pixels], [{"images": pixels}] * 2):
        code, by_rows = ask(f"{place}/versions/1:predict", {"instances": instances})
        assert code == 200
        assert [row["classes"] for row in by_rows["predictions"]] == [0, 0]
        assert by_rows["predictions"][1]["probabilities"] == pytest.approx(first)
    code, features = ask(
        f"{place}:predict", {"signature_name": "features", "instances": [pixels]}
    )
    assert (code, len(features["predictions"])) == (200, 1)


@pytest.mark.slow
def test_states_and_refusals(place):
    available = {
        "version": "1",
        "state": "AVAILABLE",
        "status": {"error_code": "OK", "error_message": ""},
    }
    for url in (place, f"{place}/versions/1"):
        assert ask(url) == (200, {"model_version_status": [available]})
    for url, body, status, message in (
        (f"{place}/versions/7", None, 404, "Could not find version 7 of model net"),
        (f"{place}s", None, 404, "Could not find any versions of model nets"),
        (f"{place}/versions/x", None, 400, "Malformed request: GET /v1/models/net/v"),
        (f"{place}/labels/no:predict", {}, 400, "Unrecognized servable version label"),
        (f"{place}/versions/7:predict", {}, 404, "for request: Specific(net, 7)"),
        (f"{place}s:predict", {}, 404, "Servable not found for request: Latest(nets)"),
        (f"{place}:explain", {}, 400, "Malformed request: POST /v1/models/net:explain"),
        (f"{place}:classify", {}, 400, "to be tensorflow/serving/classify. Was: tens"),
        (f"{place}:predict", {}, 400, "Missing 'inputs' or 'instances' key"),
        (f"{place}:predict", [1], 400, "Is not object"),
        (f"{place}:predict", {"signature_name": 1}, 400, "must be a string value"),
        (f"{place}:predict", {"signature_name": "x"}, 400, "not found in signature"),
        (f"{place}:predict", {"inputs": [], "instances": []}, 400, "only one of"),
        (f"{place}:predict", {"instances": []}, 400, "must be a list, with values"),
        (f"{place}:predict", {"inputs": {"pixels": [1]}}, 400, "named input: images"),
        (f"{place}:predict", {"instances": [{"pixels": 1}]}, 400, "equal to: images"),
        (f"{place}:predict", {"inputs": [[1]]}, 400, ""),
        # Nothing is rounded, wrapped or read out of a text.
        (f"{place}:predict", {"inputs": [[[[300]]]]}, 400, "expected type: uint8"),
        (f"{place}:predict", {"inputs": [[[[-1]]]]}, 400, "expected type: uint8"),
        (f"{place}:predict", {"inputs": [[[[1.5]]]]}, 400, "expected type: uint8"),
        (f"{place}:predict", {"inputs": [[[[True]]]]}, 400, "expected type: uint8"),
        (f"{place}:predict", {"inputs": [[[["5"]]]]}, 400, "expected type: uint8"),
        (f"{place}:predict", {"inputs": [[[[10**30]]]]}, 400, "expected type: uint8"),
        (f"{place}:predict", {"inputs": [[1], [2, 3]]}, 400, ""),
    ):
        code, answer = ask(url, body)
        assert code == status, answer
        assert message in answer["error"]


@pytest.mark.slow
def test_metadata_and_states_over_both_protocols(place, grpc_address):
    code, told = ask(f"{place}/metadata")
    assert code == 200
    spec = {"name": "net", "version": "1", "signature_name": ""}
    assert told["model_spec"].items() >= spec.items()
    images = told["metadata"]["signature_def"]["signature_def"]["serving_default"][
        "inputs"
    ]["images"]
    assert images["dtype"] == "DT_UINT8"
    sides = [side["size"] for side in images["tensor_shape"]["dim"]]
    assert sides == ["-1", "8", "8", "1"]
    with grpc.insecure_channel(grpc_address) as channel:
        states = model_service_pb2_grpc.ModelServiceStub(channel)
        ask_state = get_model_status_pb2.GetModelStatusRequest()
        ask_state.model_spec.name = "net"
        [state] = states.GetModelStatus(ask_state).model_version_status
        assert (state.version, state.state) == (1, state.AVAILABLE)
        ask_state.model_spec.version.value = 7
        with pytest.raises(grpc.RpcError) as raised:
            states.GetModelStatus(ask_state)
        assert raised.value.code() is grpc.StatusCode.NOT_FOUND
        predictions = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        request = get_model_metadata_pb2.GetModelMetadataRequest()
        request.model_spec.name = "net"
        for fields, message in (([], "at least one"), (["x"], "x is not supported")):
            request.metadata_field[:] = fields
            with pytest.raises(grpc.RpcError, match=message) as raised:
                predictions.GetModelMetadata(request)
            assert raised.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        request.metadata_field[:] = ["signature_def"]
        answer = predictions.GetModelMetadata(request)
        signatures = get_model_metadata_pb2.SignatureDefMap()
        assert answer.metadata["signature_def"].Unpack(signatures)
        assert "image_bytes" in signatures.signature_def
        request = predict_pb2.PredictRequest()
        request.model_spec.name = "net"
        for change, code, message in (
            ({"signature_name": "x"}, "FAILED_PRECONDITION", '"x" not found'),
            ({}, "INVALID_ARGUMENT", "input size does not match signature: 0!=1"),
        ):
            request.model_spec.signature_name = change.get("signature_name", "")
            with pytest.raises(grpc.RpcError, match=message) as raised:
                predictions.Predict(request)
            assert raised.value.code().name == code


def _rows(image):
    width = image.width
    flat = list(image.tobytes())
    return [flat[at : at + width] for at in range(0, len(flat), width)]


def test_what_is_served(tmp_path, tiny_spec):
    version = shutil.copytree(PREVIOUS / "export" / "1", tmp_path / "net" / "1")
    assert Models(version).name == Models(version.parent).name == "net"
    assert Models(version).versions() == [1]
    path = serving.export(build(tiny_spec), tmp_path / "net", format="onnx")
    for other, message in (
        (path, "is of onnx, which onnxruntime or Triton serves; here only SavedModels"),
        (path / "model.onnx", "is of onnx"),
        (tmp_path, "holds no SavedModel; export one there"),
    ):
        with pytest.raises(ExportError, match=message):
            Models(other)


def test_taken_ports_are_one_line(tmp_path):
    folder = shutil.copytree(PREVIOUS / "export", tmp_path / "net")
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        for ports, option in (((port, 0), "rest-port"), ((0, port), "grpc-port")):
            with pytest.raises(ExportError, match=f"{option}: {port} can't be"):
                Server(folder, *ports)
        refused = CliRunner().invoke(
            main, ["serve", str(folder), "--rest-port", str(port)]
        )
    assert refused.exit_code == 2
    assert refused.output.startswith(f"Error: rest-port: {port} can't be listened on")
