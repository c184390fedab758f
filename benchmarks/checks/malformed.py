"""Malformed requests to an exported model: each must be refused, none may harm.

    python -m benchmarks.checks.malformed models/mine/1 [--count 10000]

The model is loaded through TensorFlow's C API (`serving.native`), as TF Serving loads
it. Image bytes go to the client's check as well, which refuses what is no image; and
for each request the client reads an answer in broken JSON.
"""

from __future__ import annotations

import collections
import io
import json
import re
import struct
import time
import zlib
from pathlib import Path

import click
import numpy as np
from PIL import Image

from keras_resnet.serving import NativeModel
from keras_resnet.serving.client import (
    ServingError,
    _checked,
    check_answers,
    read_outputs,
)
from keras_resnet.serving.native import NativeError


def encoded(image, form):
    file = io.BytesIO()
    Image.fromarray(image).save(file, form)
    return file.getvalue()


def strings(*texts):
    array = np.empty(len(texts), object)
    array[:] = texts
    return array


def png_bomb(width, height):
    """A PNG of a few bytes a row of pixels."""

    def chunk(kind, body):
        return (
            struct.pack(">I", len(body))
            + kind
            + body
            + struct.pack(">I", zlib.crc32(kind + body))
        )

    row = zlib.compress(b"\0" * min((width + 1) * height, 2**22), 9)
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", row)
        + chunk(b"IEND", b"")
    )


class Maker:
    """Draws malformed requests: (kind, signature, inputs)."""

    def __init__(self, shape, limit, seed):
        self.shape, self.limit = tuple(shape), limit
        self.random = np.random.default_rng(seed)
        photo = self.random.integers(0, 256, (40, 60, 3), np.uint8)
        self.files = {
            form: encoded(photo, form) for form in ("JPEG", "PNG", "GIF", "BMP")
        }
        self.kinds = (
            self.shapes, self.types, self.names, self.batches, self.noise,
            self.truncated, self.headers, self.bombs, self.mixed,
        )  # fmt: skip

    def draw(self):
        kind = self.kinds[self.random.integers(len(self.kinds))]
        return kind.__name__, *kind()

    def pick(self, *choices):
        return choices[self.random.integers(len(choices))]

    def shapes(self):
        name = self.pick("serving_default", "serving_float", "features")
        rank = int(self.random.integers(0, 6))
        shape = tuple(self.random.integers(0, 40, rank).tolist())
        if len(shape) == 4 and shape[1:] == self.shape:
            shape = shape[:-1]
        dtype = np.float32 if name == "serving_float" else np.uint8
        return name, {"images": np.zeros(shape, dtype)}

    def types(self):
        dtype = self.pick(np.float32, np.int32, np.int64, np.bool_)
        name = self.pick("serving_default", "features")
        return name, {"images": np.zeros((1, *self.shape), dtype)}

    def names(self):
        return self.pick(
            ("no_signature", {"images": np.zeros((1, *self.shape), np.uint8)}),
            ("serving_default", {"image": np.zeros((1, *self.shape), np.uint8)}),
            ("image_bytes", {}),
        )

    def batches(self):
        count = self.limit + int(self.random.integers(1, self.limit))
        if self.random.random() < 0.5:
            return "image_bytes", {"image_bytes": strings(*[self.files["PNG"]] * count)}
        return "serving_default", {"images": np.zeros((count, *self.shape), np.uint8)}

    def noise(self):
        text = self.random.bytes(int(self.random.integers(0, 200)))
        return "image_bytes", {"image_bytes": strings(b"?" + text)}

    def truncated(self):
        form = self.pick("JPEG", "PNG", "BMP")
        file = self.files[form]
        end = int(self.random.integers(0, len(file) - len(file) // 8))
        return "image_bytes", {"image_bytes": strings(file[:end])}

    def headers(self):
        """A header and then noise."""
        form = self.pick("JPEG", "PNG", "GIF", "BMP")
        head = self.files[form][: int(self.random.integers(2, 14))]
        text = head + self.random.bytes(int(self.random.integers(0, 400)))
        return "image_bytes", {"image_bytes": strings(text)}

    def bombs(self):
        side = int(self.random.integers(6000, 65536))
        size = struct.pack("<HH", side, side)
        gif = self.files["GIF"]
        bmp = self.files["BMP"]
        jpeg = self.files["JPEG"]
        at = jpeg.index(b"\xff\xc0") + 5
        return "image_bytes", {
            "image_bytes": strings(
                self.pick(
                    png_bomb(side, side),
                    png_bomb(2**31 - 1, 2**31 - 1),
                    gif[:6] + size + gif[10:],
                    gif + b"\0" * 2**18,
                    bmp[:18] + struct.pack("<ii", side, -side) + bmp[26:],
                    jpeg[:at] + struct.pack(">HH", side, side) + jpeg[at + 4 :],
                )
            )
        }

    def mixed(self):
        """Sound images and one that is not."""
        bad = self.random.bytes(20)
        sound = list(self.files.values())
        return "image_bytes", {"image_bytes": strings(*sound, b"?" + bad)}

    def answer(self):
        """A server's answer about one image, cut, overwritten or of other types."""
        text = bytearray(ANSWER)
        match self.random.integers(5):
            case 0:
                return bytes(text[: self.random.integers(len(text))])
            case 1:
                for at in self.random.integers(len(text), size=4):
                    text[at] = self.random.integers(256)
            case 2:
                return self.random.bytes(int(self.random.integers(100)))
            case 3:
                depth = int(self.random.integers(1, 10**5))
                return b'{"outputs": ' + self.pick(b"[", b'{"a":') * depth
            case 4:
                told = json.loads(ANSWER)
                name = self.pick(*told["outputs"])
                told["outputs"][name] = self.pick(
                    None, 1, "a", {}, [], [None], [[None]], [[[1]]], [1, 2], [[1], []],
                    [10**400], [[10**400]], [1.5], ["a"], [{}], [[{}]], [True],
                )  # fmt: skip
                return json.dumps(told).encode()
        return bytes(text)


ANSWER = json.dumps(
    {"outputs": {"probabilities": [[0.75, 0.25]], "classes": [0], "labels": [["a"]]}}
).encode()


def sound(model, maker):
    """Whether a sound request is answered."""
    inputs = {"image_bytes": strings(*maker.files.values())}
    return len(model.run("image_bytes", inputs)["probabilities"]) == len(maker.files)


def read_images(texts):
    """Whether the client sends them; anything but its own error ends this program."""
    try:
        for each in texts:
            _checked(each, "image")
    except ServingError:
        return "images refused"
    return "images sent"


def read_answer(text):
    """Likewise, whether the client takes an answer."""
    try:
        check_answers(read_outputs(text, "server"), 1)
    except ServingError:
        return "answers refused"
    return "answers taken"


@click.command()
@click.argument("version", type=click.Path(path_type=Path))
@click.option("--count", default=10_000, show_default=True)
@click.option("--seed", default=0, show_default=True)
@click.option("--json", "as_json", is_flag=True)
def main(version, count, seed, as_json):
    """Send malformed requests to the SavedModel of a version's folder."""
    described = json.loads((version / "assets" / "model.json").read_text())
    model = NativeModel(version, described["signatures"])
    maker = Maker(described["image_shape"], described["max_batch"], seed)
    before = sound(model, maker)
    started = time.perf_counter()
    kinds, messages, answered = collections.Counter(), collections.Counter(), []
    by_client = collections.Counter()
    for _ in range(count):
        kind, signature, inputs = maker.draw()
        kinds[kind] += 1
        try:
            model.run(signature, inputs)
        except NativeError as error:
            messages[str(error).split("}} ")[-1][:90]] += 1
        else:
            answered.append(kind)
        texts = inputs.get("image_bytes")
        if texts is not None and kind != "batches":
            by_client[read_images(texts)] += 1
        by_client[read_answer(maker.answer())] += 1
    found = {
        "requests": count,
        "refused": sum(messages.values()),
        "answered": collections.Counter(answered),
        "client": by_client,
        "kinds": kinds,
        "messages": dict(messages.most_common(40)),
        "sound_before": before,
        "sound_after": sound(model, maker),
        "seconds": time.perf_counter() - started,
        "peak_bytes": _peak(),
    }
    if as_json:
        click.echo(json.dumps(found))
        return
    for name, value in found.items():
        click.echo(f"{name}: {value}")


def _peak():
    """Bytes; `ru_maxrss` would count what started this process, too."""
    status = Path("/proc/self/status").read_text()
    return int(re.search(r"VmHWM:\s+(\d+)", status)[1]) * 1024


if __name__ == "__main__":
    main()
