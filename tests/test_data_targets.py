"""Several labels and numbers as they are given: read as meant, or refused."""

from __future__ import annotations

import numpy as np
import pandas
import pytest
from click.testing import CliRunner
from PIL import Image

from keras_resnet import data, runtime
from keras_resnet.cli import main
from keras_resnet.data import DataError
from keras_resnet.data.labelled import load_labelled
from keras_resnet.errors import RecipeError
from keras_resnet.recipe import Recipe
from keras_resnet.recipes import get_recipe

IMAGES = np.random.default_rng(0).integers(0, 256, (30, 8, 8, 1)).astype("uint8")


@pytest.fixture
def table(tmp_path):
    """Writes 30 images and a CSV file of them."""
    for i, pixels in enumerate(IMAGES):
        Image.fromarray(pixels[..., 0]).save(tmp_path / f"{i}.png")

    def write(header, row):
        rows = [f"{i}.png,{row(i)}" for i in range(len(IMAGES))]
        (tmp_path / "t.csv").write_text("\n".join([f"path,{header}", *rows]))
        return f"csv:{tmp_path / 't.csv'}"

    return write


def labels_of(splits):
    found = [y for _, y in splits.test.as_numpy_iterator()]
    return np.concatenate(found)


def test_labels_are_read_from_cells_and_columns(table):
    def cell(i):
        return "|".join(["cat"] * (i % 2) + ["dog"] * (i % 3 > 0))

    one = data.load(table("labels", cell), task="labels")
    assert one.class_names == ("cat", "dog")
    assert sum(one.class_counts["train"]) + sum(one.class_counts["test"]) > 20
    assert any("'|'" in note for note in one.notes)
    assert "5 images without a label" in one.notes
    columns = table("cat,dog", lambda i: f"{i % 2},{int(i % 3 > 0)}")
    two = data.load(columns, task="labels")
    np.testing.assert_array_equal(labels_of(one), labels_of(two))
    assert one.units == 2
    assert labels_of(one).dtype == np.float32


def test_numbers_stay_classes_unless_a_regression_is_asked_for(table):
    source = table("label", lambda i: i % 3)
    assert data.load(source).class_names == ("0", "1", "2")
    splits = data.load(source, task="regression")
    assert splits.class_names == ("label",)
    targets = np.concatenate([y for _, y in splits.train.as_numpy_iterator()])
    [mean], [deviation] = splits.target_stats
    assert mean == pytest.approx(targets.mean(), rel=1e-5)
    assert deviation == pytest.approx(targets.std(), rel=1e-5)
    assert data.load(**splits.arguments).fingerprint == splits.fingerprint


def test_columns_can_be_named(table):
    source = table("height,weight,breed", lambda i: f"{i},{i / 2},{'ab'[i % 2]}")
    splits = data.load(source, task="regression", label_columns=["weight"])
    assert splits.class_names == ("weight",)
    assert data.load(source, label_columns=["breed"]).class_names == ("a", "b")
    both = data.load(source, task="regression", label_columns=("height", "weight"))
    targets = labels_of(both)
    np.testing.assert_allclose(targets[:, 0], 2 * targets[:, 1])
    assert any("height" in note for note in both.notes)


def test_other_images_are_tested_by_the_names_of_their_labels(table):
    source = table("dog,cat", lambda i: f"{i % 2},{int(i % 3 > 0)}")
    found = load_labelled(source, ("bird", "cat", "dog"), (8, 8, 1), task="labels")
    labels = np.concatenate([y for _, y in found.batches.as_numpy_iterator()])
    np.testing.assert_array_equal(labels[:, 2], np.arange(30) % 2)
    assert not labels[:, 0].any()
    with pytest.raises(DataError, match="'dog' is no class of the model"):
        load_labelled(source, ("cat", "bird"), (8, 8, 1), task="labels")


def flags(i):
    return f"{i % 2},{int(i % 3 > 0)}"


WRONG = {
    "a word": ("cat,dog", lambda i: "1,yes" if i == 3 else flags(i), "labels",
               r"'yes' in column dog for 3.png, not 0 or 1"),
    "a number": ("cat,age", lambda i: f"{i % 2},{i}", "labels",
                 r"'2' in column age for 2.png, not 0 or 1"),
    "two separators": ("labels", lambda i: "a|b" if i % 2 else "a;b", "labels",
                       r"'\|' and ';' in its column of labels"),
    "on none": ("cat,dog", lambda i: f"{i % 2},0", "labels",
                "dog is on no training images"),
    "one label": ("labels", lambda i: "cat" * (i % 2), "labels",
                  "one label, cat; .* task 'binary'"),
    "not a number": ("target", lambda i: "inf" if i == 4 else i, "regression",
                     r"'inf' in column target for 4.png, not a finite number"),
    "text": ("target", lambda i: "tall" if i == 4 else i, "regression",
             r"'tall' in column target for 4.png"),
    "always the same": ("target", lambda i: 7, "regression",
                        "target is 7 for all training images"),
    "no column": ("height,weight", lambda i: f"{i},{i}", "regression",
                  r"no column for the label, only .*weight; .*--label-columns"),
    "three classes": ("label", lambda i: i % 3, "binary",
                      "'binary' is of two classes, but the data have 3: 0, 1, 2"),
    "one class": ("label", lambda i: "cat", "binary", "has 1 label; "),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_a_table_that_can_not_be_meant_is_refused(table, name):
    header, row, task, message = WRONG[name]
    with pytest.raises(DataError, match=message) as refused:
        data.load(table(header, row), task=task)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("labels", "task", "message"),
    [
        (np.arange(30) % 3, "labels", r"0 or 1 of shape \(images, labels\)"),
        (np.full((30, 2), 2), "labels", "has 2 for image 0, not 0 or 1"),
        (np.eye(30)[:, :1], "labels", "one label"),
        (np.where(np.arange(30) == 5, np.nan, 1.0), "regression",
         "has nan for image 5, not a finite number"),
        (np.array(["a"] * 30), "regression", "a finite number of shape"),
        (np.zeros(30), "regression", "value is 0 for all training images"),
        (np.arange(30) / 2, "classes", "task may be 'labels' or 'regression'"),
        (np.arange(30) % 2, "sorting", "task: 'sorting' is not one of 'classes'"),
    ],
)  # fmt: skip
def test_arrays_that_can_not_be_meant_are_refused(labels, task, message):
    with pytest.raises(DataError, match=message):
        data.load((IMAGES, labels), task=task)


def test_what_has_one_class_an_image_is_refused_at_once():
    with pytest.raises(DataError, match=r"digits has one class .* 'regression', needs"):
        data.load("digits", task="regression")
    frame = pandas.DataFrame({"path": ["a.png"], "label": ["1"]})
    with pytest.raises(DataError, match=r"no column 'age', only"):
        data.load(frame, task="regression", label_columns=["age"])


def test_commands_refuse_before_tensorflow_is_loaded(table, monkeypatch, tmp_path):
    monkeypatch.setattr(runtime, "prepare", lambda: pytest.fail("it is loaded"))
    source = table("target", lambda i: "inf" if i == 4 else i)
    recipe = get_recipe("digits").replace(task="labels")
    (tmp_path / "labels.json").write_text(recipe.to_json())
    for words, message in (
        (
            f"train --recipe digits --set task=regression --data {source}",
            "not a finite",
        ),
        ("train --recipe digits --set task=labels", "digits has one class"),
        ("train --recipe digits --set task=sorting", "task: 'sorting' is not one of"),
        (f"train --recipe digits --data {source} --label-columns no", "no column 'no'"),
        (f"tune --recipe {tmp_path}/labels.json --data {source}", "has no accuracy"),
        (f"rate --recipe {tmp_path}/labels.json --data digits", "digits has one class"),
    ):
        result = CliRunner().invoke(main, words.split())
        assert result.exit_code == 2, result.output
        assert message in result.output
        assert result.output.count("\n") == 1


def test_a_recipe_of_classes_is_written_as_before():
    recipe = get_recipe("digits")
    assert "task" not in recipe.to_dict()
    other = recipe.replace(task="regression")
    assert Recipe.from_json(other.to_json()) == other
    assert other.differences(recipe.to_dict()) == ["task"]
    assert recipe.differences(other.to_dict()) == ["task"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"label_smoothing": 0.1}, "label_smoothing: 0.1 with task 'regression'"),
        ({"loss": "binary"}, "loss: 'binary' is of task 'classes'"),
        ({"augment": data.Augment(cutmix=1.0)}, "cutmix: 1 with task 'regression'"),
        ({"class_weight": "balanced"}, "class_weight: 'balanced' with task"),
        ({"sampling": "balanced"}, "sampling: 'balanced' with task"),
    ],
)
def test_what_a_regression_has_no_use_for_is_refused(changes, message):
    with pytest.raises(RecipeError, match=message):
        get_recipe("digits").replace(task="regression", **changes)
