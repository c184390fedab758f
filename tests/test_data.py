from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from keras_resnet import data
from keras_resnet.data import Augment, DataError
from keras_resnet.data.augment import augment_batch
from keras_resnet.data.files import read_image


def arrays(dataset):
    images, labels = zip(*dataset.as_numpy_iterator(), strict=True)
    return np.concatenate(images), np.concatenate(labels)


@pytest.fixture(scope="module")
def digits():
    return data.load("digits", batch_size=64)


def test_digits_are_split_without_loss_or_overlap(digits):
    splits = [arrays(split)[0] for split in (digits.train, digits.val, digits.test)]
    assert [len(images) for images in splits] == [1293, 144, 360]
    distinct = np.unique(np.concatenate(splits), axis=0)
    assert len(distinct) == 1797  # no digit is twice in the data, so none in two splits


def test_digits_are_stratified(digits):
    for split in (digits.train, digits.val, digits.test):
        labels = arrays(split)[1]
        share = np.bincount(labels) / len(labels)
        np.testing.assert_allclose(share, 0.1, atol=0.005)


def test_shapes_types_and_statistics(digits):
    assert (digits.classes, digits.image_shape) == (10, (8, 8, 1))
    assert digits.class_names == tuple("0123456789")
    assert digits.steps == 21
    images, labels = arrays(digits.train)
    assert (images.dtype, labels.dtype) == (np.uint8, np.int64)
    assert images.max() == 255
    mean, std = digits.pixel_stats
    assert mean == pytest.approx([images.mean()])
    assert std == pytest.approx([images.std()])


def test_a_seed_fixes_splits_order_and_augmentation():
    def epochs(seed):
        splits = data.load("digits", augment=Augment(pad=1, flip=True), seed=seed)
        return [arrays(splits.train)[0] for _ in range(2)], arrays(splits.test)[0]

    (first, second), test = epochs(3)
    (again, again2), test_again = epochs(3)
    np.testing.assert_array_equal(first, again)
    np.testing.assert_array_equal(second, again2)
    np.testing.assert_array_equal(test, test_again)
    assert not np.array_equal(first, second)
    assert not np.array_equal(test, epochs(4)[1])


def test_shift_keeps_pixels_and_fills_with_the_mean():
    images = np.arange(1, 2 * 5 * 5 * 3 + 1, dtype=np.uint8).reshape(2, 5, 5, 3)
    settings = Augment(pad=2)
    moved = set()
    for seed in range(60):
        out = augment_batch(tf.constant(images), [seed, 0], settings, (200.4, 210, 220))
        for image, result in zip(images, out.numpy(), strict=True):
            padded = np.empty((9, 9, 3), np.uint8)
            padded[:] = (200, 210, 220)
            padded[2:7, 2:7] = image
            matches = [
                (y, x)
                for y in range(5)
                for x in range(5)
                if np.array_equal(padded[y : y + 5, x : x + 5], result)
            ]
            assert len(matches) == 1
            moved.add(matches[0])
    assert len(moved) > 20  # of 25 places


def test_flips_half_of_the_images():
    images = np.arange(12, dtype=np.uint8).reshape(1, 2, 3, 2).repeat(400, axis=0)
    out = augment_batch(tf.constant(images), [1, 2], Augment(flip=True), (0, 0)).numpy()
    flipped = [np.array_equal(image, images[0][:, ::-1]) for image in out]
    kept = [np.array_equal(image, images[0]) for image in out]
    assert sum(flipped) + sum(kept) == 400
    assert 150 < sum(flipped) < 250


def test_unknown_source():
    with pytest.raises(DataError, match="data: 'digitz' is not one of 'digits'"):
        data.load("digitz")


@pytest.mark.parametrize("suffix", ["png", "jpg", "bmp", "gif"])
def test_image_files(tmp_path, suffix):
    path = tmp_path / f"image.{suffix}"
    Image.new("RGB", (20, 10), (200, 100, 50)).save(path)
    assert read_image(path, (None, None, 3)).shape == (10, 20, 3)
    image = read_image(path, (8, 6, 3))
    assert image.shape == (8, 6, 3)
    np.testing.assert_allclose(image.mean(axis=(0, 1)), (200, 100, 50), atol=4)
    assert read_image(path, (8, 8, 1)).shape == (8, 8, 1)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("text.png", b"no picture", "is not an image file"),
        ("empty.png", b"", "is not an image file"),
        ("missing.png", None, "can't read .*: No such file"),
    ],
)
def test_what_is_no_image_is_named(tmp_path, name, content, message):
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DataError, match=f"image: .*{message}"):
        read_image(path, (8, 8, 1))


def test_what_pixels_mean_is_kept(tmp_path):
    wide = np.full((4, 4), 200 * 257, np.uint16)
    Image.fromarray(wide).save(tmp_path / "wide.png")
    assert (read_image(tmp_path / "wide.png", (4, 4, 1)) == 200).all()
    clear = Image.new("RGBA", (4, 4), (0, 0, 0, 0))
    clear.putpixel((1, 2), (10, 20, 30, 255))
    clear.save(tmp_path / "clear.png")
    image = read_image(tmp_path / "clear.png", (4, 4, 3))
    assert image[2, 1].tolist() == [10, 20, 30]
    assert image[0, 0].tolist() == [255, 255, 255]
    turned = Image.new("L", (6, 4))
    exif = turned.getexif()
    exif[0x0112] = 6  # the camera was turned by a quarter
    turned.save(tmp_path / "turned.jpg", exif=exif)
    assert read_image(tmp_path / "turned.jpg", (None, None, 1)).shape == (6, 4, 1)
    Image.fromarray(np.ones((4, 4), np.float32)).save(tmp_path / "float.tiff")
    with pytest.raises(DataError, match="pixels of 32 bits"):
        read_image(tmp_path / "float.tiff", (4, 4, 1))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"batch_size": 0}, "batch_size: 0 is not a positive integer"),
        ({"seed": -1}, "seed: -1 is not an integer"),
        ({"augment": {"pad": 1}}, "augment: .* is not an Augment"),
    ],
)
def test_wrong_arguments(arguments, message):
    with pytest.raises(DataError, match=message):
        data.load("digits", **arguments)


def test_truncated_images_are_named(tmp_path):
    path = tmp_path / "half.png"
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(noise).save(path)
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(DataError, match=r"image: can't read .*half\.png: "):
        read_image(path, (8, 8, 3))


def test_channels_that_no_file_has(tmp_path):
    with pytest.raises(DataError, match="can't be read as 4 channels"):
        read_image(tmp_path / "x.png", (8, 8, 4))
