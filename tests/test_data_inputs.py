from __future__ import annotations

import json
import shutil

import pytest
from click.testing import CliRunner
from conftest import ROOT
from PIL import Image

from keras_resnet.cli import main
from keras_resnet.data.images import DataError, DataWarning
from keras_resnet.data.inputs import list_images

FINISHED = ROOT / "tests" / "golden" / "previous" / "finished"


@pytest.fixture
def photos(tmp_path):
    for name in ("b.png", "a.png", "more/c.png"):
        file = tmp_path / "photos" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (8, 8), 90).save(file)
    (tmp_path / "photos" / "notes.txt").write_text("no image")
    return tmp_path / "photos"


def test_files_folders_and_patterns(photos):
    a, b, c = photos / "a.png", photos / "b.png", photos / "more" / "c.png"
    assert list_images([b, a]) == [b, a]
    assert list_images([photos]) == [a, b, c]
    assert list_images([f"{photos}/[ab].png"]) == [a, b]
    assert list_images([f"{photos}/**/*.png"]) == [a, b, c]
    assert list_images([photos / "none.png"]) == [photos / "none.png"], "named later"
    odd = photos / "[1].png"
    shutil.copy(a, odd)
    assert list_images([odd]) == [odd], "a file before a pattern"


def test_masks_beside_photos_are_left_out_as_in_training(photos):
    expected = list_images([photos])
    for name in ("masks", "more/GT"):
        (photos / name).mkdir()
        shutil.copy(photos / "a.png", photos / name)
    with pytest.warns(DataWarning, match="1 images?, no photos by") as told:
        assert list_images([photos]) == expected
    assert len(told) == 2
    assert list_images([photos / "masks"]) == [photos / "masks" / "a.png"]


def test_classes_may_have_any_name(photos):
    for name in ("depth", "gt"):
        (photos / "classes" / name).mkdir(parents=True)
        shutil.copy(photos / "a.png", photos / "classes" / name)
    assert len(list_images([photos / "classes"])) == 2
    shutil.copy(photos / "a.png", photos / "classes" / "gt" / "a_mask.png")
    with pytest.warns(DataWarning, match="1 masks? by their names: a_mask.png"):
        assert len(list_images([photos / "classes"])) == 2


def test_nothing_named(photos):
    (photos / "empty").mkdir()
    with pytest.raises(DataError, match="empty is a folder without images"):
        list_images([photos / "empty"])
    with pytest.raises(DataError, match=r"no file fits .*\*\.webp"):
        list_images([f"{photos}/*.webp"])


def test_a_broken_image_does_not_keep_others_from_an_answer(photos):
    (photos / "b.png").write_bytes((photos / "b.png").read_bytes()[:40])
    asked = [str(FINISHED), str(photos), str(photos / "gone.png")]
    done = CliRunner().invoke(main, ["predict", *asked])
    assert done.exit_code == 1
    lines = done.stdout.splitlines()
    assert [line.split(": ")[0] for line in lines] == [
        f"{photos}/a.png",
        f"{photos}/more/c.png",
    ]
    assert f"Error: image: {photos}/b.png is not an image file" in done.stderr
    assert f"Error: image: can't read {photos}/gone.png: No such file" in done.stderr
    done = CliRunner().invoke(main, ["predict", "--json", *asked])
    found = json.loads(done.stdout)
    assert ["classes" in each for each in found] == [True, True, False, False]
    assert "No such file" in found[3]["error"]
