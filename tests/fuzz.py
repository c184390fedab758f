"""Damaged and made-up bytes for every reader of what others hand us.

    python tests/fuzz.py [--count N] [--minutes M] [--reader NAME] [--seed N]

Each reader, a row of `READERS`, runs in a process of its own. It gets valid inputs with
bits flipped, parts cut, doubled or filled with what is rare, and JSON with values of
other kinds. It may take one, or refuse it by a `UserError` of one line: no other error,
crash, hang, or memory above the row's.
"""

from __future__ import annotations

import argparse
import gzip
import io
import json
import os
import random
import resource
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).parents[1]
PREVIOUS = ROOT / "tests/golden/previous"
SECONDS = 30  # of one input
MIB = 2**20

Make = Callable[[Path], dict[str, bytes]]
Read = Callable[[Path], Any]


class Reader(NamedTuple):
    """A reader of foreign bytes.

    Attributes:
        make: writes nothing; valid inputs by the name of their file.
        read: reads the file, and checks what it took.
        share: of the inputs, 1 for a reader of microseconds.
        memory: MiB that the process may take above what it began with.
    """

    make: Make
    read: Read
    share: float = 1.0
    memory: int = 512


# Valid inputs.


def _text(path: Path) -> Make:
    return lambda _: {path.name: path.read_bytes()}


def _spec(_: Path) -> dict[str, bytes]:
    from keras_resnet import get_spec

    return {"spec.json": get_spec("cifar_resnext29_8x64d").to_json().encode()}


def _images(_: Path) -> dict[str, bytes]:
    import numpy as np
    from PIL import Image

    photo = np.random.default_rng(0).integers(0, 256, (24, 20, 3), np.uint8)
    found = {}
    for suffix in ("jpg", "png", "gif", "bmp", "tiff", "webp", "ppm", "ico", "tga"):
        file = io.BytesIO()
        image = Image.fromarray(photo)
        if suffix == "gif":
            image.save(file, "GIF", save_all=True, append_images=[image] * 3)
        else:
            image.save(file, Image.registered_extensions()[f".{suffix}"])
        found[f"image.{suffix}"] = file.getvalue()
    return found


def _npz(_: Path) -> dict[str, bytes]:
    import numpy as np

    x, y = np.zeros((20, 8, 8, 1), np.uint8), np.arange(20) % 2
    found = {}
    for name, save in (("a.npz", np.savez), ("b.npz", np.savez_compressed)):
        file = io.BytesIO()
        save(file, x_train=x, y_train=y, class_names=np.array(["a", "b"]))
        found[name] = file.getvalue()
    return found


def _idx(_: Path) -> dict[str, bytes]:
    content = struct.pack(">BBBBIII", 0, 0, 8, 3, 5, 8, 8) + bytes(320)
    return {"a-idx3-ubyte": content, "b-idx3-ubyte.gz": gzip.compress(content)}


def _network() -> Any:
    from keras_resnet import build, cifar_resnet

    return build(cifar_resnet(8, input_shape=(8, 8, 3), stem_width=4, widths=(4, 8, 8)))


def _keras(folder: Path) -> dict[str, bytes]:
    from keras_resnet import files

    model = _network()
    model.save(folder / "a.keras")
    plain = (folder / "a.keras").read_bytes()
    files.seal(folder / "a.keras")
    return {"a.keras": plain, "b.keras": (folder / "a.keras").read_bytes()}


def _h5(folder: Path) -> dict[str, bytes]:
    _network().save_weights(folder / "a.weights.h5")
    return {"a.weights.h5": (folder / "a.weights.h5").read_bytes()}


def _safetensors(folder: Path) -> dict[str, bytes]:
    from keras_resnet import weights

    weights.save(_network(), folder / "a.safetensors")
    return {"a.safetensors": (folder / "a.safetensors").read_bytes()}


def _pth(folder: Path) -> dict[str, bytes]:
    from keras_resnet import weights

    weights.save(_network(), folder / "a.pth")
    return {"a.pth": (folder / "a.pth").read_bytes()}


def _checkpoint(folder: Path) -> dict[str, bytes]:
    import numpy as np

    from keras_resnet.files import SEAL
    from keras_resnet.training.checkpoints import Checkpoint, write

    write(folder, Checkpoint(1, 0, 1.0, 0.1, [{"loss": 1.0}], [np.zeros((9, 9))]))
    [path] = (folder / "checkpoint").iterdir()
    sealed = path.read_bytes()
    shutil.rmtree(folder / "checkpoint")
    return {"a.npz": sealed, "b.npz": sealed[: -len(SEAL) - 32]}


def _events(folder: Path) -> dict[str, bytes]:
    from keras_resnet.tracking.buffer import Buffer

    buffer = Buffer(folder / "made")
    buffer.append("start", store="s", run="0" * 32, name="n", experiment="e",
                  parent_folder=None, parent_id=None)  # fmt: skip
    buffer.append("params", params={"depth": "8"})
    buffer.append("metrics", metrics={"loss": 1.0}, step=1)
    buffer.append("child", folder="below")
    buffer.append("file", path="recipe.json")
    buffer.append("end", status="FINISHED")
    events = (folder / "made/tracking/events.jsonl").read_bytes()
    shutil.rmtree(folder / "made")
    return {"events.jsonl": events}


def _sent(_: Path) -> dict[str, bytes]:
    told = {"offset": 0, "run_id": "x", "model_id": None, "error": None, "refused": []}
    return {"sent.json": json.dumps({"s": told}).encode()}


def _rest(_: Path) -> dict[str, bytes]:
    outputs = {"probabilities": [[0.75, 0.25]], "classes": [0], "labels": [["a", "b"]]}
    return {"answer.json": json.dumps({"outputs": outputs}).encode()}


def _grpc(_: Path) -> dict[str, bytes]:
    import numpy as np
    import tensorflow as tf
    from tensorflow_serving.apis import predict_pb2

    answer = predict_pb2.PredictResponse()
    for name, value in {
        "probabilities": np.array([[0.75, 0.25]], "f4"),
        "classes": np.array([0], "i8"),
        "labels": np.array([[b"a", b"b"]], object),
    }.items():
        answer.outputs[name].CopyFrom(tf.make_tensor_proto(value))
    return {"answer.pb": answer.SerializeToString()}


def _hub(_: Path) -> dict[str, bytes]:
    config = {
        "architecture": "resnet50",
        "num_classes": 1000,
        "pretrained_cfg": {
            "input_size": [3, 224, 224],
            "mean": [0.485, 0.456, 0.406],
            "std": [0.229, 0.224, 0.225],
            "crop_pct": 0.95,
            "num_classes": 1000,
        },
    }
    return {"config.json": json.dumps(config).encode()}


# What reads them.


def _record(kind: str) -> Read:
    def read(path: Path) -> None:
        import tuning
        from keras_resnet import ResNetSpec, make_plan
        from keras_resnet.training import Recipe

        text = path.read_bytes().decode(errors="surrogateescape")
        if kind == "spec":
            made = ResNetSpec.from_json(text)
            make_plan(made)
        else:
            made = {"recipe": Recipe, "space": tuning.Space}[kind].from_json(text)
        assert type(made).from_json(made.to_json()) == made

    return read


def _read_run(path: Path) -> None:
    """A file of a run folder, the others as they were."""
    from keras_resnet.run import Run

    folder = path.parent / "run"
    shutil.copytree(PREVIOUS / "finished", folder, dirs_exist_ok=True)
    shutil.copy(path, folder / path.name)
    run = Run(folder)
    run.describe(), run.unfinished, run.read_samples()
    assert all(isinstance(row, dict) for row in run.history)


def _read_search(path: Path) -> None:
    from tuning.selection import read_result

    folder = path.parent / "search"
    shutil.copytree(PREVIOUS / "search", folder, dirs_exist_ok=True)
    place = next(folder.rglob(path.name))
    shutil.copy(path, place)
    read_result(folder)


def _read_image(path: Path) -> None:
    from keras_resnet.data.image_files import MAX_PIXELS, read_image

    pixels = read_image(path, (None, None, 3))
    assert pixels.dtype == "uint8"
    assert 0 < pixels.size <= 3 * MAX_PIXELS


def _send_image(path: Path) -> None:
    from keras_resnet.serving.client import _checked

    _checked(path.read_bytes(), "image")


def _read_npz(path: Path) -> None:
    from keras_resnet import data

    splits = data.load(str(path), batch_size=4)
    assert splits.classes >= 1


def _read_idx(path: Path) -> None:
    from keras_resnet.data.idx import read_idx

    assert read_idx(path, 3).ndim == 3


def _load_keras(path: Path) -> None:
    import numpy as np

    from keras_resnet import files
    from keras_resnet.errors import UserError

    try:
        model = files.load_keras(path)
    except ValueError as error:  # every caller puts the file's name before it
        raise UserError(str(error)) from None
    assert all(np.isfinite(weight).all() for weight in model.get_weights())


_models: list[Any] = []


def _load_weights(path: Path) -> None:
    import numpy as np

    from keras_resnet import weights

    if not _models:
        _models.append(_network())
    weights.load(_models[0], path)
    assert all(np.isfinite(weight).all() for weight in _models[0].get_weights())


def _read_checkpoint(path: Path) -> None:
    from keras_resnet.training.checkpoints import read_last

    folder = path.parent / "run"
    place = folder / "checkpoint"
    place.mkdir(parents=True, exist_ok=True)
    shutil.copy(path, place / "000001-00000000.npz")
    found = read_last(folder)
    assert found is None or found.epoch >= 0


def _read_events(path: Path) -> None:
    from keras_resnet.tracking.buffer import Buffer

    folder = path.parent / "run"
    (folder / "tracking").mkdir(parents=True, exist_ok=True)
    shutil.copy(path, folder / "tracking" / path.name)
    buffer = Buffer(folder)
    if path.name != "events.jsonl":
        made = _events(path.parent)["events.jsonl"]
        (folder / "tracking/events.jsonl").write_bytes(made)
    sent = buffer.sent("s")
    for event in buffer.events(sent.offset):
        assert event.time >= 0
    for each in buffer.family():
        assert each.run.resolve().is_relative_to(folder.resolve())
    buffer.store(), buffer.parent(), buffer.unsent("s")


def _read_saved_model(path: Path) -> None:
    from keras_resnet import serving

    folder = path.parent / "1"
    shutil.copytree(PREVIOUS / "export/1", folder, dirs_exist_ok=True)
    shutil.copy(path, next(folder.rglob(path.name)))
    serving.describe(folder)
    if path.suffix in (".json", ".txt"):  # a graph is a program, and is trusted
        serving.load(folder)


def _read_rest(path: Path) -> None:
    from keras_resnet.serving.client import check_answers, read_outputs

    answers = check_answers(read_outputs(path.read_bytes(), "server"), 1)
    assert 0 <= answers.classes[0] < answers.probabilities.shape[1]
    assert all(label.isprintable() for row in answers.labels for label in row)


def _read_grpc(path: Path) -> None:
    from google.protobuf.message import DecodeError
    from tensorflow_serving.apis import predict_pb2

    from keras_resnet.errors import UserError
    from keras_resnet.serving.client import check_answers, read_tensors

    answer = predict_pb2.PredictResponse()
    try:
        answer.ParseFromString(path.read_bytes())
    except DecodeError as error:  # grpc's own, before us
        raise UserError(str(error)) from None
    answers = check_answers(read_tensors(answer.outputs), 1)
    assert 0 <= answers.classes[0] < answers.probabilities.shape[1]


def _read_hub(path: Path) -> None:
    from keras_resnet.errors import UserError
    from keras_resnet.weights import descriptions

    try:
        config = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise UserError(str(error)) from None
    if isinstance(config, dict):
        descriptions.described(config, "hf:a/b")


READERS: dict[str, Reader] = {
    "spec": Reader(_spec, _record("spec")),
    "recipe": Reader(_text(PREVIOUS / "golden.json"), _record("recipe")),
    "space": Reader(_text(PREVIOUS / "space.json"), _record("space")),
    "run": Reader(
        lambda _: {
            name: (PREVIOUS / "finished" / name).read_bytes()
            for name in ("recipe.json", "data.json", "history.jsonl", "result.json")
        },
        _read_run,
        0.5,
    ),
    "search": Reader(
        lambda _: {
            path.name: path.read_bytes()
            for path in (PREVIOUS / "search").rglob("*.json")
        },
        _read_search,
        0.3,
    ),
    "images": Reader(_images, _read_image),
    "images to send": Reader(_images, _send_image, 0.5),
    "npz": Reader(_npz, _read_npz, 0.05),
    "idx": Reader(_idx, _read_idx),
    "keras": Reader(_keras, _load_keras, 0.02),
    "weights of keras": Reader(_keras, _load_weights, 0.02),
    "weights.h5": Reader(_h5, _load_weights, 0.05),
    "safetensors": Reader(_safetensors, _load_weights),
    "pth": Reader(_pth, _load_weights, 0.3),
    "checkpoint": Reader(_checkpoint, _read_checkpoint, 0.5),
    "events": Reader(_events, _read_events),
    "sent": Reader(_sent, _read_events),
    "saved model": Reader(
        lambda _: {
            path.name: path.read_bytes()
            for path in (PREVIOUS / "export/1").rglob("*")
            if path.name in ("model.json", "labels.txt", "saved_model.pb")
        },
        _read_saved_model,
        0.05,
    ),
    "REST answer": Reader(_rest, _read_rest),
    "gRPC answer": Reader(_grpc, _read_grpc),
    "hub's config": Reader(_hub, _read_hub),
}

# What is rare: JSON's values and bytes.
RARE = (
    None, True, False, 0, -1, 1, 2**31, 2**63, -(2**64), 10**400, 0.0, -0.5, 1e308,
    float("nan"), float("inf"), "", "a", "\x00", "\x1b[2J", "\u202e", "/etc/passwd",
    "../../..", "a" * 3000, [], [[]], [None], [1, "a"], {}, {"a": {}}, "\ud800",
)  # fmt: skip
CHUNKS = (b"", b"\0" * 8, b"\xff" * 8, b"\x7f\xff\xff\xff", b"\xff\xff\xff\x7f", b"{[")


def mutate(content: bytes, draw: random.Random) -> bytes:
    """Another input, from a valid one."""
    kind = draw.randrange(7)
    if kind < 3 and content[:1] in (b"{", b"["):
        lines = content.split(b"\n") if content.count(b"\n{") else [content]
        i = draw.randrange(len(lines))
        try:
            told = json.loads(lines[i])
            for _ in range(draw.choice((1, 1, 1, 3))):
                told = _changed(told, draw)
            lines[i] = json.dumps(told).encode(errors="surrogatepass")
            return b"\n".join(lines)
        except ValueError:
            pass
    data = bytearray(content)
    if kind < 4:
        for _ in range(draw.choice((1, 1, 2, 8))):
            if data:
                data[draw.randrange(len(data))] ^= 1 << draw.randrange(8)
    elif kind == 4:
        del data[draw.randrange(len(data) + 1) :]
    elif kind == 5:
        start = draw.randrange(len(data) + 1)
        chunk = draw.choice(CHUNKS)
        data[start : start + len(chunk) + draw.randrange(4)] = chunk
    else:
        start, end = sorted(draw.randrange(len(data) + 1) for _ in range(2))
        part = data[start : min(end, start + 4096)]
        at = draw.randrange(len(data) + 1)
        data[at:at] = part
    return bytes(data)


def _changed(told: Any, draw: random.Random) -> Any:
    """JSON with one value of another kind."""
    if isinstance(told, dict) and told and draw.random() < 0.8:
        name = draw.choice(list(told))
        if draw.random() < 0.1:
            return {k: v for k, v in told.items() if k != name}
        if draw.random() < 0.05:
            return told | {draw.choice(("x", "", name + "s")): draw.choice(RARE)}
        return told | {name: _changed(told[name], draw)}
    if isinstance(told, list) and told and draw.random() < 0.6:
        i = draw.randrange(len(told))
        return [*told[:i], _changed(told[i], draw), *told[i + 1 :]]
    return draw.choice(RARE)


@contextmanager
def _limited() -> Iterator[None]:
    """A hang is an error."""

    def late(*_: object) -> None:
        raise TimeoutError(f"more than {SECONDS} s")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(SECONDS)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def run(name: str, count: int, seed: int = 0, seconds: float = 1e9) -> dict[str, Any]:
    """Feeds a reader; what came of it.

    Raises:
        AssertionError: anything but an answer or a refusal in one line, with the input.
    """
    from keras_resnet.errors import UserError
    from keras_resnet.limits import MESSAGE

    reader, draw = READERS[name], random.Random(f"{name} {seed}")
    found: Counter[str] = Counter()
    end = time.monotonic() + seconds
    with (
        tempfile.TemporaryDirectory() as place,
        warnings.catch_warnings(action="ignore"),
    ):
        folder = Path(place)
        valid = reader.make(folder)
        for file, content in valid.items():
            (folder / file).write_bytes(content)
            reader.read(folder / file)
        before = _peak()
        for i in range(count):
            if time.monotonic() > end:
                break
            file = draw.choice(list(valid))
            content = mutate(valid[file], draw)
            path = folder / file
            path.write_bytes(content)
            try:
                with _limited():
                    reader.read(path)
            except UserError as error:
                told = str(error)
                assert told.isprintable(), f"{name}, input {i}: {told!r}"
                assert 0 < len(told) <= MESSAGE, f"{name}, input {i}: {told!r}"
                found["refused"] += 1
            except BaseException as error:
                kept = Path(tempfile.gettempdir()) / f"fuzz-{path.name}"
                shutil.copy(path, kept)
                raise AssertionError(
                    f"{name}, input {i} of seed {seed}, kept as {kept}: {error!r}"
                ) from error
            else:
                found["taken"] += 1
    taken = (_peak() - before) / MIB
    assert taken < reader.memory, f"{name}: {taken:.0f} MiB more"
    return {**found, "inputs": found.total(), "MiB": round(taken)}


def _peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def available() -> list[str]:
    """Readers that run here: `.pth` needs torch."""
    from keras_resnet.weights.torch_files import has_torch

    return [name for name in READERS if name != "pth" or has_torch()]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--reader", action="append", choices=list(READERS))
    parser.add_argument("--count", type=int, default=3000, help="Of the quick ones.")
    parser.add_argument("--minutes", type=float, default=1e6, help="Of each reader.")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--here", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.here:
        [name] = given.reader
        count = max(1, round(given.count * READERS[name].share))
        print(json.dumps(run(name, count, given.seed, 60 * given.minutes)))
        return
    failed, total = False, 0
    for name in given.reader or available():
        command = [sys.executable, __file__, "--here", "--reader", name]
        command += ["--count", str(given.count), "--seed", str(given.seed)]
        command += ["--minutes", str(given.minutes)]
        environment = os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3"}
        done = subprocess.run(
            command, env=environment, capture_output=True, text=True, check=False
        )
        if done.returncode:
            failed = True
            told = done.stderr.strip().splitlines()[-1:]
            print(f"{name}: exit code {done.returncode}: {told}", flush=True)
            continue
        told = json.loads(done.stdout.splitlines()[-1])
        total += told["inputs"]
        print(f"{name}: {told}", flush=True)
    print(f"{total} inputs")
    raise SystemExit(failed)


if __name__ == "__main__":
    main()
