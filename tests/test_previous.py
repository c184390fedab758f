"""Runs and exports of the previous version work as they did.

`golden/previous` holds an unfinished run, what that version made of it, a finished run
and its export. Its README's lines are among the pages of `test_documentation`.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import ROOT
from PIL import Image
from servers import served

from keras_resnet import prediction, runtime, serving, training
from keras_resnet.serving import Client

PREVIOUS = ROOT / "tests" / "golden" / "previous"
SEVEN = PREVIOUS / "finished" / "samples" / "0-is-7.png"
# By the version that wrote them.
ANSWERS = {
    "0": 0.16254618763923645,
    "7": 0.10842196643352509,
    "5": 0.1070036068558693,
}


@pytest.fixture
def finished(tmp_path):
    return shutil.copytree(PREVIOUS / "finished", tmp_path / "finished")


def assert_best(probabilities):
    """The three likeliest classes of `SEVEN`, in order."""
    for rank, (name, share) in enumerate(ANSWERS.items()):
        best = int(np.argsort(-np.asarray(probabilities))[rank])
        assert str(best) == name
        assert probabilities[best] == pytest.approx(share, abs=1e-5)


def read(path: Path) -> dict[str, Any]:
    told: dict[str, Any] = json.loads(path.read_text())
    return told


def history(folder: Path) -> list[dict[str, float]]:
    """Epochs, without what a clock tells."""
    rows = map(json.loads, (folder / "history.jsonl").read_text().splitlines())
    clocks = ("seconds", "images_per_second")
    return [{k: v for k, v in row.items() if k not in clocks} for row in rows]


def tolerance(folder: Path) -> float:
    """0 where processor and libraries are those of then."""
    then = read(folder / "environment.json")
    keys = ("processor", "instruction_sets", "onednn", "threads")
    here = runtime.describe()
    versions = {k: v for k, v in then["versions"].items() if k != "keras-residual"}
    equal = all(then[key] == here[key] for key in keys)
    return 0 if equal and versions.items() <= runtime.versions().items() else 1e-3


@pytest.mark.filterwarnings("ignore:.*is resumed with other")
def test_an_unfinished_run_ends_as_it_did(workplace):
    """From within its second epoch: order, state and rate go on."""
    folder = workplace / "run"
    shutil.copytree(PREVIOUS / "unfinished", folder)
    recipe = training.Recipe.from_json((PREVIOUS / "golden.json").read_text())
    training.train(recipe, data="digits", folder=folder, export=False)
    close = {"rel": 0, "abs": tolerance(PREVIOUS / "unfinished")}
    for row, expected in zip(
        history(folder), history(PREVIOUS / "resumed"), strict=True
    ):
        assert row == pytest.approx(expected, **close)
    expected = read(PREVIOUS / "resumed/result.json")
    found = read(folder / "result.json")
    del expected["train_seconds"]
    # What that version measured; there is more now.
    found = {name: found[name] for name in expected}
    assert found == pytest.approx(expected, **close)


def test_a_run_is_evaluated(finished):
    before = json.loads((finished / "result.json").read_text())
    metrics = training.evaluate(finished)
    assert metrics["images"] == before["test_images"]
    for name in ("accuracy", "loss", "top5_accuracy", "calibration_error"):
        assert metrics[name] == pytest.approx(before[f"test_{name}"], abs=1e-5)


@pytest.mark.parametrize("place", ["finished", "export/1"])
def test_runs_and_exports_predict(place):
    [(_, ranked)] = prediction.predict_files(PREVIOUS / place, [SEVEN])
    assert dict(ranked[:3]) == pytest.approx(ANSWERS, abs=1e-5)


def test_a_run_is_exported_like_before(finished, tmp_path):
    path = serving.export(finished, tmp_path / "net")
    pixels = np.asarray(Image.open(SEVEN))[np.newaxis, ..., np.newaxis]
    [old], [new] = (
        serving.load(each).predict(pixels) for each in (PREVIOUS / "export" / "1", path)
    )
    assert_best(new)
    np.testing.assert_allclose(new, old, atol=1e-6)
    before, after = map(serving.describe, (PREVIOUS / "export" / "1", path))
    assert set(before) <= set(after)
    assert before["signatures"].keys() == after["signatures"].keys()


def test_an_export_is_served(tmp_path):
    folder = shutil.copytree(PREVIOUS / "export", tmp_path / "net")
    with served(folder) as urls:
        for url in urls:
            with Client(url, timeout=120, retries=8) as client:
                assert_best(client.predict_files([SEVEN]).probabilities[0])
