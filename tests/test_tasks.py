"""Tasks beyond one class of several, from real data to answers and back."""

from __future__ import annotations

import csv
import html
import json

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image
from sklearn import metrics as sk
from sklearn.datasets import load_digits
from tensorflow_serving.apis import model_pb2

from keras_resnet import data, serving, weights
from keras_resnet.analysis import explaining
from keras_resnet.analysis.ablation import lesions
from keras_resnet.analysis.activation import class_activation
from keras_resnet.cli import main
from keras_resnet.leaderboard import find
from keras_resnet.prediction import predict_files
from keras_resnet.recipes import get_recipe
from keras_resnet.run import Run
from keras_resnet.serving.client import check_answers
from keras_resnet.serving.servables import Models
from keras_resnet.tasks import TASKS
from keras_resnet.training import train

DIGITS = load_digits()
PIXELS = np.rint(DIGITS.images * (255 / 16)).astype(np.uint8)
INK = (PIXELS > 127).sum(axis=(1, 2))  # pixels that are bright: 11 to 33 or so


def even_or_odd(folder):
    """One of two classes, as arrays in a file."""
    path = folder / "parity.npz"
    names = np.array(["even", "odd"])
    np.savez(path, images=PIXELS, labels=DIGITS.target % 2, class_names=names)
    return str(path)


def pairs(folder):
    """Two digits side by side and a table of which they are."""
    left, right = np.random.default_rng(0).permutation(1600).reshape(2, 800)
    with (folder / "pairs.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["path", "labels"])
        for i, (a, b) in enumerate(zip(left, right, strict=True)):
            picture = Image.fromarray(np.concatenate([PIXELS[a], PIXELS[b]], axis=1))
            picture.save(folder / f"{i}.png")
            both = {f"d{DIGITS.target[a]}", f"d{DIGITS.target[b]}"}
            table.writerow([f"{i}.png", "|".join(sorted(both))])
    return f"csv:{folder / 'pairs.csv'}"


def ink(folder):
    """How many pixels are bright, by a table."""
    with (folder / "ink.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["path", "writer", "ink"])
        for i in range(1000):
            Image.fromarray(PIXELS[i]).save(folder / f"{i}.png")
            table.writerow([f"{i}.png", "unknown", INK[i]])
    return f"csv:{folder / 'ink.csv'}"


SOURCES = {
    "binary": (even_or_odd, {}),
    "labels": (pairs, {}),
    "regression": (ink, {"label_columns": ["ink"]}),
}


@pytest.fixture(scope="module", params=SOURCES)
def run(request, tmp_path_factory):
    """A run of a few epochs, of each task."""
    folder = tmp_path_factory.mktemp(request.param)
    make, loading = SOURCES[request.param]
    recipe = get_recipe("digits").replace(task=request.param, epochs=8)
    train(recipe, data=make(folder), folder=folder / "run", **loading)
    return Run(folder / "run")


@pytest.fixture(scope="module")
def answers(run):
    """Outputs of the best model on the test images, and their targets."""
    model, test = run.load_model(), run.load_splits().test
    found = [
        (model.predict_on_batch(x), np.asarray(y)) for x, y in test.as_numpy_iterator()
    ]
    outputs, targets = (np.concatenate(part) for part in zip(*found, strict=True))
    return np.float64(outputs), targets


def test_a_run_is_judged_as_its_task_is(run, answers):
    outputs, targets = answers
    task, result = run.recipe.task, run.result
    if task == "binary":
        right = (outputs[:, 0] > 0) == targets
        expected = {
            "accuracy": right.mean(),
            "auc": sk.roc_auc_score(targets, outputs[:, 0]),
            "f1": sk.f1_score(targets, outputs[:, 0] > 0),
            "loss": sk.log_loss(targets, 1 / (1 + np.exp(-outputs[:, 0]))),
        }
        least = 0.85
    elif task == "labels":
        given = outputs > 0
        expected = {
            "mean_average_precision": sk.average_precision_score(targets, outputs),
            "macro_f1": sk.f1_score(targets, given, average="macro"),
            "exact_match": sk.accuracy_score(targets, given),
        }
        least = 0.85
    else:
        assert targets.std() > 2  # in pixels
        expected = {
            "r2": sk.r2_score(targets, outputs),
            "mae": sk.mean_absolute_error(targets, outputs),
            "rmse": sk.root_mean_squared_error(targets, outputs),
        }
        least = 0.6
        assert "test_accuracy" not in result
    for name, value in expected.items():
        assert result[f"test_{name}"] == pytest.approx(value, rel=1e-4), name
    score = TASKS[task].score.key
    assert result[f"test_{score}"] > least
    [entry] = find(run.folder)
    assert entry.metric == score
    assert entry.score == result[f"test_{score}"]
    assert (entry.accuracy is None) == (score != "accuracy")


def test_the_best_epoch_is_the_monitors(run):
    monitor = TASKS[run.recipe.task].monitor
    values = [row[f"val_{monitor.key}"] for row in run.history]
    best = max(values) if monitor.higher else min(values)
    model, val = run.load_model(), run.load_splits().val
    model.compile(**run.recipe.compile_args(model, 1))
    found = model.evaluate(val, verbose=0, return_dict=True)
    assert found[monitor.key] == pytest.approx(best, rel=1e-4)


def test_what_is_written_tells_the_task(run):
    task = run.recipe.task
    kept = json.loads((run.folder / "recipe.json").read_text())
    assert kept["task"] == task
    page = html.unescape((run.folder / "report.html").read_text())
    assert TASKS[task].score.name in page
    assert TASKS[task].outputs in page
    there = {path.name for path in run.folder.glob("*.png")}
    assert ("confusion.png" in there) == (task == "binary")
    assert ("labels.png" in there) == (task == "labels")
    assert ("values.png" in there) == (task == "regression")
    assert ("calibration.png" in there) == (task != "regression")
    assert "accuracy" not in page or task == "binary"
    [mistake, *_] = json.loads((run.folder / "report.json").read_text())[
        "worst_mistakes"
    ]
    assert mistake["is"] != mistake["taken_for"]


def expected_of(task, outputs):
    if task == "regression":
        return outputs
    ones = 1 / (1 + np.exp(-outputs))
    return np.concatenate([1 - ones, ones], axis=-1) if task == "binary" else ones


def test_run_export_and_client_answer_alike(run, answers):
    task = run.recipe.task
    names = run.data["class_names"]
    samples = sorted((run.folder / "samples").glob("*.png"))
    pixels = run.read_samples()
    expected = expected_of(task, run.load_model().predict(pixels, verbose=0))
    for place in (run.folder, run.folder / "export" / "1"):
        found = predict_files(place, samples)
        rows = [[dict(ranking)[name] for name in names] for _, ranking in found]
        np.testing.assert_allclose(rows, expected, rtol=1e-3, atol=1e-4)
    described = serving.runtimes.describe(run.folder / "export" / "1")
    assert described["task"] == task
    models = Models(run.folder)
    newest = models.load(model_pb2.ModelSpec(name=models.name))
    raw = newest.run("serving_default", {"images": pixels}, [])
    served = check_answers(raw, len(pixels), multi_label=task == "labels")
    values = served.values if task == "regression" else served.probabilities
    np.testing.assert_allclose(values, expected, rtol=1e-3, atol=1e-4)
    if task == "regression":
        assert served.labels == [names] * len(pixels)
        # In pixels that are bright, not in standard deviations.
        assert 0.5 < values.mean() / answers[1].mean() < 2


def test_commands_say_what_the_task_gives(run):
    def said(*words):
        result = CliRunner().invoke(main, list(map(str, words)), catch_exceptions=False)
        assert result.exit_code == 0, result.output
        return result.output

    task, folder = run.recipe.task, run.folder
    evaluated = said("evaluate", folder)
    assert f"test {TASKS[task].score.name}" in evaluated
    sample = sorted((folder / "samples").glob("*.png"))[0]
    predicted = said("predict", folder, sample)
    name = run.data["class_names"][0]
    assert ("%" in predicted) == (task != "regression")
    if task == "regression":
        assert f"{name} " in predicted
        assert "accuracy" not in evaluated
        assert "R2 0." in said("runs", folder)


def test_what_goes_on_inside_is_drawn(run, answers, tmp_path):
    task = run.recipe.task
    outputs, targets = answers
    model = run.load_model()
    batches = list(run.load_splits().test.as_numpy_iterator())
    whole, *units = lesions(model, batches, task)
    assert len(units) == 3
    if task == "regression":
        error = np.abs(outputs - targets).mean() / targets.std()
    elif task == "binary":
        error = ((outputs[:, 0] > 0) != targets).mean()
    else:
        given = outputs > 0
        error = 1 - sk.f1_score(targets, given, average="samples", zero_division=0)
    assert whole.error == pytest.approx(error, abs=1e-3)
    assert explaining.explain(model, batches[:1], tmp_path, task)
    heat = class_activation(model, batches[0][0][0], task=task)
    assert heat.shape == batches[0][0].shape[1:3]


def test_a_model_card_names_the_task(run, tmp_path):
    weights.push(run.folder, "me/digits", dry_run=tmp_path / "card")
    card = (tmp_path / "card" / "README.md").read_text()
    task = run.recipe.task
    assert f"(`{task}`)" in card
    assert f"| {TASKS[task].score.name} |" in card
    assert ("accuracy" in card) == (task == "binary")


@pytest.mark.slow
@pytest.mark.parametrize("form", ["litert", "onnx", "openvino"])
def test_other_formats_and_eight_bits(run, form, tmp_path):
    path = serving.export(
        run.folder, tmp_path / "net", format=form, quantize="int8", force=True
    )
    check = json.loads((path / "check.json").read_text())
    assert check["test"]["measure"] == serving.quantizing.MEASURES[run.recipe.task]
    assert abs(check["test"]["difference_points"]) < 10
    assert ("agreement" in check) == (run.recipe.task != "regression")


def test_weights_go_on_under_a_new_head(run, tmp_path):
    other = get_recipe("digits").over(1).replace(task="regression")
    images = 255 - PIXELS[:200]  # which no run here has seen
    if run.recipe.task == "labels":
        images = np.concatenate([images, images], axis=2)
    targets = np.stack([INK[:200], 100.0 * INK[:200]], axis=1)
    result = train(
        other,
        data={"train": (images, targets), "class_names": ["ink", "percent"]},
        weights=run.folder,
        folder=tmp_path / "next",
    )
    mean, _ = Run(result.folder).data["target_stats"]
    assert mean[1] == pytest.approx(100 * mean[0], rel=1e-4)
    assert set(result.metrics) == {"r2", "images"}  # units differ


@pytest.mark.parametrize("task", ["binary", "labels", "regression"])
def test_mixed_images_have_mixed_targets(task):
    targets = {
        "binary": np.arange(40) % 2,
        "labels": np.stack([np.arange(40) % 2, np.arange(40) % 3 == 0], axis=1),
        "regression": np.arange(40) * 10.0,
    }[task]
    splits = data.load(
        (PIXELS[:40], targets), task=task, augment=data.Augment(mixup=1.0), batch_size=8
    )
    labels = np.concatenate([y for _, y in splits.train.as_numpy_iterator()])
    assert labels.dtype == np.float32
    assert labels.shape[1:] == (() if task == "binary" else (splits.units,))
    shares = labels % 10 / 10 if task == "regression" else labels
    assert ((shares > 0.01) & (shares < 0.99)).any()
