"""The client before servers that send anything, for ever, or too much."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
import time

import numpy as np
import pytest
from images import noise

from keras_resnet.serving import Client, ServingError, client

IMAGES = noise(1, (8, 8, 3))
GOOD = {"probabilities": [[0.75, 0.25]], "classes": [0], "labels": [["a", "b"]]}


@contextlib.contextmanager
def server(answer):
    """Its URL; `answer` gets each connection and what was asked."""
    listening = socket.create_server(("127.0.0.1", 0))

    def serve():
        with contextlib.suppress(OSError):
            while True:
                connection, _ = listening.accept()
                with connection, contextlib.suppress(OSError):
                    asked = connection.recv(2**16)
                    answer(connection, asked)

    threading.Thread(target=serve, daemon=True).start()
    yield f"127.0.0.1:{listening.getsockname()[1]}/net"
    listening.close()


def http(body: bytes, status: str = "200 OK", *headers: str) -> bytes:
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *headers, "", ""]
    return "\r\n".join(lines).encode() + body


def answers(**changes):
    text = json.dumps({"outputs": GOOD | changes}).encode()
    return lambda connection, _: connection.sendall(http(text))


def drip(head: bytes):
    """A byte now and then, without end."""

    def answer(connection, _):
        connection.sendall(head)
        while True:
            connection.sendall(b"x")
            time.sleep(0.1)

    return answer


HEADS = (b"", b"HTTP/1.1 200 OK\r\nX: ", http(b"", "200 OK").replace(b": 0", b": 999"))


@pytest.mark.parametrize("head", HEADS)
def test_the_timeout_is_over_all(head):
    with server(drip(head)) as place, Client(f"http://{place}", timeout=1) as asked:
        begun = time.monotonic()
        with pytest.raises(ServingError, match="does not answer: no"):
            asked.predict(IMAGES)
        assert time.monotonic() - begun < 5


def test_a_large_answer_is_not_read(monkeypatch):
    monkeypatch.setattr(client, "ANSWER", 2**16)
    with (
        server(answers(labels=[["a" * 2**17, "b"]])) as place,
        Client(f"http://{place}", timeout=20) as asked,
        pytest.raises(ServingError, match="answers more than 65536 bytes"),
    ):
        asked.predict(IMAGES)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"probabilities": [[0.75, float("nan")]]}, "are no finite numbers"),
        ({"probabilities": [[0.75, 0.75]]}, "probabilities that don't sum to one"),
        ({"probabilities": [[1.75, -0.75]]}, "probabilities that are none"),
        ({"classes": [2]}, "classes that aren't there"),
        ({"classes": [-1]}, "classes that aren't there"),
        ({"labels": [["a"], ["b"]]}, "labels of 1 images are"),
        ({"labels": [["a", "a"]]}, "its labels: classes 0 and 1 have one name, 'a'"),
        ({"labels": [["a", ""]]}, "its labels: class 1 has no name"),
    ],
)
def test_what_is_no_answer_is_refused(changes, message):
    with (
        server(answers(**changes)) as place,
        Client(f"http://{place}", timeout=20) as asked,
        pytest.raises(ServingError, match=message),
    ):
        asked.predict(IMAGES)


def test_several_labels_need_not_sum_to_one():
    several = answers(probabilities=[[0.75, 0.75]])
    with (
        server(several) as place,
        Client(f"http://{place}", timeout=20, multi_label=True) as asked,
    ):
        found = asked.predict(IMAGES)
    np.testing.assert_allclose(found.probabilities, [[0.75, 0.75]])


def test_text_is_one_clean_line():
    with (
        server(answers(labels=[["a\x1b[2J\nb", "\u202ec"]])) as place,
        Client(f"http://{place}", timeout=20) as asked,
    ):
        assert asked.predict(IMAGES).labels == [["a?[2J b", "?c"]]
    refusal = http(json.dumps({"error": "no\x1b[2J\nmore"}).encode(), "400 Bad")
    with (
        server(lambda connection, _: connection.sendall(refusal)) as place,
        Client(f"http://{place}", timeout=20) as asked,
        pytest.raises(ServingError) as error,
    ):
        asked.predict(IMAGES)
    assert str(error.value) == "server: 400, no?[2J"


def test_user_and_password_are_sent_and_not_shown():
    seen = []

    def answer(connection, asked):
        seen.append(asked)
        connection.sendall(http(b"{}", "401 Unauthorized"))

    with server(answer) as place, Client(f"http://me:pa%24s@{place}") as asked:
        with pytest.raises(ServingError, match="401") as error:
            asked.predict(IMAGES)
        assert asked.url == f"http://me:***@{place}"
    assert b"Authorization: Basic bWU6cGEkcw==" in seen[0]
    assert b"me:" not in seen[0]
    assert "pa" not in str(error.value)
    with pytest.raises(ServingError, match=r"grpc://me:\*\*\*@h:1/net'.* no user"):
        Client("grpc://me:secret@h:1/net")


def test_redirections_are_not_followed():
    moved = http(b"", "302 Found", "Location: file:///etc/passwd")
    with (
        server(lambda connection, _: connection.sendall(moved)) as place,
        Client(f"http://{place}", timeout=20, retries=0) as asked,
        pytest.raises(ServingError, match="302"),
    ):
        asked.predict(IMAGES)
