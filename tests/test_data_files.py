from __future__ import annotations

import os
import shutil

import numpy as np
import pytest
from images import arrays, write_folder
from PIL import Image

from keras_resnet import data
from keras_resnet.data import Augment, DataError, DataWarning, normalization
from keras_resnet.data.image_files import read_crop, read_image
from keras_resnet.data.pipeline import errors_in_one_line


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


def test_the_middle_of_an_image(tmp_path):
    gradient = np.zeros((32, 64, 3), np.uint8)
    gradient[:] = np.arange(64)[:, np.newaxis] * 4
    Image.fromarray(gradient).save(tmp_path / "wide.png")
    middle = read_image(tmp_path / "wide.png", (14, 14, 3), central=0.875)
    # 28 of 32 pixels in height, from the columns 18 to 46.
    expected = 4 * (18 + 28 * (np.arange(14) + 0.5) / 14 - 0.5)
    np.testing.assert_allclose(middle[3, :, 0], expected, atol=1.5)
    exact = read_image(tmp_path / "wide.png", (32, 64, 3), central=0.875)
    np.testing.assert_array_equal(exact, gradient)


@pytest.mark.parametrize("form", ["png", "jpg"])
def test_a_part_of_an_image(tmp_path, form):
    y, x = np.mgrid[:160, :240]
    image = np.stack([x, y, (x + y) // 2], axis=2).astype(np.uint8)
    path = tmp_path / f"a.{form}"
    Image.fromarray(image).save(path, quality=95)
    seen = []

    def choose(height, width):
        seen.append((height, width))
        return (40, 20, 200, 140)

    part = read_crop(path, (12, 16, 3), choose)  # a JPEG is decoded at an eighth
    assert seen == [(160, 240)]
    np.testing.assert_allclose(part[5, :, 0], 40 + 10 * np.arange(16) + 4.5, atol=4)
    np.testing.assert_allclose(part[:, 5, 1], 20 + 10 * np.arange(12) + 4.5, atol=4)


def test_a_folder_of_classes(tmp_path):
    written = write_folder(tmp_path, {"dog": 20, "cat": 20})
    splits = data.load(f"folder:{tmp_path}")
    assert splits.class_names == ("cat", "dog")
    assert splits.image_shape == (12, 20, 3), "all have this size"
    assert splits.counts == {"train": 28, "val": 4, "test": 8}
    parts = [arrays(part) for part in (splits.train, splits.val, splits.test)]
    images = np.concatenate([part[0] for part in parts])
    labels = np.concatenate([part[1] for part in parts])
    for image, label in zip(images, labels, strict=True):
        (index,) = np.flatnonzero((written == image).all(axis=(1, 2, 3)))
        assert label == (index < 20)  # dog is 1, and was written first
    again = data.load(**splits.arguments)
    np.testing.assert_array_equal(arrays(again.test)[0], parts[2][0])
    assert again.fingerprint == splits.fingerprint


def test_folders_with_splits(tmp_path):
    write_folder(tmp_path / "train", {"cat": 10, "dog": 10})
    write_folder(tmp_path / "validation", {"cat": 2, "dog": 3}, seed=1)
    source = f"folder:{tmp_path}"
    assert data.load(source).counts == {"train": 18, "val": 2, "test": 5}
    write_folder(tmp_path / "test", {"dog": 3}, seed=2)
    splits = data.load(source)
    assert splits.counts == {"train": 20, "val": 5, "test": 3}
    assert arrays(splits.test)[1].tolist() == [1, 1, 1]
    write_folder(tmp_path / "test", {"fox": 1})
    with pytest.raises(DataError, match="test/fox is a class that has no training im"):
        data.load(source)
    shutil.rmtree(tmp_path / "test" / "fox")
    (tmp_path / "test").rename(tmp_path / "Testing")
    (tmp_path / "train").rename(tmp_path / "Train")
    assert data.load(source).counts == splits.counts
    write_folder(tmp_path / "val", {"cat": 1})
    with pytest.raises(DataError, match="has val and validation, both for val"):
        data.load(source)
    shutil.rmtree(tmp_path / "val")
    shutil.rmtree(tmp_path / "Train")
    with pytest.raises(DataError, match="Testing, validation, but no train folder"):
        data.load(source)


def test_links_are_followed_and_what_is_hidden_is_not_read(tmp_path):
    write_folder(tmp_path / "photos", {"cat": 5, "dog": 5, "cat/.thumbnails": 5})
    write_folder(tmp_path, {"more": 4}, seed=1)
    (tmp_path / "photos" / "cat" / "more").symlink_to(tmp_path / "more")
    (tmp_path / "photos" / "dog" / "back").symlink_to(tmp_path / "photos" / "dog")
    splits = data.load(f"folder:{tmp_path / 'photos'}")
    assert sum(splits.counts.values()) == 14
    assert splits.duplicates == {}


@pytest.mark.parametrize("name", ["two\nlines", b"not-utf-8-\xff", "a\u2028b"])
def test_names_that_can_not_be_shown(tmp_path, name):
    write_folder(tmp_path, {"cat": 5, os.fsdecode(name): 5})
    with pytest.raises(DataError, match=r"class '.*rename it") as error:
        data.load(f"folder:{tmp_path}")
    assert "\n" not in str(error.value)


def test_rare_classes_are_in_all_splits(tmp_path):
    write_folder(tmp_path, {"common": 100, "rare": 3})
    splits = data.load(f"folder:{tmp_path}", train_images=10)
    for part in splits[:3]:
        assert 1 in arrays(part)[1]
    assert splits.counts["train"] == 10


def test_links_to_what_is_around_a_class(tmp_path):
    write_folder(tmp_path, {"cat": 8, "dog": 8})
    (tmp_path / "dog" / "up").symlink_to(tmp_path)
    splits = data.load(f"folder:{tmp_path}")
    found = np.concatenate([arrays(part)[1] for part in splits[:3]])
    assert np.bincount(found).tolist() == [8, 8]


def test_a_test_folder_of_classes_without_a_train_folder(tmp_path):
    write_folder(tmp_path, {"Test/cat": 4, "Test/dog": 4, "more": 4})
    with pytest.raises(DataError, match="has Test, but no train folder"):
        data.load(f"folder:{tmp_path}")


def test_a_class_may_be_called_valid(tmp_path):
    write_folder(tmp_path, {"invalid": 8, "valid": 8})
    assert data.load(f"folder:{tmp_path}").class_names == ("invalid", "valid")


def test_a_class_that_is_lost_when_it_is_decoded(tmp_path):
    write_folder(tmp_path, {"cat": 20, "dog": 4}, form="jpg", size=(64, 64))
    for file in (tmp_path / "dog").iterdir():
        file.write_bytes(file.read_bytes()[: 1000 + int(file.stem)])
    with pytest.raises(DataError, match=r"class .*dog has no images .*is truncated"):
        data.load(f"folder:{tmp_path}")


def test_gray_folders_and_sizes(tmp_path):
    for i, size in enumerate([(30, 40), (50, 20)] * 6):
        path = tmp_path / "ab"[i % 3 == 0] / f"{i}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(np.full(size, 20 * i, np.uint8)).save(path)
    splits = data.load(f"folder:{tmp_path}", image_size=16)
    assert splits.image_shape == (16, 16, 1)
    assert data.load(f"folder:{tmp_path}").image_shape == (224, 224, 1)
    values = sorted(arrays(splits.train)[0][:, 0, 0, 0])
    assert values == sorted(set(values))
    assert set(values) <= set(range(0, 240, 20))


@pytest.mark.parametrize("memory", [None, 0])
def test_broken_files_among_good_ones(tmp_path, memory):
    write_folder(tmp_path, {"cat": 12, "dog": 12}, form="jpg", size=(64, 64))
    (tmp_path / "cat" / "000.jpg").write_text("no picture")
    (tmp_path / "dog" / "005.jpg").write_bytes(b"")
    source = f"folder:{tmp_path}"
    with pytest.warns(DataWarning, match="2 unreadable images left out: .*cat/000.jpg"):
        splits = data.load(source, memory=memory)
    assert sum(splits.counts.values()) == 22
    assert len(splits.unreadable) == 2
    assert "dog/005.jpg is not an image file" in splits.unreadable[1]
    with pytest.raises(DataError, match=r"data: .*/000.* is not an image file; 2 unr"):
        data.load(source, strict=True)


@pytest.mark.parametrize("memory", [None, 0])
def test_files_that_break_when_they_are_decoded(tmp_path, memory):
    write_folder(tmp_path, {"cat": 12, "dog": 12}, form="jpg", size=(64, 64))
    whole = (tmp_path / "dog" / "005.jpg").read_bytes()
    for i in range(12):
        (tmp_path / "dog" / f"{i + 12:03}.jpg").write_bytes(whole[: 1000 + i])
    source = f"folder:{tmp_path}"

    def labels():
        splits = data.load(source, memory=memory)
        parts = (splits.train, splits.val, splits.test)
        return np.concatenate([arrays(part)[1] for part in parts])

    with pytest.warns(DataWarning, match=r"12 unreadable .*dog/0.*\.jpg: "):
        assert np.bincount(labels()).tolist() == [12, 12]
    with pytest.raises(DataError, match=r"data: can't read .*dog/0.*\.jpg"):
        data.load(source, strict=True, memory=memory)


def test_files_that_dont_fit_into_memory_are_read_as_they_are_needed(tmp_path):
    write_folder(tmp_path, {"cat": 20, "dog": 20})
    source = f"folder:{tmp_path}"
    inside = data.load(source, batch_size=8)
    outside = data.load(source, batch_size=8, memory=0)
    assert inside.pixel_stats == outside.pixel_stats
    for first, second in zip(inside[:3], outside[:3], strict=True):
        for one, other in zip(arrays(first), arrays(second), strict=True):
            np.testing.assert_array_equal(one, other)
    assert outside.steps == len(outside.train) == 4
    shutil.rmtree(tmp_path / "cat")
    assert len(arrays(inside.train)[1]) == 28
    with (
        pytest.raises(DataError, match=r"image: can't read .*cat/.*No such file"),
        errors_in_one_line(),
    ):
        arrays(outside.val)


def test_files_are_cropped_as_they_are_decoded(tmp_path):
    for name, value in (("a", 60), ("b", 180)):
        (tmp_path / name).mkdir()
        for i in range(8):
            image = np.full((40, 60), value, np.uint8)
            image[:, ::2] += i
            Image.fromarray(image).save(tmp_path / name / f"{i}.png")
    augment = Augment(scale=(0.1, 1), flip=True)
    splits = data.load(f"folder:{tmp_path}", image_size=16, augment=augment)
    first, labels = arrays(splits.train)
    assert first.shape == (10, 16, 16, 1)
    np.testing.assert_array_equal(labels, first.mean(axis=(1, 2, 3)) > 120)
    again = data.load(f"folder:{tmp_path}", image_size=16, augment=augment)
    np.testing.assert_array_equal(arrays(again.train)[0], first)
    assert not np.array_equal(arrays(again.train)[0], first)


def test_what_data_is_does_not_hang_on_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(normalization, "SAMPLE", 8)
    write_folder(tmp_path, {"cat": 12, "dog": 12})
    inside, outside = (data.load(f"folder:{tmp_path}", memory=m) for m in (None, 0))
    assert inside.pixel_stats == outside.pixel_stats
    assert inside.fingerprint == outside.fingerprint
    # Nor on whether a file that breaks is decoded at once, which crops are not.
    for i in range(5):
        file = tmp_path / "cat" / f"00{i}.png"
        file.write_bytes(file.read_bytes()[:200])
    with pytest.warns(DataWarning, match=r"can't read .*cat/00"):
        known = [
            data.load(f"folder:{tmp_path}", augment=augment).fingerprint
            for augment in (Augment(), Augment(scale=(0.5, 1)))
        ]
    assert known[0] == known[1]


def test_batches_are_full_whatever_is_broken(tmp_path):
    write_folder(tmp_path, {"cat": 12, "dog": 12}, form="jpg", size=(64, 64))
    for i in range(6):
        file = tmp_path / "dog" / f"{i:03}.jpg"
        file.write_bytes(file.read_bytes()[:1000])

    def read():
        splits = data.load(f"folder:{tmp_path}", memory=0, batch_size=1)
        return len(arrays(splits.train)[1]) == splits.steps

    with pytest.warns(DataWarning, match=r"can't read .*dog/00"):
        assert read()
    for file in tmp_path.glob("*/*"):
        file.write_bytes(file.read_bytes()[:1000])
    with pytest.raises(DataError, match=r"class .*cat has no images"):
        data.load(f"folder:{tmp_path}")


def test_duplicate_files(tmp_path):
    write_folder(tmp_path / "train", {"cat": 10, "dog": 10})
    write_folder(tmp_path / "test", {"cat": 3, "dog": 3}, seed=1)
    shutil.copy(tmp_path / "train/cat/004.png", tmp_path / "test/dog/copy.png")
    for memory in (None, 0):
        with pytest.warns(DataWarning, match="1 of test in (train|val); kept"):
            splits = data.load(f"folder:{tmp_path}", memory=memory)
        assert splits.counts["test"] == 7


@pytest.mark.parametrize(
    ("classes", "message"),
    [
        (None, "data: folder .*photos doesn't exist"),
        ({}, "photos has 0 folders of images; a classifier needs"),
        ({"cat": 3}, "photos has 1 folder of images"),
        ({"cat": 4, "dog": 0}, "class .*photos/dog has no images"),
        ({"cat": 4, "dog": 2}, "class dog has 2 images; 3 are needed, one for each"),
    ],
)
def test_wrong_folders(tmp_path, classes, message):
    root = tmp_path / "photos"
    if classes is not None:
        root.mkdir()
    if classes:
        write_folder(root, classes)
    with pytest.raises(DataError, match=message):
        data.load(f"folder:{root}")


def test_a_file_is_no_folder(tmp_path):
    (tmp_path / "photos").write_text("")
    with pytest.raises(DataError, match="photos is not a folder"):
        data.load(f"folder:{tmp_path / 'photos'}")


@pytest.mark.parametrize(
    "augment", [Augment(pad=2, flip=True), Augment(scale=(0.4, 1))]
)
def test_a_resumed_run_reads_the_same_at_any_memory(tmp_path, augment):
    """With damaged files among them, from within an epoch on."""
    write_folder(tmp_path, {"cat": 16, "dog": 16}, form="jpg", size=(48, 40))
    for name in ("cat/001", "cat/007", "dog/003"):
        file = tmp_path / f"{name}.jpg"
        file.write_bytes(file.read_bytes()[:900])
    seen = []
    for memory, start in ((None, None), (0, None), (0, (1, 2)), (None, (1, 2))):
        with pytest.warns(DataWarning, match="3 unreadable"):
            splits = data.load(
                f"folder:{tmp_path}", augment=augment, batch_size=5, memory=memory,
                image_size=24,
            )  # fmt: skip
        if start:
            splits.start(*start)
        else:
            arrays(splits.train)  # the first epoch
        batches = list(splits.train.as_numpy_iterator())
        assert len(batches) == splits.steps == 4
        seen.append(batches[2:])
        assert sum(splits.counts.values()) == 29
    for other in seen[1:]:
        for batch, expected in zip(other, seen[0], strict=True):
            np.testing.assert_array_equal(batch[0], expected[0])
            np.testing.assert_array_equal(batch[1], expected[1])
