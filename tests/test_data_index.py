from __future__ import annotations

import os
import shutil

import numpy as np
import pytest
from images import write_folder
from PIL import Image

from keras_resnet.data import index
from keras_resnet.data.folders import read_folder
from keras_resnet.data.images import DataError
from keras_resnet.data.index import cache_of, find_out, list_files
from keras_resnet.data.options import Options
from keras_resnet.data.tree import read_tree


@pytest.fixture
def examined(monkeypatch):
    """Names of the files that are decoded from now on."""
    names = []
    examine = index.examine

    def spy(content, path):
        names.append(os.path.basename(path))
        return examine(content, path)

    monkeypatch.setattr(index, "examine", spy)
    return names


def read(root):
    return read_folder(str(root), Options())


def test_files_are_decoded_once(tmp_path, examined):
    write_folder(tmp_path, {"cat": 5, "dog": 5}, form="jpg")
    (tmp_path / "cat" / "002.jpg").write_bytes(b"no photo")
    first = read(tmp_path)
    assert len(examined) == 10
    again = read(tmp_path)
    assert len(examined) == 10, "not again"
    assert list(again.train.pixels) == list(first.train.pixels)
    assert (again.train.digests == first.train.digests).all()
    assert again.unreadable == first.unreadable
    assert "cat/002.jpg is not an image file" in again.unreadable[0]
    # What has changed, has come or has another name is decoded, and nothing else.
    examined.clear()
    (tmp_path / "cat" / "002.jpg").unlink()
    (tmp_path / "dog" / "004.jpg").rename(tmp_path / "dog" / "aaa.jpg")
    shutil.copy(tmp_path / "cat" / "001.jpg", tmp_path / "cat" / "new.jpg")
    os.utime(tmp_path / "cat" / "000.jpg", (1, 1))
    third = read(tmp_path)
    assert sorted(examined) == ["000.jpg", "aaa.jpg", "new.jpg"]
    assert (third.train.count, third.unreadable) == (10, ())
    by_name = dict(zip(third.train.pixels, third.train.digests, strict=True))
    assert by_name[f"{tmp_path}/cat/new.jpg"] == by_name[f"{tmp_path}/cat/001.jpg"]


def test_a_cache_that_cant_be_read_or_written_is_no_harm(tmp_path, examined):
    write_folder(tmp_path, {"cat": 4, "dog": 4})
    read(tmp_path)
    cache = cache_of(str(tmp_path))
    for content in (b"", b"no archive", cache.read_bytes()[:500]):
        cache.write_bytes(content)
        examined.clear()
        assert read(tmp_path).train.count == 8
        assert len(examined) == 8
    cache.unlink()
    cache.mkdir()
    examined.clear()
    assert read(tmp_path).train.count == 8
    assert len(examined) == 8


def test_what_is_kept_of_an_image(tmp_path):
    (tmp_path / "a").mkdir()
    Image.new("L", (7, 5)).save(tmp_path / "a" / "gray.png")
    Image.new("RGBA", (9, 3)).save(tmp_path / "a" / "clear.png")
    camera = Image.new("RGB", (8, 6))
    exif = camera.getexif()
    exif[0x0112] = 6
    camera.save(tmp_path / "a" / "turned.jpg", exif=exif)
    frames = [Image.new("RGB", (4, 4), (i, 0, 0)) for i in range(3)]
    frames[0].save(
        tmp_path / "a" / "moving.gif", save_all=True, append_images=frames[1:]
    )
    tree = read_tree(str(tmp_path))
    folder = tree.folders["a"]
    files = list_files([(folder.path, folder.names)])
    found = find_out(files, folder.sizes, folder.times, cache=None)
    names = [os.path.basename(path) for path in files]
    assert names == ["clear.png", "gray.png", "moving.gif", "turned.jpg"]
    assert found.rows["width"].tolist() == [9, 7, 4, 6]
    assert found.rows["height"].tolist() == [3, 5, 4, 8]
    assert found.has(index.GRAY).tolist() == [False, True, False, False]
    assert found.has(index.CLEAR).tolist() == [True, False, False, False]
    assert found.has(index.SEVERAL).tolist() == [False, False, True, False]
    assert found.has(index.LOSSY).tolist() == [False, False, False, True]


def test_an_image_takes_less_than_200_bytes(tmp_path):
    count = 2000
    names = [f"photo_{i:012}.jpg".encode() for i in range(count)]
    files = list_files([(str(tmp_path), names)])
    held = sum(a.nbytes for a in (files.folder, files.ends, files.rows))
    held += len(files.names) + index.ROW.itemsize * count
    assert held / count < 100
    assert files[7] == f"{tmp_path}/photo_{7:012}.jpg"
    assert list(files.take(np.array([3, 1])))[1] == files[1]


def test_dark_16_bit_images_are_refused(tmp_path):
    for name, top in (("cat", 4000), ("dog", 3000)):
        (tmp_path / name).mkdir()
        for i in range(3):
            wide = np.linspace(0, top - i, 64).reshape(8, 8).astype(np.uint16)
            Image.fromarray(wide).save(tmp_path / name / f"{i}.png")
    with pytest.raises(DataError, match=r"has no images .*16 bits, but no value of"):
        read(tmp_path)
    for name in ("cat", "dog"):
        for file in (tmp_path / name).iterdir():
            Image.fromarray(np.asarray(Image.open(file)) * 4).save(file)
    with pytest.raises(DataError, match="no value above 16,127 of 65,535"):
        read(tmp_path)
    for name in ("cat", "dog"):
        for file in (tmp_path / name).iterdir():
            Image.fromarray(np.asarray(Image.open(file)) * 4).save(file)
    assert read(tmp_path).channels == 1


def test_links_that_lead_nowhere_are_named(tmp_path):
    write_folder(tmp_path, {"cat": 4, "dog": 4})
    (tmp_path / "cat" / "gone.png").symlink_to(tmp_path / "nothing.png")
    [why] = read(tmp_path).unreadable
    assert "gone.png: No such file" in why


def test_folders_that_cant_be_read(tmp_path, monkeypatch):
    write_folder(tmp_path, {"cat": 4, "dog": 4})
    scandir = os.scandir

    def refuse(path):
        if str(path).endswith("dog"):
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(DataError, match=r"read folder .*dog: Permission denied"):
        read(tmp_path)
