from __future__ import annotations

import json

import numpy as np
import pytest
from click.testing import CliRunner
from conftest import ROOT
from images import arrays, labels, noise, write_folder
from sklearn.datasets import load_digits

from keras_resnet import data
from keras_resnet.cli import main
from keras_resnet.data import DataError
from keras_resnet.data.labelled import load_labelled

FINISHED = ROOT / "tests" / "golden" / "previous" / "finished"


def test_classes_are_found_by_name_in_any_order(tmp_path):
    write_folder(tmp_path, {"fox": 2, "cat": 3})
    found = load_labelled(f"folder:{tmp_path}", ("dog", "fox", "cat"), (6, 6, 3))
    images, numbers = arrays(found.batches)
    assert images.shape == (5, 6, 6, 3)
    assert numbers.tolist() == [2, 2, 2, 1, 1]
    with pytest.raises(DataError, match="'fox' is no class of the model, which"):
        load_labelled(f"folder:{tmp_path}", ("dog", "cat"), (6, 6, 3))


def test_what_was_trained_on_is_left_out():
    x, y = noise(30), labels(30)
    splits = data.load((x, y))
    seen = splits.digests["train"]
    found = load_labelled((x, y), ("0", "1", "2"), (8, 8, 3), trained_on=seen)
    assert (found.known, found.images) == (splits.counts["train"], 30 - len(seen))
    told = {image.tobytes() for image in arrays(found.batches)[0]}
    assert not told & {image.tobytes() for image in arrays(splits.train)[0]}
    every = np.concatenate(list(splits.digests.values()))
    with pytest.raises(DataError, match="all 30 images are among those"):
        load_labelled((x, y), ("0", "1", "2"), (8, 8, 3), trained_on=every)
    with pytest.raises(DataError, match="images of 3 channels, but the model takes 1"):
        load_labelled((x, y), ("0", "1", "2"), (8, 8, 1))


def test_a_run_is_tested_on_other_images(tmp_path):
    digits = load_digits()
    pixels = np.rint(digits.images[:50] * (255 / 16)).astype(np.uint8)
    pixels[0, 0, 0] ^= 1  # one is new
    np.savez(tmp_path / "few.npz", images=pixels, labels=digits.target[:50])
    command = ["evaluate", str(FINISHED), "--json", "--data", str(tmp_path / "few.npz")]
    done = CliRunner().invoke(main, command)
    assert done.exit_code == 0, done.output
    metrics = json.loads(done.stdout.splitlines()[-1])
    assert 1 < metrics["images"] < 50
    assert "images left out" in done.stderr
    assert "is other data than that of the run" in done.stderr
