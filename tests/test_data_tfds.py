"""TensorFlow Datasets, prepared here: no network is needed."""

from __future__ import annotations

import socket

import numpy as np
import pytest
import tensorflow as tf
from images import arrays, labels, noise

from keras_resnet import data
from keras_resnet.data import Augment, DataError
from keras_resnet.data.tfds_source import cut

IMAGES = noise(60, (8, 8, 3))
NAMES = ["a", "b", "c"]


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """A data folder with the set "tiny": 48 training and 12 test images."""
    import tensorflow_datasets as tfds

    folder = tmp_path_factory.mktemp("tfds")
    tfds.dataset_builders.store_as_tfds_dataset(
        name="tiny",
        version="1.0.0",
        features=tfds.features.FeaturesDict(
            {
                "image": tfds.features.Image(shape=(8, 8, 3), encoding_format="png"),
                "label": tfds.features.ClassLabel(names=NAMES),
            }
        ),
        split_datasets={
            name: tf.data.Dataset.from_tensor_slices(
                {"image": IMAGES[part], "label": labels(60)[part]}
            )
            for name, part in (("train", slice(48)), ("test", slice(48, 60)))
        },
        data_dir=str(folder),
    )
    return folder


def keys(images):
    return sorted(image.tobytes() for image in images)


@pytest.fixture
def offline(monkeypatch):
    def refuse(*arguments, **named):
        raise OSError("no network in this test")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


def test_a_prepared_set_keeps_its_test_images(prepared, offline):
    splits = data.load("tfds:tiny", data_dir=prepared)
    assert splits.counts == {"train": 43, "val": 5, "test": 12}
    assert (splits.class_names, splits.image_shape) == (("a", "b", "c"), (8, 8, 3))
    train, val, test = (arrays(part)[0] for part in splits[:3])
    assert keys(test) == keys(IMAGES[48:])
    assert keys([*train, *val]) == keys(IMAGES[:48])
    for images, found in (arrays(splits.train), arrays(splits.test)):
        for image, label in zip(images, found, strict=True):
            (index,) = np.flatnonzero((image == IMAGES).all(axis=(1, 2, 3)))
            assert label == index % 3
    again = data.load(**splits.arguments)
    assert again.fingerprint == splits.fingerprint


def test_a_set_larger_than_memory_is_a_stream(prepared):
    splits = data.load("tfds:tiny", data_dir=prepared, memory=100, batch_size=10)
    assert splits.counts == {"train": 43, "val": 5, "test": 12}
    assert splits.steps == len(splits.train) == 5
    train, val, test = (arrays(part)[0] for part in splits[:3])
    assert keys(test) == keys(IMAGES[48:])
    assert keys([*train, *val]) == keys(IMAGES[:48])
    second = arrays(splits.train)[0]
    assert keys(second) == keys(train)
    assert not np.array_equal(second, train), "another order"
    again = data.load("tfds:tiny", data_dir=prepared, memory=100, batch_size=10)
    np.testing.assert_array_equal(arrays(again.train)[0], train)
    again = data.load(**splits.arguments)
    np.testing.assert_array_equal(arrays(again.val)[0], val)
    other = data.load("tfds:tiny", data_dir=prepared, memory=100, seed=1)
    assert keys(arrays(other.val)[0]) != keys(val)
    mean, std = splits.pixel_stats
    assert mean == pytest.approx(train.mean(axis=(0, 1, 2)))
    assert std == pytest.approx(train.std(axis=(0, 1, 2)))


def test_a_stream_is_cropped_and_mixed(prepared):
    augment = Augment(scale=(0.2, 0.8), flip=True, mixup=0.2)
    splits = data.load(
        "tfds:tiny",
        data_dir=prepared,
        memory=100,
        batch_size=10,
        image_size=6,
        augment=augment,
        drop_remainder=True,
    )
    images, found = arrays(splits.train)
    assert (images.shape, found.shape) == ((40, 6, 6, 3), (40, 3))


def test_what_is_not_prepared_is_said_at_once(tmp_path, offline):
    with pytest.raises(DataError, match=r"tfds:mnist is not prepared in .*; downl"):
        data.load("tfds:mnist", data_dir=tmp_path)
    with pytest.raises(DataError, match=r"tfds:mnisty is neither .*; there is .*mnist"):
        data.load("tfds:mnisty", data_dir=tmp_path)
    with pytest.raises(DataError, match="tfds:tf_flowers:x is not prepared"):
        data.load("tfds:tf_flowers:x", data_dir=tmp_path)


def test_a_set_without_images(prepared, tmp_path):
    import tensorflow_datasets as tfds

    tfds.dataset_builders.store_as_tfds_dataset(
        name="numbers",
        version="1.0.0",
        features=tfds.features.FeaturesDict({"x": np.int64}),
        split_datasets={"train": tf.data.Dataset.range(3).map(lambda x: {"x": x})},
        data_dir=str(tmp_path),
    )
    with pytest.raises(DataError, match="tfds:numbers has no image, only x"):
        data.load("tfds:numbers", data_dir=tmp_path)


def test_intervals_of_a_ring():
    assert cut([(0, 10)], 2, 5) == [(2, 5)]
    assert cut([(0, 10)], 8, 13) == [(8, 10), (0, 3)]
    assert cut([(0, 10)], 10, 12) == [(0, 2)]
    # In the ring of 8, 9, 0, 1, 2.
    assert cut([(8, 10), (0, 3)], 1, 3) == [(9, 10), (0, 1)]
    assert cut([(8, 10), (0, 3)], 4, 6) == [(2, 3), (8, 9)]
