from __future__ import annotations

import io
import os
import re
import shutil
import subprocess
import sys
from collections import namedtuple

import numpy as np
import pytest
from images import arrays, noise
from PIL import Image
from rich.console import Console

from keras_resnet import data
from keras_resnet.data import Augment, DataError

CROP = Augment(scale=(0.3, 1), flip=True)


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """40 JPEGs of 96x64 or 64x96 pixels in two classes."""
    folder = tmp_path_factory.mktemp("photos")
    for i in range(40):
        place = folder / "ab"[i % 2]
        place.mkdir(exist_ok=True)
        pixels = noise(1, (5, 5, 3), seed=i)[0]
        size = (96, 64) if i % 3 else (64, 96)
        Image.fromarray(pixels).resize(size).save(place / f"{i:02}.jpg")
    return folder


def load(photos, cache=None, augment=CROP, **options):
    options = {"batch_size": 8, "image_size": 28, "memory": 0} | options
    return data.load(f"folder:{photos}", augment=augment, cache=cache, **options)


def files(cache):
    return sorted(path.name for path in cache.iterdir() if path.suffix != ".lock")


def test_what_is_not_cropped_is_the_same_bit_for_bit(photos, tmp_path):
    plain = load(photos, augment=Augment(pad=2))
    kept = load(photos, tmp_path, Augment(pad=2))
    assert kept.pixel_stats == plain.pixel_stats
    assert kept.fingerprint == plain.fingerprint
    assert kept.crops_from is None
    for name in ("train", "val", "test"):
        for one, other in zip(
            arrays(getattr(plain, name)), arrays(getattr(kept, name)), strict=True
        ):
            np.testing.assert_array_equal(one, other)


def test_crops_are_taken_from_what_was_shrunk(photos, tmp_path):
    plain, kept = load(photos), load(photos, tmp_path)
    assert kept.crops_from == 32  # 28 / 0.875
    assert kept.pixel_stats == plain.pixel_stats
    for name, far in (("train", 6), ("val", 0), ("test", 0)):
        (images, labels), (same, also) = map(
            arrays, (getattr(plain, name), getattr(kept, name))
        )
        np.testing.assert_array_equal(labels, also)
        # The same places of the same images; shrunk twice, they are softer.
        assert np.abs(images.astype(int) - same).mean() <= far


def test_images_that_are_small_stay_as_they_are(photos, tmp_path):
    plain, kept = (
        load(photos, cache, image_size=64) for cache in (None, tmp_path / "cache")
    )
    for one, other in zip(arrays(plain.train), arrays(kept.train), strict=True):
        np.testing.assert_array_equal(one, other)


def test_it_is_made_once_and_its_size_is_said(photos, tmp_path):
    said = Console(file=io.StringIO(), width=200)
    load(photos, tmp_path, console=said)
    made = files(tmp_path)
    text = said.file.getvalue()
    assert re.search(r"cache     28 images of train take 129kB in ", text)
    assert re.search(r"cache     4 images of val take 9.41kB in ", text)
    times = [(tmp_path / name).stat().st_mtime_ns for name in made]
    load(photos, tmp_path, console=said)
    assert said.file.getvalue() == text
    assert [(tmp_path / name).stat().st_mtime_ns for name in made] == times
    assert len(made) == 2


@pytest.mark.parametrize("change", ["time", "size", "seed"])
def test_it_holds_for_what_it_was_made_of(photos, tmp_path, change):
    folder = shutil.copytree(photos, tmp_path / "photos")
    cache = tmp_path / "cache"
    load(folder, cache)
    before = files(cache)
    options = {}
    if change == "time":
        for path in folder.glob("*/*.jpg"):
            os.utime(path, (1, 1))
    else:
        options = {"size": {"image_size": 24}, "seed": {"seed": 5}}[change]
    load(folder, cache, **options)
    assert len(files(cache)) == 2 * len(before)


def test_a_damaged_one_is_made_again(photos, tmp_path):
    expected = arrays(load(photos, tmp_path).train)
    for name in files(tmp_path):
        with open(tmp_path / name, "r+b") as file:
            file.truncate(200)
    (tmp_path / name).with_suffix(".part").write_bytes(b"half")
    found = arrays(load(photos, tmp_path).train)
    for one, other in zip(expected, found, strict=True):
        np.testing.assert_array_equal(one, other)
    assert all(name.endswith(".npy") for name in files(tmp_path))


def test_too_little_room_is_one_line(photos, tmp_path, monkeypatch):
    usage = namedtuple("usage", "total used free")(100, 0, 1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: usage)
    message = f"cache: 138kB are needed, and {tmp_path} has 1kB free"
    with pytest.raises(DataError, match=re.escape(message)):
        load(photos, tmp_path)
    assert files(tmp_path) == []


def test_a_disk_that_fills_is_one_line_and_nothing_is_left(photos, tmp_path):
    script = (
        "import resource, sys\n"
        "from keras_resnet import data\n"
        "from keras_resnet.data import Augment, DataError\n"
        "import signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))\n"
        "try:\n"
        "    data.load('folder:' + sys.argv[1], cache=sys.argv[2], image_size=28,\n"
        "              augment=Augment(scale=(0.3, 1)))\n"
        "except DataError as error:\n"
        "    print(error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, photos, tmp_path],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert f"cache: can't write to {tmp_path}: File too large" in done.stdout
    assert files(tmp_path) == []


def test_what_is_in_no_files_has_nothing_to_keep(photos, tmp_path):
    with pytest.raises(DataError, match="cache: is for image files"):
        data.load("digits", cache=tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match="cache: can't write to"):
        load(photos, tmp_path / "file")


def test_a_photo_that_broke_ends_it_and_leaves_nothing(photos, tmp_path):
    folder = shutil.copytree(photos, tmp_path / "photos")
    load(folder)
    victim = sorted(folder.glob("a/*.jpg"))[0]
    before = victim.stat()
    victim.write_bytes(bytes(before.st_size))
    os.utime(victim, ns=(before.st_atime_ns, before.st_mtime_ns))
    with pytest.raises(DataError, match=f"{victim.name} is not an image file"):
        load(folder, tmp_path / "cache", seed=1)
    assert all(name.endswith(".npy") for name in files(tmp_path / "cache"))


@pytest.mark.slow
def test_two_processes_make_it_once(photos, tmp_path):
    script = (
        "import sys\n"
        "from rich.console import Console\n"
        "from keras_resnet import data\n"
        "from keras_resnet.data import Augment\n"
        "found = data.load('folder:' + sys.argv[1], cache=sys.argv[2], image_size=28,\n"
        "                  augment=Augment(scale=(0.3, 1)),\n"
        "                  console=Console(width=200))\n"
        "print(sum(int(images.numpy().sum()) for images, _ in found.train))\n"
    )
    command = [sys.executable, "-c", script, photos, tmp_path]
    both = [
        subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)
    ]
    said = "".join(process.communicate()[0] for process in both)
    assert [process.returncode for process in both] == [0, 0]
    assert said.count("images of train") == said.count("images of val") == 1
    sums = [line for line in said.splitlines() if line.isdecimal()]
    assert len(sums) == 2
    assert len(set(sums)) == 1
