"""What is read of what others hand us: other files, memory, pipes, long messages."""

from __future__ import annotations

import gzip
import io
import json
import os
import shutil
import struct
import warnings
import zipfile
from pathlib import Path

import h5py
import numpy as np
import pytest
import tensorflow as tf
from conftest import ROOT
from PIL import Image

from keras_resnet import build, cifar_resnet, data, files, hdf5, limits, weights
from keras_resnet.data import DataError
from keras_resnet.data.idx import read_idx
from keras_resnet.data.image_files import read_image
from keras_resnet.errors import RunFolderError, UserError, WeightsError
from keras_resnet.limits import LimitError
from keras_resnet.prediction import predict_files
from keras_resnet.run import Run, RunWarning
from keras_resnet.tracking.buffer import Buffer, Sent
from keras_resnet.training.checkpoints import Checkpoint, write
from keras_resnet.training.checkpoints import read_last as read_checkpoint


@pytest.fixture(scope="module")
def small():
    return build(cifar_resnet(8, input_shape=(8, 8, 3), stem_width=4, widths=(4, 8, 8)))


@pytest.fixture(scope="module")
def saved(small, tmp_path_factory):
    path = tmp_path_factory.mktemp("saved") / "net.keras"
    small.save(path)
    return path


def external_storage(file, group, name, data, secret):
    group.create_dataset(
        name, data.shape, "f4", external=[(str(secret), 0, h5py.h5f.UNLIMITED)]
    )


def external_link(file, group, name, data, secret):
    with h5py.File(secret.with_suffix(".h5"), "w") as other:
        other["data"] = data
    group[name] = h5py.ExternalLink(str(secret.with_suffix(".h5")), "/data")


def virtual_dataset(file, group, name, data, secret):
    with h5py.File(secret.with_suffix(".h5"), "w") as other:
        other["data"] = data
    layout = h5py.VirtualLayout(data.shape, "f4")
    layout[...] = h5py.VirtualSource(str(secret.with_suffix(".h5")), "data", data.shape)
    group.create_virtual_dataset(name, layout)


def soft_link_to_one(file, group, name, data, secret):
    external_link(file, file.create_group("elsewhere"), "x", data, secret)
    group[name] = h5py.SoftLink("/elsewhere/x")


def linked_group(file, group, name, data, secret):
    """The group around it lies in another file."""
    parent, place = file[group.name].parent, group.name
    with h5py.File(secret.with_suffix(".h5"), "w") as other:
        other["vars/0"] = data
    del parent[place]
    parent[place] = h5py.ExternalLink(str(secret.with_suffix(".h5")), "/vars")


FEATURES = [
    external_storage, external_link, virtual_dataset, soft_link_to_one, linked_group
]  # fmt: skip


@pytest.mark.parametrize("feature", FEATURES)
@pytest.mark.parametrize("kind", ["net.keras", "net.weights.h5"])
def test_hdf5_leads_to_no_other_file(small, saved, tmp_path, feature, kind):
    secret = tmp_path / "secret.bin"
    secret.write_bytes(bytes(2**16))
    path = tmp_path / kind
    inner = tmp_path / "model.weights.h5"
    with zipfile.ZipFile(saved) as archive:
        archive.extractall(tmp_path)
    with h5py.File(inner, "r+") as file:
        found = []
        file.visititems(
            lambda place, each: (
                found.append(place)
                if isinstance(each, h5py.Dataset) and place.startswith("layers/conv2d")
                else None
            )
        )
        old = file[found[0]]
        group, name, array = old.parent, old.name.rsplit("/", 1)[1], old[()]
        del group[name]
        feature(file, group, name, array, secret)
    if kind.endswith(".keras"):
        with zipfile.ZipFile(path, "w") as archive:
            for each in ("metadata.json", "config.json", "model.weights.h5"):
                archive.write(tmp_path / each, each)
        with pytest.raises(ValueError, match="another file"):
            files.load_keras(path)
    else:
        inner.rename(path)
    with pytest.raises(WeightsError, match=r"(leads to|lies in) another file"):
        weights.load(small, path)


@pytest.mark.parametrize("kind", ["net.keras", "net.weights.h5"])
def test_a_file_that_crashes_the_hdf5_library_is_refused(small, tmp_path, kind):
    inner = tmp_path / "model.weights.h5"
    small.save_weights(inner)
    content = bytearray(inner.read_bytes())
    kind_of_text = content.index(b"name\0") + 9  # of an attribute; one that is none
    content[kind_of_text] ^= 4
    path = tmp_path / kind
    path.write_bytes(content)
    if kind.endswith(".keras"):
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("config.json", "{}")
            archive.writestr("model.weights.h5", bytes(content))
        with pytest.raises(
            ValueError, match=r"the HDF5 library crashes on it \(signal"
        ):
            files.load_keras(path)
    with pytest.raises(WeightsError, match=r"the HDF5 library crashes on it \(signal"):
        weights.load(small, path)


def test_reading_hdf5_has_an_end(small, saved, tmp_path, monkeypatch):
    monkeypatch.setattr(hdf5, "SECONDS", 0.01)
    monkeypatch.setattr(hdf5, "RATE", 2**40)
    with pytest.raises(WeightsError, match="it takes over 0 s to read"):
        weights.load(small, saved)


def zeros(path, count):
    """A `.keras` whose weights unpack to so many zeros."""
    place = path.with_suffix(".h5")
    with h5py.File(place, "w") as file:
        file.create_dataset("zeros", (count,), "u1", chunks=(2**20,))
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("config.json", "{}")
        with archive.open("model.weights.h5", "w", force_zip64=True) as member:
            for _ in range(count >> 20):
                member.write(bytes(2**20))
    return path


def test_files_unpack_to_what_is_needed_and_fits_the_memory(
    small, tmp_path, monkeypatch
):
    path = zeros(tmp_path / "large.keras", 2**29)
    assert path.stat().st_size < 2**20
    with pytest.raises(WeightsError, match=r"512 MiB; at most 25\d are needed"):
        weights.load(small, path)
    monkeypatch.setattr(limits, "free_memory", lambda: 2**28)
    with pytest.raises(ValueError, match="it takes 512 MiB of memory; 256 are free"):
        files.load_keras(path)
    npz = tmp_path / "large.npz"
    with zipfile.ZipFile(npz, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x_train.npy", bytes(2**29))
    with pytest.raises(DataError, match="it takes 512 MiB of memory"):
        data.load(str(npz))
    idx = tmp_path / "large-idx3-ubyte.gz"
    head = struct.pack(">BBBBIII", 0, 0, 8, 3, 10, 28, 28)
    idx.write_bytes(gzip.compress(head + bytes(2**24)))
    with pytest.raises(DataError, match="unpacks to more than the 7,840 bytes"):
        read_idx(idx, 3)
    head = struct.pack(">BBBBIII", 0, 0, 8, 3, 2**20, 2**10, 1)
    idx.write_bytes(gzip.compress(head + bytes(99)))
    with pytest.raises(DataError, match="it takes 1,024 MiB of memory"):
        read_idx(idx, 3)


def test_free_memory_is_found():
    assert 2**20 < limits.free_memory() < 2**50


def test_pipes_and_devices_are_no_files(small, tmp_path):
    """A pipe would be waited for without end."""
    pipe = tmp_path / "pipe.png"
    os.mkfifo(pipe)
    for path, kind in ((pipe, "a pipe"), (Path("/dev/zero"), "a device")):
        with pytest.raises(DataError, match=f"it is {kind}"):
            read_image(path, (8, 8, 3))
    for suffix in (".keras", ".weights.h5", ".safetensors"):
        os.mkfifo(tmp_path / f"pipe{suffix}")
        with pytest.raises(WeightsError, match="pipe"):
            weights.load(small, tmp_path / f"pipe{suffix}")
    os.mkfifo(tmp_path / "pipe.npz")
    with pytest.raises(DataError, match="it is a pipe"):
        data.load(str(tmp_path / "pipe.npz"))
    run = ROOT / "tests/golden/previous/finished"
    with pytest.raises(UserError, match="it is a pipe"):
        predict_files(run, [pipe])


def test_a_message_is_short_and_clean():
    error = UserError("data: " + str(list(range(10**6))) + "; give a list of ten")
    assert len(str(error)) == limits.MESSAGE
    assert str(error).startswith("data: [0, 1, 2")
    assert str(error).endswith("give a list of ten")
    hostile = UserError("net: \x1b[2J\u202egnp.exe\u2066 \ud800 a\nb\x00\x9b \ufeff")
    assert str(hostile) == "net: ?[2J?gnp.exe? ? a b?? ?"
    assert str(UserError("Größe: 5 µm, 猫 ✓ 👩‍🔬")) == "Größe: 5 µm, 猫 ✓ 👩‍🔬"


def checkpoints(folder):
    random = np.random.default_rng(0)
    for epoch in (1, 2):
        arrays = [random.normal(size=(50, 40)), np.arange(5)]
        write(folder, Checkpoint(epoch, 0, 1.0, 0.1, [{"loss": 1.0}], arrays))
    return sorted((folder / "checkpoint").iterdir())


@pytest.mark.parametrize("part", ["start", "middle", "directory", "seal"])
def test_any_damage_of_a_checkpoint_gives_way_to_the_one_before(tmp_path, part):
    """Its checksum decides before anything is parsed."""
    _, last = checkpoints(tmp_path)
    whole = last.read_bytes()
    at = {"start": 0, "middle": 5000, "directory": len(whole) - 150, "seal": -3}[part]
    for offset in range(at, at + 3):
        for bit in range(8):
            damaged = bytearray(whole)
            damaged[offset] ^= 1 << bit
            last.write_bytes(damaged)
            with pytest.warns(RunWarning, match=r"is damaged \(its checksum"):
                assert read_checkpoint(tmp_path).epoch == 1
    last.write_bytes(whole)
    assert read_checkpoint(tmp_path).epoch == 2


def test_a_checkpoint_without_a_checksum_is_read(tmp_path):
    """As the previous version wrote them; and damages of it give way too."""
    _, last = checkpoints(tmp_path)
    length = len(files.SEAL) + 32
    whole = last.read_bytes()[:-length]
    last.write_bytes(whole)
    assert read_checkpoint(tmp_path).epoch == 2
    random = np.random.default_rng(0)
    for offset in random.integers(len(whole), size=200):
        damaged = bytearray(whole)
        damaged[offset] ^= 1 << random.integers(8)
        last.write_bytes(damaged)
        with warnings.catch_warnings(action="ignore"):
            assert read_checkpoint(tmp_path).epoch in (1, 2)  # where nothing lay


def test_a_sealed_model_that_changed_is_refused(saved, tmp_path):
    path = tmp_path / "net.keras"
    path.write_bytes(saved.read_bytes())
    files.seal(path)
    assert zipfile.ZipFile(path).testzip() is None
    assert files.load_keras(path).count_params() > 0
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(ValueError, match="its checksum differs"):
        files.load_keras(path)


def test_weights_that_are_no_numbers_are_refused(small, tmp_path):
    model = build(small.spec)
    model.layers[-1].bias.assign(np.full(10, np.nan))
    model.save(tmp_path / "nan.keras")
    with pytest.raises(ValueError, match="holds NaN or infinity"):
        files.load_keras(tmp_path / "nan.keras")
    with pytest.raises(WeightsError, match="NaN"):
        weights.load(small, tmp_path / "nan.keras")


def test_a_table_leads_to_no_device(tmp_path):
    os.mkfifo(tmp_path / "pipe.png")
    rows = []
    for i in range(8):
        Image.new("L", (8, 8), i).save(tmp_path / f"{i}.png")
        rows.append(f"{i}.png,{'ab'[i % 2]}")
    rows += ["/dev/zero,a", "pipe.png,b", "nul\0.png,a"]
    (tmp_path / "t.csv").write_text("\n".join(["path,label", *rows]))
    with warnings.catch_warnings(action="ignore"):
        splits = data.load(f"csv:{tmp_path / 't.csv'}", batch_size=2)
    assert sum(splits.counts.values()) == 8
    (tmp_path / "t.csv").write_text("path,label,label\n0.png,a,b")
    with pytest.raises(DataError, match="several columns 'label'"):
        data.load(f"csv:{tmp_path / 't.csv'}")
    for place in ("/dev/zero", tmp_path / "pipe.png"):
        for kind in ("csv", "tfrecord"):
            with pytest.raises(DataError, match="not a regular file"):
                data.load(f"{kind}:{place}")


def test_records_lie(tmp_path):
    image = io.BytesIO()
    Image.new("L", (8, 8)).save(image, "PNG")

    def write(label, **more):
        features = {"image": image.getvalue(), **more}
        with tf.io.TFRecordWriter(str(tmp_path / "x.tfrecord")) as file:
            for i in range(8):
                each = {**features, "label": label[i % 2]}
                values = {
                    name: {"bytes_list" if isinstance(v, bytes) else "int64_list": [v]}
                    for name, v in each.items()
                }
                example = tf.train.Example(
                    features={
                        "feature": {
                            name: {kind: {"value": value}}
                            for name, of in values.items()
                            for kind, value in of.items()
                        }
                    }
                )
                file.write(example.SerializeToString())

    for label, more, told in (
        ((0, b"a"), {}, "labels that are numbers, and others texts"),
        ((b"a", b"\xff"), {}, "bytes that are not UTF-8"),
        ((0, 1), {"class_name": b"same"}, "classes 0 and 1 have one name, 'same'"),
    ):
        write(label, **more)
        with pytest.raises(DataError, match=told):
            data.load(f"tfrecord:{tmp_path / 'x.tfrecord'}")


def test_a_run_folder_makes_nobody_read_or_write_elsewhere(tmp_path):
    mine, run = tmp_path / "mine", tmp_path / "run"
    mine.write_text("mine")
    shutil.copytree(ROOT / "tests/golden/previous/finished", run)
    for name in ("recipe.json", "data.json", "history.jsonl", "result.json"):
        content = (run / name).read_bytes()
        (run / name).unlink()
        os.mkfifo(run / name)
        with pytest.raises(RunFolderError, match="it is a pipe, not a regular file"):
            Run(run).describe(), Run(run).history
        (run / name).unlink()
        (run / name).write_bytes(content)
    for key, value in (("arguments", [1]), ("weights", 5), ("class_names", ["a", "a"])):
        told = json.loads((run / "data.json").read_text())
        (run / "data.json").write_text(json.dumps(told | {key: value}))
        with pytest.raises(RunFolderError, match=key if key != "class_names" else "a"):
            Run(run).describe()
        (run / "data.json").write_text(json.dumps(told))
    buffer = Buffer(run)
    buffer.append("start", store="s", run="0" * 32, name="n", experiment="e",
                  parent_folder=None, parent_id=None)  # fmt: skip
    (buffer.folder / "sent.json.new").symlink_to(mine)
    buffer.record("s", Sent(offset=0))
    (buffer.folder / "events.jsonl").unlink()
    (buffer.folder / "events.jsonl").symlink_to(mine)
    assert not buffer.exists()
    with pytest.raises(OSError, match="symbolic links"):
        buffer.append("end", status="FINISHED")
    assert mine.read_text() == "mine"


def test_names_tell_classes_apart():
    limits.check_names(["a", "b", "A", "\u00e4"])
    for wrong, told in (
        (["a", "b", "a"], "classes 0 and 2 have one name, 'a'"),
        (["a", " "], "class 1 has no name"),
        (["a", "b\n"], "has line breaks, control characters"),
    ):
        with pytest.raises(LimitError, match=told):
            limits.check_names(wrong)
    imagenet = ["crane", "maillot", *map(str, range(996)), "crane", "maillot"]
    limits.check_names(imagenet)
    limits.check_names(["crane", "crane"], 1000)
    with pytest.raises(LimitError, match="one name"):
        limits.check_names(["crane", "crane"])


def test_limits_say_what_is_too_much():
    with pytest.raises(LimitError, match="it unpacks to 2 MiB; at most 1 are needed"):
        limits.check_size(2**21, 2**20)
