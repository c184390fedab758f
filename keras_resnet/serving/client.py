"""Asks TF Serving: over gRPC or its REST API, with one set of methods."""

from __future__ import annotations

import base64
import functools
import http.client
import io
import json
import random
import re
import socket
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np
from PIL import Image

from keras_resnet.data import DataError
from keras_resnet.data.image_files import MAX_GIF, is_plain_jpeg, open_image
from keras_resnet.errors import UserError, one_line
from keras_resnet.limits import (
    ANSWER,
    LimitError,
    check_names,
    hide_passwords,
    message,
    read_file,
)

# What a server decodes beside plain JPEGs; all else that Pillow reads is sent as PNG.
MODES = {
    "PNG": ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "I;16"),
    "GIF": ("L", "P", "RGB", "RGBA"),
    "BMP": ("L", "RGB", "RGBA"),
}
BATCH = 32
REASON = 2**16  # bytes that are read of why a server refuses
_TOP = 5  # classes named in `labels`
_PAUSE = 0.1  # seconds before the first retry; each later one waits twice as long
_WRONG_PORT = (
    "server: this port doesn't speak {}; servers have REST (http://) at one, 8501, and "
    "gRPC (grpc://) at another, 8500"
)
# What may pass: not there yet, or too busy.
_AGAIN_HTTP = (429, 502, 503, 504)
_AGAIN_GRPC = ("UNAVAILABLE", "RESOURCE_EXHAUSTED")

Arrays = dict[str, np.ndarray]


class ServingError(UserError):
    """A server that can't be reached or refuses, or an image that can't be sent."""


class _Busy(Exception):
    """What may go well if it is tried again."""


class Answers(NamedTuple):
    """What a model says of images.

    Attributes:
        probabilities: float32 (batch, classes); of a regression (batch, 0).
        classes: int64 (batch,), the likeliest; of a regression (0,).
        labels: for each image the names of its likeliest classes, in order; of a
            regression of its values.
        values: of a regression, float32 (batch, values); else None.
    """

    probabilities: np.ndarray
    classes: np.ndarray
    labels: list[list[str]]
    values: np.ndarray | None = None


def parse_url(url: str) -> tuple[urllib.parse.SplitResult, str]:
    """The parts of a served model's URL, and the model's name.

    Raises:
        ServingError: it is none.
    """
    shown = hide_passwords(url)
    try:
        parts = urllib.parse.urlsplit(url)
        _ = parts.port  # which is looked at only now
    except ValueError as error:
        raise ServingError(f"url: {shown!r}: {error}") from None
    name = parts.path.strip("/")
    if parts.scheme not in ("http", "https", "grpc") or not parts.hostname:
        raise ServingError(
            f"url: {shown!r} is not http://HOST:PORT/NAME or grpc://HOST:PORT/NAME"
        )
    if not name or "/" in name:
        raise ServingError(f"url: {shown!r} ends in no model's name; .../NAME")
    if parts.scheme == "grpc" and parts.username is not None:
        raise ServingError(f"url: {shown!r}: gRPC takes no user and password")
    return parts, name


def check_asked(
    version: int | None, label: str | None, timeout: float, retries: int
) -> None:
    """Refuses arguments of a client that don't go together.

    Raises:
        ServingError: naming them.
    """
    if version is not None and label is not None:
        raise ServingError("version: give a version or a label, not both")
    if not 0 < timeout < 1e6 or retries < 0:
        raise ServingError(
            f"timeout: {timeout} and retries {retries} must be positive, the timeout "
            "under a million seconds"
        )


class Client:
    """A model on a server.

    Args:
        url: `http://HOST:8501/NAME`, `https://...` or `grpc://HOST:8500/NAME`.
        version: of the model; the server's choice if None.
        label: of a version, such as "champion", instead.
        timeout: seconds that a request may take, with its retries.
        retries: how often a request is sent again to a server that is not there yet
            or too busy, with growing pauses.
        batch: images of one request; more are sent in several.
        multi_label: whether an image may have several labels, so that probabilities
            don't sum to one.

    A user and password in an `http` URL are sent as basic authentication. Answers are
    read up to `limits.ANSWER` bytes, and are refused unless they are probabilities,
    classes and labels of the images sent.

    Raises:
        ServingError: the URL is not of these forms.
    """

    def __init__(
        self,
        url: str,
        *,
        version: int | None = None,
        label: str | None = None,
        timeout: float = 30.0,
        retries: int = 3,
        batch: int = BATCH,
        multi_label: bool = False,
    ) -> None:
        parts, name = parse_url(url)
        check_asked(version, label, timeout, retries)
        if batch < 1:
            raise ServingError(f"batch: {batch} is not a positive integer")
        self.url, self.timeout = hide_passwords(url), timeout
        self.retries, self.batch, self.multi_label = retries, batch, multi_label
        kind = _Grpc if parts.scheme == "grpc" else _Rest
        self._wire = kind(parts, name, version, label)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Ends the connection."""
        self._wire.close()

    def predict(self, images: np.ndarray) -> Answers:
        """Classes of pixels, uint8 or float32 (batch, height, width, channels).

        Raises:
            ServingError: they are not images, or the server can't be reached.
        """
        images = _pixels(images)
        signature = "serving_float" if images.dtype == "f4" else "serving_default"
        return self._answers(self._ask(signature, "images", images), len(images))

    def predict_bytes(self, images: Iterable[bytes]) -> Answers:
        """Classes of encoded images: JPEG, PNG, GIF or BMP of any size.

        One that its camera wants turned is turned, and sent as PNG.

        Raises:
            ServingError: one, named by its index, is no image or too large, or the
                server can't be reached.
        """
        checked = [_checked(image, f"images[{i}]") for i, image in enumerate(images)]
        if not checked:
            raise ServingError("images: none are given")
        return self._bytes(checked)

    def predict_files(
        self,
        paths: Iterable[Path | str],
        failed: Callable[[Path, UserError], None] | None = None,
    ) -> Answers:
        """Classes of image files, as `predict_bytes`.

        Args:
            paths: of the files.
            failed: is told of one that can't be read; the answers are the others'.

        Raises:
            ServingError: one can't be read or is no image, and `failed` is None; or the
                server can't be reached.
        """
        checked = []
        for path in map(Path, paths):
            try:
                checked.append(_checked(_content(path), str(path)))
            except ServingError as error:
                if failed is None:
                    raise
                failed(path, error)
        if not checked and failed is None:
            raise ServingError("images: none are given")
        if not checked:
            return Answers(np.zeros((0, 0), np.float32), np.zeros(0, np.int64), [])
        return self._bytes(checked)

    def features(self, images: np.ndarray) -> np.ndarray:
        """What the classifier sees of uint8 pixels, float32 (batch, width).

        Raises:
            ServingError: they are not images, or the server can't be reached.
        """
        images = _pixels(images)
        if images.dtype != np.uint8:
            raise ServingError("images: features are of uint8 pixels")
        found = self._ask("features", "images", images)
        return _output(found, "features", len(images), 2, "f")

    def _bytes(self, images: list[bytes]) -> Answers:
        array = np.empty(len(images), object)
        array[:] = images
        found = self._ask("image_bytes", "image_bytes", array)
        return self._answers(found, len(images))

    def _answers(self, found: Mapping[str, np.ndarray], count: int) -> Answers:
        return check_answers(found, count, multi_label=self.multi_label)

    def _ask(self, signature: str, name: str, inputs: np.ndarray) -> Arrays:
        """The outputs of a signature, requested in batches."""
        parts = []
        for start in range(0, len(inputs), self.batch):
            batch = inputs[start : start + self.batch]
            parts.append(
                self._again(functools.partial(self._wire.ask, signature, {name: batch}))
            )
        try:
            return {
                key: np.concatenate([part[key] for part in parts]) for key in parts[0]
            }
        except (KeyError, ValueError):
            raise ServingError(
                f"server: {self.url} answers one batch unlike another"
            ) from None

    def _again(self, send: Callable[[float], Arrays]) -> Arrays:
        """Sends, and sends again what may go well then."""
        end = time.monotonic() + self.timeout
        reason = ""
        for turn in range(self.retries + 1):
            left = end - time.monotonic()
            if left <= 0:
                break
            try:
                return send(left)
            except _Busy as error:
                reason = str(error)
            if turn < self.retries:
                # Drawn, so that many clients don't come back at once.
                pause = _PAUSE * 2**turn * random.uniform(0.5, 1.5)
                time.sleep(min(pause, max(0.0, end - time.monotonic())))
        raise ServingError(f"server: {self.url} does not answer: {reason}")


class _Rest:
    """TF Serving's REST API."""

    def __init__(
        self,
        parts: urllib.parse.SplitResult,
        name: str,
        version: int | None,
        label: str | None,
    ) -> None:
        quoted = urllib.parse.quote(urllib.parse.unquote(name), safe="")
        credentials, _, netloc = parts.netloc.rpartition("@")
        place = f"{parts.scheme}://{netloc}/v1/models/{quoted}"
        self.headers = {"Content-Type": "application/json"}
        if credentials:
            pair = base64.b64encode(urllib.parse.unquote(credentials).encode())
            self.headers["Authorization"] = f"Basic {pair.decode()}"
        if version is not None:
            place += f"/versions/{version}"
        if label is not None:
            place += f"/labels/{urllib.parse.quote(label, safe='')}"
        self.place = f"{place}:predict"

    def close(self) -> None:
        """Nothing is kept open."""

    def ask(self, signature: str, inputs: Arrays, seconds: float) -> Arrays:
        body = {
            "signature_name": signature,
            "inputs": {name: _as_json(array) for name, array in inputs.items()},
        }
        request = urllib.request.Request(
            self.place,
            json.dumps(body).encode(),
            self.headers,
        )
        try:
            text = _post(request, seconds)
        except urllib.error.HTTPError as error:
            reason = _reason(error)
            if error.code in _AGAIN_HTTP:
                raise _Busy(reason) from None
            raise ServingError(f"server: {reason}") from None
        except http.client.BadStatusLine as error:
            if isinstance(error, http.client.RemoteDisconnected):
                raise _Busy("the connection was closed") from None
            raise ServingError(_WRONG_PORT.format("HTTP")) from None
        except (OSError, http.client.HTTPException) as error:
            why = getattr(error, "reason", None) or error
            raise _Busy(_line(str(why) or type(error).__name__)) from None
        if len(text) > ANSWER:
            raise ServingError(f"server: {self.place} answers more than {ANSWER} bytes")
        return read_outputs(text, self.place)


def _post(request: urllib.request.Request, seconds: float) -> bytes:
    """The answer's first `ANSWER` bytes and one; no redirection is followed.

    A socket's timeout is for each of its reads: a server that sends a byte now and then
    would have all of them. So the connection is shut when the time is over.

    Raises:
        OSError, http.client.HTTPException: no answer, or none within the seconds.
    """
    opened: list[socket.socket] = []

    class Plain(urllib.request.HTTPHandler):
        def http_open(self, req: urllib.request.Request) -> Any:
            return self.do_open(_watched(http.client.HTTPConnection, opened), req)

    class Secure(urllib.request.HTTPSHandler):
        def https_open(self, req: urllib.request.Request) -> Any:
            return self.do_open(_watched(http.client.HTTPSConnection, opened), req)

    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler,
        Plain,
        Secure,
        urllib.request.HTTPDefaultErrorHandler,
        urllib.request.HTTPErrorProcessor,
    ):
        opener.add_handler(handler())
    late = threading.Event()

    def shut() -> None:
        late.set()
        for each in opened:
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)

    watch = threading.Timer(seconds, shut)
    watch.start()
    try:
        with opener.open(request, timeout=seconds) as answer:
            text: bytes = answer.read(ANSWER + 1)
    except urllib.error.HTTPError as error:
        error.read = functools.partial(error.read, REASON)  # type: ignore[method-assign]
        raise
    except Exception:
        if late.is_set():
            raise TimeoutError(f"no answer within {seconds:.3g} s") from None
        raise
    finally:
        watch.cancel()
    if late.is_set():
        raise TimeoutError(f"no whole answer within {seconds:.3g} s")
    return text


def _watched(kind: Any, opened: list[socket.socket]) -> Any:
    """A connection whose socket is put into a list."""

    class Connection(kind):  # type: ignore[misc]
        def connect(self) -> None:
            super().connect()
            opened.append(self.sock)

    return Connection


def read_outputs(text: bytes, place: str) -> Arrays:
    """The arrays of a prediction in JSON.

    Raises:
        ServingError: it is none.
    """
    try:
        outputs = json.loads(text)["outputs"]
        if not isinstance(outputs, dict):  # a single output comes by itself
            outputs = {"features": outputs}
        return {
            name: np.asarray(
                value, None if name in ("labels", "classes") else np.float32
            )
            for name, value in outputs.items()
        }
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
        raise ServingError(
            f"server: {place} answers what is no prediction: {text[:80]!r}"
        ) from None


def _as_json(array: np.ndarray) -> Any:
    if array.dtype != object:
        return array.tolist()
    return [{"b64": base64.b64encode(each).decode()} for each in array]


def _reason(error: urllib.error.HTTPError) -> str:
    """What the server says of it, on one line."""
    try:
        said = json.loads(error.read())["error"]
    except (ValueError, KeyError, TypeError, OSError, http.client.HTTPException):
        said = error.reason
    return f"{error.code}, {_line(str(said))}"


def _line(text: str) -> str:
    return one_line(Exception(text.strip() or "no reason is given"))[:500]


class _Grpc:
    """TF Serving's PredictionService. Its messages need TensorFlow."""

    def __init__(
        self,
        parts: urllib.parse.SplitResult,
        name: str,
        version: int | None,
        label: str | None,
    ) -> None:
        import grpc
        from tensorflow_serving.apis import model_pb2, prediction_service_pb2_grpc

        sizes = {
            "grpc.max_receive_message_length": ANSWER,
            "grpc.max_send_message_length": 2**28,
        }
        self.channel = grpc.insecure_channel(parts.netloc, list(sizes.items()))
        self.stub = prediction_service_pb2_grpc.PredictionServiceStub(self.channel)
        self.spec = model_pb2.ModelSpec(
            name=urllib.parse.unquote(name), version_label=label
        )
        if version is not None:
            self.spec.version.value = version

    def close(self) -> None:
        self.channel.close()

    def ask(self, signature: str, inputs: Arrays, seconds: float) -> Arrays:
        import grpc
        import tensorflow as tf
        from tensorflow_serving.apis import predict_pb2

        request = predict_pb2.PredictRequest(
            model_spec=self.spec,
            inputs={
                name: tf.make_tensor_proto(
                    array.tolist() if array.dtype == object else array
                )
                for name, array in inputs.items()
            },
        )
        request.model_spec.signature_name = signature
        try:
            answer = self.stub.Predict(request, timeout=seconds)
        except grpc.RpcError as error:
            if re.search("http1|parsing HTTP", error.details() or ""):
                raise ServingError(_WRONG_PORT.format("gRPC")) from None
            reason = f"{error.code().name}, {_line(error.details() or '')}"
            if error.code().name in _AGAIN_GRPC:
                raise _Busy(reason) from None
            raise ServingError(f"server: {reason}") from None
        return read_tensors(answer.outputs)


def read_tensors(outputs: Mapping[str, Any]) -> Arrays:
    """The arrays of a prediction's messages.

    Raises:
        ServingError: one is no tensor.
    """
    import tensorflow as tf

    try:
        return {name: tf.make_ndarray(value) for name, value in outputs.items()}
    except Exception as error:  # of whatever a message may hold
        raise ServingError(
            f"server: answers what is no tensor: {one_line(error)}"
        ) from None


def _pixels(images: np.ndarray) -> np.ndarray:
    images = np.asarray(images)
    if images.dtype not in (np.uint8, np.float32) or images.ndim < 2 or not images.size:
        raise ServingError(
            f"images: {images.dtype} of shape {list(images.shape)} are not uint8 or "
            "float32 of shape (batch, height, width, channels)"
        )
    return images


def _content(path: Path) -> bytes:
    try:
        return read_file(path)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ServingError(f"image: can't read {path}: {reason}") from None


def _checked(content: bytes, name: str) -> bytes:
    """An encoded image that a server can decode.

    Raises:
        ServingError: it is none, too large, or broken.
    """
    if not isinstance(content, bytes):
        raise ServingError(
            f"image: {name} is {type(content).__name__}, not the bytes of an image"
        )
    try:
        pixels = open_image(content, 3, name).load(1)
    except DataError as error:
        raise ServingError(str(error)) from None
    if _served(content):
        return content
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def _served(content: bytes) -> bool:
    """Whether a server reads an image as we do: no camera's note, no long animation."""
    if is_plain_jpeg(content):
        return True
    with Image.open(io.BytesIO(content)) as image:
        modes = MODES.get(image.format or "", ())
        long = image.format == "GIF" and len(content) > MAX_GIF
        cut = image.format == "PNG" and b"IEND" not in content  # Pillow minds not
        if image.mode not in modes or long or cut:
            return False
        try:
            return bool(image.getexif().get(0x0112, 1) == 1)
        except Exception:  # a note that can't be read turns nothing
            return True


def check_answers(
    found: Mapping[str, np.ndarray], count: int, *, multi_label: bool = False
) -> Answers:
    """What a server answers of so many images, if it can be.

    Raises:
        ServingError: other outputs, or no probabilities, classes and labels; or, of a
            regression, no values and labels.
    """
    found = _completed(found)
    labels = _output(found, "labels", count, 2, "OSU")
    texts = [[_text(each) for each in row] for row in labels.tolist()]
    if "values" in found and "probabilities" not in found:
        values = _output(found, "values", count, 2, "f").astype(np.float32)
        if values.shape != labels.shape:
            raise ServingError("server: it answers other values than it names")
        _check_texts(texts, values.shape[1])
        none = np.zeros((count, 0), np.float32)
        return Answers(none, np.zeros(0, np.int64), texts, values)
    probabilities = _output(found, "probabilities", count, 2, "f").astype(np.float32)
    classes = _output(found, "classes", count, 1, "i").astype(np.int64)
    sums = probabilities.sum(axis=-1)
    for what, wrong in (
        ("probabilities that are none", (probabilities < 0) | (probabilities > 1)),
        (
            "probabilities that don't sum to one (multi_label, --multi-label, where an "
            "image may have several)",
            not multi_label and (np.abs(sums - 1) > 1e-2),
        ),
        (
            "classes that aren't there",
            (classes < 0) | (classes >= probabilities.shape[1]),
        ),
    ):
        if np.any(wrong):
            raise ServingError(f"server: it answers {what}")
    _check_texts(texts, probabilities.shape[1])
    return Answers(probabilities, classes, texts)


def _check_texts(texts: list[list[str]], most: int) -> None:
    for row in texts:
        try:
            check_names(row, most)
        except LimitError as error:
            raise ServingError(f"server: its labels: {error}") from None


def _completed(found: Mapping[str, np.ndarray]) -> Mapping[str, np.ndarray]:
    """With classes by their numbers, where probabilities come alone.

    So OpenVINO Model Server answers of our files, which have no other output.
    """
    if found.keys() != {"probabilities"} or found["probabilities"].ndim != 2:
        return found
    probabilities = found["probabilities"]
    best = np.argsort(-probabilities, axis=-1, kind="stable")[:, :_TOP]
    return {**found, "classes": best[:, 0], "labels": best.astype(str)}


def _text(value: Any) -> str:
    text = value.decode(errors="replace") if isinstance(value, bytes) else str(value)
    return message(text)


def _output(
    found: Mapping[str, np.ndarray], name: str, count: int, rank: int, kinds: str
) -> np.ndarray:
    """An output that has a row for each image, of one of the kinds of dtypes."""
    value = found.get(name)
    fits = value is not None and value.ndim == rank and len(value) == count
    if value is None or not fits or value.dtype.kind not in kinds:
        given = None if value is None else f"{value.dtype} {list(value.shape)}"
        raise ServingError(
            f"server: {name} of {count} images are {given}; this is no model of "
            "keras_resnet"
        )
    if kinds == "f" and not np.isfinite(value).all():
        raise ServingError(f"server: {name} are no finite numbers")
    return value
