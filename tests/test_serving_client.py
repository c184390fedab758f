"""The client, against TF Serving where it is there, else its protocols in a process."""

from __future__ import annotations

import http.server
import io
import socket
import threading
import time
import zlib

import numpy as np
import pytest
from images import noise
from PIL import Image
from servers import BINARY, free_port, served

from keras_resnet import build, cifar_resnet, serving
from keras_resnet.data.image_files import CENTRAL, MAX_GIF, read_image
from keras_resnet.serving import Client, ServingError
from keras_resnet.serving import client as client_module
from keras_resnet.serving.publish import publish

SHAPE = (16, 16, 3)
NAMES = [f"a class {i}" for i in range(10)]


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """A small network as version 1 of "net", and its probabilities."""
    model = build(
        cifar_resnet(8, input_shape=SHAPE, stem_width=4, widths=(4, 8, 8)),
        classifier_activation="softmax",
        pixel_stats=([120.0] * 3, [60.0] * 3),
    )
    path = tmp_path_factory.mktemp("served") / "net"
    serving.export(model, path, class_names=NAMES)
    return path, lambda images: np.asarray(model(images.astype("f4"), training=False))


@pytest.fixture(scope="module")
def urls(exported):
    """Of gRPC and REST, of a real process."""
    with served(exported[0]) as found:
        yield found


def encoded(image, form="PNG", **options):
    file = io.BytesIO()
    Image.fromarray(image).save(file, form, **options)
    return file.getvalue()


@pytest.mark.slow
@pytest.mark.parametrize("kind", [0, 1], ids=["grpc", "rest"])
def test_answers_are_the_models(exported, urls, tmp_path, kind):
    path, predict = exported
    images = noise(5, SHAPE)
    expected = predict(images)
    with Client(urls[kind], timeout=120, retries=8, batch=2) as client:
        for batch in (images, images.astype("f4")):
            answers = client.predict(batch)
            np.testing.assert_allclose(answers.probabilities, expected, atol=1e-5)
            np.testing.assert_array_equal(answers.classes, expected.argmax(axis=-1))
            best = (-expected).argsort(axis=-1)[:, :5]
            assert answers.labels == [[NAMES[i] for i in row] for row in best]
        assert client.features(images).shape == (5, 8)

        forms = [encoded(images[0], form) for form in ("PNG", "BMP")]
        photo = noise(1, (37, 51, 3))[0]
        exif = Image.Exif()
        exif[0x0112] = 6
        turned = encoded(photo, "JPEG", exif=exif)
        long = [Image.fromarray(noise(1, (64, 64, 3), i)[0]) for i in range(80)]
        animation = io.BytesIO()
        long[0].save(animation, "GIF", save_all=True, append_images=long[1:])
        assert len(animation.getvalue()) > MAX_GIF
        content = [*forms, encoded(photo, "JPEG"), turned, animation.getvalue()]
        files = []
        for i, each in enumerate(content):
            (tmp_path / str(i)).write_bytes(each)
            files.append(tmp_path / str(i))
        seen = np.stack([read_image(each, SHAPE, CENTRAL) for each in content])
        answers = client.predict_files(files)
        np.testing.assert_allclose(answers.probabilities, predict(seen), atol=2e-3)

        for wrong, message in (
            (lambda: client.predict(noise(2, (8, 8, 3))), r"INVALID_ARG|400"),
            (lambda: client.predict(images.astype(int)), "images: int64 of shape"),
            (
                lambda: client.predict_bytes([forms[0], b"x"]),
                r"images\[1\] is not an image",
            ),
            (lambda: client.predict_bytes([]), "images: none are given"),
            (lambda: client.predict_files([tmp_path / "no"]), r"can't read .*No such"),
        ):
            with pytest.raises(ServingError, match=message):
                wrong()
    with (
        Client(urls[kind], version=7, timeout=60) as client,
        pytest.raises(ServingError, match=r"NOT_FOUND|404"),
    ):
        client.predict(images)
    for url in urls:
        swapped = {"grpc": "http", "http": "grpc"}
        scheme, _, place = url.partition(":")
        wrong = f"{swapped[scheme]}:{place}"
        with (
            Client(wrong, timeout=20, retries=1) as client,
            pytest.raises(ServingError, match="servers have REST") as raised,
        ):
            client.predict(images)
        assert str(raised.value).isprintable()
    # A label, by which a server's answer can be rolled back.
    publish(path, "champion", version=1)
    if not BINARY:
        with Client(urls[kind], label="champion", timeout=60) as client:
            assert client.predict(images).classes.shape == (5,)


@pytest.mark.parametrize(
    ("url", "options", "message"),
    [
        ("localhost:8501/net", {}, "is not http://HOST:PORT/NAME or grpc"),
        ("http://localhost:8501", {}, "ends in no model's name"),
        ("http://localhost/net", {"version": 1, "label": "a"}, "version or a label"),
        ("http://localhost/net", {"timeout": 0}, "must be positive"),
        ("http://localhost/net", {"timeout": float("inf")}, "under a million"),
        ("http://localhost/net", {"timeout": float("nan")}, "under a million"),
        ("http://[::1/net", {}, "Invalid IPv6 URL"),
    ],
)
def test_wrong_clients_are_refused(url, options, message):
    with pytest.raises(ServingError, match=message):
        Client(url, **options)


@pytest.mark.parametrize("scheme", ["grpc", "http"])
def test_a_server_that_is_not_there(scheme):
    url = f"{scheme}://127.0.0.1:{free_port()}/net"
    with (
        Client(url, retries=1, timeout=5) as client,
        pytest.raises(ServingError, match="does not answer"),
    ):
        client.predict(noise(1, SHAPE))


ANSWERS = [
    (b"{", "answers what is no prediction"),
    (b"[]", "answers what is no prediction"),
    (b'{"outputs": {"probabilities": [1.0]}}', "this is no model of keras_resnet"),
    (b'{"outputs": {"labels": [["a"], ["b"]]}}', "this is no model of keras_resnet"),
    (b'{"outputs": "x"}', "answers what is no prediction"),
    (b"[" * 10**5, "answers what is no prediction"),
    (b'{"outputs": {"probabilities": [[1' + b"0" * 400 + b"]]}}", "is no prediction"),
    (
        b'{"outputs": {"probabilities": [[1]], "classes": [null], "labels": [["a"]]}}',
        r"classes of 1 images are object \[1\]",
    ),
]


def test_broken_answers_and_busy_servers():
    said = []

    class Broken(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            # Unread, it would make the end of the connection a reset.
            self.rfile.read(int(self.headers["Content-Length"]))
            status, body = said.pop(0)
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Broken)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    client = Client(f"http://127.0.0.1:{server.server_port}/net")
    for body, message in ANSWERS:
        said[:] = [(200, body)]
        with pytest.raises(ServingError, match=message):
            client.predict(noise(1, SHAPE))
    good = b'{"outputs": {"probabilities": [[1.0]], "classes": [0], "labels": [["a"]]}}'
    said[:] = [(503, b'{"error": "busy"}'), (429, b""), (200, good)]
    assert client.predict(noise(1, SHAPE)).labels == [["a"]]
    said[:] = [(503, b'{"error": "busy"}')] * 4
    with pytest.raises(ServingError, match="does not answer: 503, busy"):
        client.predict(noise(1, SHAPE))
    said[:] = [(400, b'{"error": "a\\nb"}')]
    with pytest.raises(ServingError, match=r"server: 400, a$"):
        client.predict(noise(1, SHAPE))
    server.shutdown()
    server.server_close()


def test_a_timeout_holds_over_all_retries():
    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))
        deaf.listen(8)
        url = f"http://127.0.0.1:{deaf.getsockname()[1]}/net"
        started = time.monotonic()
        with pytest.raises(ServingError, match="does not answer"):
            Client(url, timeout=0.5, retries=50).predict(noise(1, SHAPE))
        assert time.monotonic() - started < 20


def test_images_are_checked_before_they_are_sent():
    check = client_module._checked
    photo = noise(1, (30, 20, 3))[0]
    sound = encoded(photo, "JPEG")
    assert check(sound, "x") == sound
    bomb = bytearray(encoded(photo))
    bomb[16:24] = (2**16).to_bytes(4, "big") * 2  # a PNG's width and height
    bomb[29:33] = zlib.crc32(bomb[12:29]).to_bytes(4, "big")
    for wrong, message in (
        (sound[:-50], "can't read x: image file is truncated"),
        (bytes(bomb), "x has more pixels than 33554432"),
        (b"", "x is not an image file"),
        ("text", "is str, not the bytes"),
    ):
        with pytest.raises(ServingError, match=message):
            check(wrong, "x")


@pytest.mark.parametrize("form", ["TIFF", "WEBP", "AVIF"])
def test_what_a_server_does_not_decode_is_sent_as_png(form):
    content = encoded(noise(1, (30, 20, 3))[0], form)
    sent = client_module._checked(content, "x")
    with Image.open(io.BytesIO(sent)) as image:
        assert image.format == "PNG"
        expected = read_image(content, (30, 20, 3))
        np.testing.assert_array_equal(np.asarray(image), expected)


def test_what_is_transparent_is_white_when_an_image_is_turned():
    file = io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGBA", (4, 2), (0, 0, 0, 0)).save(file, "PNG", exif=exif)
    with Image.open(io.BytesIO(client_module._checked(file.getvalue(), "x"))) as sent:
        assert (sent.mode, sent.size) == ("RGB", (2, 4))
        assert np.asarray(sent).min() == 255


def test_names_are_quoted_in_addresses():
    with (
        Client("http://127.0.0.1:9/mod\u00e8le", timeout=1, retries=0) as client,
        pytest.raises(ServingError, match="refused"),
    ):
        client.predict(noise(1, (8, 8, 3)))


def test_probabilities_alone_are_of_numbered_classes():
    """As OpenVINO Model Server answers of our files."""
    found = {"probabilities": np.array([[0.2, 0.7, 0.1], [0.5, 0.1, 0.4]], "f4")}
    answers = client_module.check_answers(found, 2)
    assert answers.classes.tolist() == [1, 0]
    assert answers.labels == [["1", "0", "2"], ["0", "2", "1"]]
    with pytest.raises(ServingError, match="no model of"):
        client_module.check_answers({"probabilities": np.zeros(3, "f4")}, 3)
