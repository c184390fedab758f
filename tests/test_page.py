from __future__ import annotations

import re
import shutil
import warnings

import numpy as np
import pytest
from conftest import ROOT
from PIL import Image

from keras_resnet import data
from keras_resnet.run import Run
from keras_resnet.training.evaluation import evaluate_logits, pick
from keras_resnet.training.page import write_page


@pytest.fixture
def splits(tmp_path):
    """Photos of two classes, one of them in both."""
    random = np.random.default_rng(0)
    for name in ("a & b", "dog"):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for i in range(12):
            pixels = random.integers(0, 256, (8, 8, 3)).astype("uint8")
            Image.fromarray(pixels).save(tmp_path / "photos" / name / f"{i}.png")
    shutil.copy(
        tmp_path / "photos" / "dog" / "3.png", tmp_path / "photos" / "a & b" / "x.png"
    )
    with warnings.catch_warnings():  # of duplicates in two splits
        warnings.simplefilter("ignore", data.DataWarning)
        return data.load(f"folder:{tmp_path / 'photos'}")


def test_the_same_image_in_two_classes_is_found(splits):
    [pair] = splits.conflicts
    assert {path.rsplit("/", 2)[1] for path in pair} == {"a & b", "dog"}
    assert any("1 image in two classes" in note for note in splits.notes)


def test_a_page_needs_no_other_file(splits, tmp_path):
    run = Run(shutil.copytree(ROOT / "tests/golden/previous/finished", tmp_path / "r"))
    Image.fromarray(np.zeros((4, 4), "uint8")).save(run.folder / "curves.png")
    labels = np.concatenate([y for _, y in splits.test.as_numpy_iterator()])
    logits = np.where(np.arange(2) == labels[:, np.newaxis], -2.0, 2.0)  # all wrong
    evaluation = evaluate_logits(logits, labels, splits.class_names)
    write_page(run, evaluation, pick(splits.test, evaluation.worst), splits)
    page = (run.folder / "report.html").read_text()
    sources = re.findall(r'(?:src|href)="([^"]*)"', page)
    assert len(sources) == 1 + len(labels)
    assert all(source.startswith("data:image/png;base64,") for source in sources)
    for path in splits.files["test"]:
        assert path.replace("&", "&amp;") in page
    assert "a & b" not in page
    assert "The same image in two classes" in page
    assert "0.00% of" in page
    assert f"keras-resnet export {run.folder}" in page
