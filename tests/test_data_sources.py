from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from images import arrays, labels, noise

from keras_resnet import data
from keras_resnet.data import DataError
from keras_resnet.data.arrays import read_npz
from keras_resnet.data.options import Options
from keras_resnet.data.sources import FASHION_MNIST

SAMPLE = Path(__file__).parent / "golden" / "fashion_mnist"


def test_fashion_mnist_from_idx_files():
    splits = data.load("fashion_mnist", data_dir=SAMPLE, batch_size=32)
    assert splits.counts == {"train": 180, "val": 20, "test": 60}
    assert (splits.image_shape, splits.classes) == ((28, 28, 1), 10)
    assert splits.class_names[9] == "Ankle boot"
    for split, each in ((splits.train, 18), (splits.val, 2), (splits.test, 6)):
        assert (np.bincount(arrays(split)[1]) == each).all()


@pytest.mark.skipif(not FASHION_MNIST.is_dir(), reason="dataset-fashion-mnist")
def test_fashion_mnist_of_debian_is_whole():
    splits = data.load("fashion_mnist")
    assert splits.counts == {"train": 54_000, "val": 6_000, "test": 10_000}
    labels = arrays(splits.test)[1]
    assert (np.bincount(labels) == 1000).all()
    # As the data set's authors give them: Xiao 2017's test images, in their order.
    assert labels[:5].tolist() == [9, 2, 1, 1, 6]
    assert splits.pixel_stats[0][0] == pytest.approx(72.94, abs=0.2)  # 0.2860 of 255
    assert splits.pixel_stats[1][0] == pytest.approx(90.02, abs=0.2)  # 0.3530


def test_fashion_mnist_that_is_not_there(tmp_path, monkeypatch):
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    with pytest.raises(DataError, match="`apt install dataset-fashion-mnist` brings"):
        data.load("fashion_mnist", data_dir=tmp_path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\x00\x00\x08\x01\x00\x00\x00\x05abc", " has 3 bytes, not the 5"),
        (b"\x00\x00\x0d\x01\x00\x00\x00\x03abc", "not an IDX file of bytes in 1 dim"),
        (b"", "not an IDX file"),
    ],
)
def test_damaged_idx_files(tmp_path, content, message):
    for file in SAMPLE.glob("*.gz"):
        (tmp_path / file.name).write_bytes(file.read_bytes())
    (tmp_path / "train-labels-idx1-ubyte.gz").unlink()
    (tmp_path / "train-labels-idx1-ubyte").write_bytes(content)
    with pytest.raises(DataError, match=f"train-labels-idx1-ubyte.*{message}"):
        data.load("fashion_mnist", data_dir=tmp_path)
    (tmp_path / "train-labels-idx1-ubyte").rename(
        tmp_path / "train-labels-idx1-ubyte.gz"
    )
    with pytest.raises(DataError, match=r"can't read .*train-labels|not an IDX"):
        data.load("fashion_mnist", data_dir=tmp_path)


def test_arrays_keep_their_own_splits():
    x, y = noise(60), labels(60)
    test = noise(12, seed=1), labels(12)
    splits = data.load({"train": (x, y), "test": test, "class_names": list("abc")})
    assert splits.counts == {"train": 54, "val": 6, "test": 12}
    assert splits.class_names == ("a", "b", "c")
    np.testing.assert_array_equal(arrays(splits.test)[0], test[0])
    np.testing.assert_array_equal(arrays(splits.test)[1], test[1])
    assert splits.arguments is None
    splits = data.load({"train": (x, y), "val": test})
    assert splits.counts == {"train": 54, "val": 6, "test": 12}, "val is the test"
    val = noise(9, seed=2), labels(9)
    splits = data.load({"train": (x, y), "val": val, "test": test}, batch_size=60)
    assert splits.counts == {"train": 60, "val": 9, "test": 12}


def test_arrays_of_keras_cifar_shape():
    splits = data.load((noise(30, (4, 4)), labels(30)[:, np.newaxis].astype(np.uint8)))
    assert splits.image_shape == (4, 4, 1)
    images, found = arrays(splits.train)
    assert (images.dtype, found.dtype, found.ndim) == (np.uint8, np.int64, 1)


def test_npz_files(tmp_path):
    x, y = noise(30), labels(30)
    file = tmp_path / "a.npz"
    np.savez(file, x_train=x, y_train=y, x_test=x[:6] // 2, y_test=y[:6])
    splits = data.load(str(file))
    assert splits.counts == {"train": 27, "val": 3, "test": 6}
    np.savez(file, images=x, labels=y)
    assert data.load(str(file)).counts == {"train": 21, "val": 3, "test": 6}
    again = data.load(**splits.arguments)
    assert again.arguments == splits.arguments
    assert again.fingerprint != splits.fingerprint, "the file has changed"


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ({"test": (noise(9), labels(9))}, "'train' is missing; give"),
        ({"train": (noise(9), labels(9)), "valid": 1}, "valid is no split"),
        ({"train": noise(9)}, "train is not a pair"),
        ([1, 2], "list is neither a name nor"),
        ((noise(9), labels(8)), "9 images, but 8 labels"),
        ((noise(9) / 255, labels(9)), "images of float64, not uint8 from 0 to 255"),
        ((noise(9)[0, 0], labels(9)), r"images of shape \(8, 3\), not"),
        (
            (noise(9), np.eye(9)),
            r"labels of float64 and shape \(9, 9\), not an integer",
        ),
        ((noise(9), labels(9) - 1), "train has label -1; there are 2 classes"),
        ((noise(9), labels(9) * 2), r"class 1 \(1\) has no training images"),
        (
            (noise(9), labels(9) * 10**9),
            "has label 2000000000 and 9 images",
        ),
        ((noise(9), labels(9) * 0), "train has one class"),
        (
            {"train": (noise(9), labels(9)), "test": (noise(9), labels(9) + 1)},
            "test has label 3; there are 3 classes, from 0 to 2",
        ),
        (
            {"train": (noise(9), labels(9)), "test": (noise(9, (4, 4, 3)), labels(9))},
            r"test has images of shape \(4, 4, 3\), train",
        ),
        ((noise(7), labels(7)), "class 1 has 2 images; 3 are needed"),
    ],
)
def test_wrong_arrays(source, message):
    with pytest.raises(DataError, match=f"data: .*{message}"):
        data.load(source)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"x": noise(9), "y_train": labels(9)}, "has no x_train, only x, y_train"),
        ({"x_train": noise(9)}, "has no y_train, only x_train"),
        (
            {"x_train": noise(9), "y_train": labels(9), "x_test": noise(9)},
            "has no y_test",
        ),
    ],
)
def test_wrong_keys_in_npz_files(tmp_path, content, message):
    np.savez(tmp_path / "a.npz", **content)
    with pytest.raises(DataError, match=f"data: .*{message}"):
        data.load(str(tmp_path / "a.npz"))


def test_unreadable_npz_files(tmp_path):
    with pytest.raises(DataError, match=r"can't read .*a\.npz: No such file"):
        data.load(str(tmp_path / "a.npz"))
    (tmp_path / "a.npz").write_text("no arrays")
    with pytest.raises(DataError, match=r"can't read .*a\.npz"):
        data.load(str(tmp_path / "a.npz"))
    np.save(tmp_path / "a.npy", noise(9))
    (tmp_path / "a.npy").replace(tmp_path / "a.npz")
    with pytest.raises(DataError, match=r"can't read .*a\.npz"):
        data.load(str(tmp_path / "a.npz"))


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_a_wrong_byte_of_an_npz_file_is_a_line(tmp_path, save):
    file = tmp_path / "a.npz"
    save(file, images=noise(9), labels=labels(9))
    whole = file.read_bytes()
    options = Options(memory=0)
    messages = []
    for place in range(0, len(whole), 2):
        file.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        try:
            read_npz(str(file), options)
        except DataError as error:
            messages.append(str(error))
    assert len(messages) > len(whole) / 4
    assert "\n" not in "".join(messages)


@pytest.mark.parametrize("source", ["digits:8", "folder", "tfds:", "", "npz", "x.npy"])
def test_incomplete_names_of_sources(source):
    with pytest.raises(DataError, match="is not one of 'digits', 'fashion_mnist', 'tf"):
        data.load(source)
