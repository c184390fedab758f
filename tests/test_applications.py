from __future__ import annotations

import hashlib
import http.server
import inspect
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import keras
import numpy as np
import pytest

from keras_resnet import SpecError, applications, weights
from keras_resnet.errors import UserError
from keras_resnet.weights import WeightsError

NAMES = (
    "ResNet50",
    "ResNet101",
    "ResNet152",
    "ResNet50V2",
    "ResNet101V2",
    "ResNet152V2",
)


@pytest.mark.parametrize("name", NAMES)
def test_signature_is_keras_own(name):
    ours = inspect.signature(getattr(applications, name)).parameters
    theirs = inspect.signature(getattr(keras.applications, name)).parameters
    assert list(ours)[: len(theirs)] == list(theirs)
    for parameter in theirs:
        assert ours[parameter].default == theirs[parameter].default


def test_one_import_changes():
    from keras_resnet.applications import resnet, resnet50, resnet_v2

    assert resnet50.ResNet50 is resnet.ResNet50 is applications.ResNet50
    for ours, theirs in (
        (resnet, keras.applications.resnet),
        (resnet50, keras.applications.resnet50),
        (resnet_v2, keras.applications.resnet_v2),
    ):
        for name in ours.__all__:
            assert hasattr(theirs, name)
        assert ours.preprocess_input is theirs.preprocess_input


def test_images_of_every_family_are_prepared():
    from keras_resnet.applications import torchvision

    pixels = np.random.default_rng(0).uniform(0, 255, (2, 8, 8, 3)).astype("float32")
    expected = (pixels / 255 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    found = torchvision.preprocess_input(pixels.copy())
    np.testing.assert_allclose(found, expected, atol=1e-5)
    for mode, theirs in (
        ("caffe", keras.applications.resnet),
        ("tf", keras.applications.resnet_v2),
    ):
        np.testing.assert_allclose(
            applications.preprocess_input(pixels.copy(), mode=mode),
            theirs.preprocess_input(pixels.copy()),
        )
    with pytest.raises(UserError, match="mode: 'bgr' is not one of"):
        applications.preprocess_input(pixels, mode="bgr")


def test_predictions_are_decoded_or_a_line_says_how(tmp_path, monkeypatch):
    from keras.src.applications import imagenet_utils

    monkeypatch.setattr(imagenet_utils, "CLASS_INDEX", None)
    monkeypatch.setattr(imagenet_utils, "CLASS_INDEX_PATH", "http://127.0.0.1:9/x.json")
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    scores = np.eye(1000, dtype="float32")[[3, 7]]
    with pytest.raises(
        WeightsError, match=r"put https://.*\.json at .*models"
    ) as error:
        applications.decode_predictions(scores)
    assert "\n" not in str(error.value)
    index = {str(i): [f"n{i:08}", f"class {i}"] for i in range(1000)}
    monkeypatch.setattr(imagenet_utils, "CLASS_INDEX", index)
    [first, second] = applications.decode_predictions(scores, top=1)
    assert (first, second) == (
        [("n00000003", "class 3", 1)],
        [("n00000007", "class 7", 1)],
    )
    with pytest.raises(UserError, match=r"\(2, 10\) is not \(images, 1000\)"):
        applications.decode_predictions(scores[:, :10])


def test_modules_are_attributes():
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            "from keras_resnet import applications as a; a.resnet_v2.preprocess_input; "
            "a.resnet50.ResNet50; a.resnet.ResNet50; print(hasattr(a, 'vgg16'))",
        ],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "False\n"


@pytest.fixture(scope="module", params=["ResNet50", "ResNet50V2"])
def stock(request):
    """Keras' own of random weights, small."""
    model = getattr(keras.applications, request.param)(
        weights=None, input_shape=(40, 40, 3), classes=7, classifier_activation=None
    )
    random = np.random.default_rng(0)
    model.set_weights(
        [
            random.uniform(0.5, 1.5, w.shape)
            if w.name in ("gamma", "moving_variance")
            else random.normal(0, 0.05, w.shape)
            for w in model.weights
        ]
    )
    return model


@pytest.mark.slow
@pytest.mark.parametrize("suffix", [".h5", ".weights.h5"])
@pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5:UserWarning")
def test_keras_files_load(stock, suffix, tmp_path):
    path = tmp_path / f"stock{suffix}"
    (stock.save if suffix == ".h5" else stock.save_weights)(path)
    names = {"resnet50": "ResNet50", "resnet50v2": "ResNet50V2"}
    own = names.pop(stock.name)
    [other] = names.values()
    arguments = {
        "input_shape": (40, 40, 3),
        "classes": 7,
        "classifier_activation": None,
    }
    ours = getattr(applications, own)(weights=path, **arguments)
    x = np.random.default_rng(1).normal(size=(2, 40, 40, 3)).astype("float32")
    expected = stock.predict(x, verbose=0)
    difference = np.abs(ours.predict(x, verbose=0) - expected).max()
    assert difference <= 1e-5 * np.abs(expected).max()
    assert ours.layers[-1].name == stock.layers[-1].name == "predictions"
    weighted = [la.name for la in stock.layers if la.weights]
    assert [la.name for la in ours.layers if la.weights] == weighted
    # Another network's are refused, and nothing is loaded.
    other = getattr(applications, other)(weights=None, **arguments)
    before = other.get_weights()
    with pytest.raises(WeightsError, match=f"doesn't fit {other.name}: ") as error:
        weights.load(other, path)
    assert "\n" not in str(error.value)
    for a, b in zip(before, other.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_arguments_as_keras_takes_them():
    tensor = keras.Input((64, 64, 3), name="mine")
    scaled = keras.layers.Rescaling(2.0)(tensor)
    model = applications.ResNet18(
        include_top=False, weights=None, input_tensor=scaled, pooling="avg"
    )
    assert model.input.name == "mine"
    assert model.output_shape == (None, 512)
    opened = keras.Input((None, None, 3))
    model = applications.ResNet18(
        weights=None, input_tensor=opened, input_shape=(64, 64, 3)
    )
    assert model.input_shape == (None, None, None, 3)
    assert applications.ResNet18(include_top=False, weights=None).output_shape == (
        None, None, None, 512,
    )  # fmt: skip
    wide = applications.WideResNet40_4(classes=5, classifier_activation=None)
    assert wide.output_shape == (None, 5)
    assert wide.name == "wrn_40_4"
    named = applications.ResNet18(weights=None, name="backbone", include_top=False)
    assert named.name == "backbone"


@pytest.mark.parametrize(
    ("make", "kind", "message"),
    [
        (
            lambda: applications.ResNet50(classes=10),
            WeightsError,
            "1000 classes, not 10",
        ),
        (
            lambda: applications.ResNet18(weights="imagenet"),
            WeightsError,
            r"pretrained\('torchvision/resnet18\.IMAGENET1K_V1'\) has",
        ),
        (
            lambda: applications.ResNet18(weights="nowhere.h5"),
            WeightsError,
            "file nowhere.h5 doesn't exist",
        ),
        (
            lambda: applications.ResNet50(weights=None, input_shape=(16, 16, 3)),
            SpecError,
            "too small",
        ),
        (
            lambda: applications.ResNet18(
                input_tensor=keras.Input((None, 32, 3)), input_shape=(64, 64, 3)
            ),
            SpecError,
            r"input_shape: \[64, 64, 3\] is not the input_tensor's \[None, 32, 3\]",
        ),
        (
            lambda: applications.ResNet50(weights=None, include_top=False, pooling="x"),
            SpecError,
            "pooling: 'x'",
        ),
    ],
)
def test_mistakes(make, kind, message):
    with pytest.raises(kind, match=message):
        make()


CONTENT = np.random.default_rng(0).bytes(300_000)
MD5 = hashlib.md5(CONTENT).hexdigest()


class Server(http.server.BaseHTTPRequestHandler):
    """Serves CONTENT with ranges; `/truncated` ends too soon, `/wrong` lies."""

    requests: list[str]

    def do_GET(self):
        start = int(self.headers["Range"].removeprefix("bytes=").removesuffix("-"))
        self.requests.append(f"{self.path} {start}")
        if self.path == "/missing":
            self.send_error(404)
            return
        content = CONTENT[::-1] if self.path == "/wrong" else CONTENT
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        end = 100_000 if self.path == "/truncated" else None
        self.wfile.write(content[start:end])

    def log_message(self, *_):
        pass


@pytest.fixture
def server():
    handler = type("Handler", (Server,), {"requests": []})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as running:
        thread = threading.Thread(target=running.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{running.server_port}", handler.requests
        running.shutdown()
        thread.join()


def test_download_is_checked_and_cached(server, tmp_path):
    url, requests = server
    path = tmp_path / "models" / "file.h5"
    for _ in range(2):
        assert weights.fetch(f"{url}/file", MD5, path).read_bytes() == CONTENT
    assert requests == ["/file 0"]
    assert {p.name for p in path.parent.iterdir()} == {"file.h5", "file.h5.lock"}


def test_a_file_wanted_by_several_is_downloaded_once(server, tmp_path):
    url, requests = server
    path = tmp_path / "file.h5"
    with ThreadPoolExecutor(8) as pool:
        wanted = [pool.submit(weights.fetch, f"{url}/file", MD5, path) for _ in "12345"]
    assert [want.result() for want in wanted] == [path] * 5
    assert path.read_bytes() == CONTENT
    assert requests == ["/file 0"]


def test_a_file_that_vanishes_while_it_is_checked_is_a_line(tmp_path, monkeypatch):
    with monkeypatch.context() as patched:
        patched.setattr(Path, "is_file", lambda path: True)
        with pytest.raises(WeightsError, match="No such file") as error:
            weights.fetch("http://127.0.0.1:9/file", MD5, tmp_path / "file.h5")
    assert "\n" not in str(error.value)


def test_a_truncated_download_is_continued(server, tmp_path):
    url, requests = server
    path = tmp_path / "file.h5"
    with pytest.raises(
        WeightsError, match=r"after 100,000 of 300,000 bytes; try again"
    ):
        weights.fetch(f"{url}/truncated", MD5, path)
    assert not path.exists()
    assert weights.fetch(f"{url}/file", MD5, path).read_bytes() == CONTENT
    assert requests == ["/truncated 0", "/file 100000"]


def test_a_wrong_file_is_not_kept(server, tmp_path):
    url, _ = server
    path = tmp_path / "file.h5"
    with pytest.raises(WeightsError, match="is not the file expected"):
        weights.fetch(f"{url}/wrong", MD5, path)
    assert [p.name for p in tmp_path.iterdir()] == ["file.h5.lock"]
    path.write_bytes(b"something else")
    with pytest.raises(WeightsError, match="delete it to download it again"):
        weights.fetch(f"{url}/file", MD5, path)
    assert path.read_bytes() == b"something else"


def test_no_network_says_what_to_fetch_and_where_to_put_it(
    server, tmp_path, monkeypatch
):
    url, _ = server
    with pytest.raises(WeightsError, match="404"):
        weights.fetch(f"{url}/missing", MD5, tmp_path / "file.h5")
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    row = weights.PUBLISHED["keras/resnet50"]
    dead = row._replace(url=row.url.replace("https://", "http://127.0.0.1:9/"))
    monkeypatch.setitem(weights.PUBLISHED, "keras/resnet50", dead)
    with pytest.raises(WeightsError) as error:
        applications.ResNet50()
    message = str(error.value)
    file = "resnet50_weights_tf_dim_ordering_tf_kernels.h5"
    assert dead.url in message
    assert f"put it at {tmp_path}/models/{file}" in message
    assert "\n" not in message


def test_published_hashes_are_keras_own():
    from keras.src.applications.resnet import WEIGHTS_HASHES

    ours = {
        name.removeprefix("keras/"): row.digest
        for name, row in weights.PUBLISHED.items()
        if name.startswith("keras/")
    }
    assert ours == {
        name: hashes[0]
        for name, hashes in WEIGHTS_HASHES.items()
        if not name.startswith("resnext")
    }
