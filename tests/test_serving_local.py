"""`keras-resnet serve`: the rest of REST, and what it doesn't serve."""

from __future__ import annotations

import json
import shutil
import socket
import urllib.error
import urllib.request

import pytest
from click.testing import CliRunner
from conftest import ROOT
from PIL import Image
from servers import served

from keras_resnet import build, serving
from keras_resnet.cli import main
from keras_resnet.errors import ExportError
from keras_resnet.serving.local import Models, Server

PREVIOUS = ROOT / "tests" / "golden" / "previous"
SEVEN = PREVIOUS / "finished" / "samples" / "0-is-7.png"


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """The address of a model's REST, of the export of an earlier version."""
    folder = tmp_path_factory.mktemp("served") / "net"
    shutil.copytree(PREVIOUS / "export", folder)
    with served(folder) as (_, url):
        yield url.replace("/net", "/v1/models/net")


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
    code, states = ask(place)
    assert code == 200
    [state] = states["model_version_status"]
    assert (state["version"], state["state"]) == ("1", "AVAILABLE")
    for url, body, status, message in (
        (f"{place}/versions/7", None, 404, "Servable not found for request: net, ver"),
        (f"{place}/versions/x", None, 404, "Servable not found"),
        (f"{place}/labels/no:predict", {}, 404, "net, label no"),
        (f"{place}s:predict", {}, 404, "Servable not found for request: nets"),
        (f"{place}:classify", {}, 404, "Malformed request: POST /v1/models/net:class"),
        (f"{place}:predict", {}, 400, "JSON Parse error"),
        (f"{place}:predict", [1], 400, "JSON Parse error"),
        (f"{place}:predict", {"inputs": {"pixels": [1]}}, 400, "has no inputs"),
        (f"{place}:predict", {"inputs": [[1]]}, 400, ""),
    ):
        code, answer = ask(url, body)
        assert code == status, answer
        assert message in answer["error"]


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
