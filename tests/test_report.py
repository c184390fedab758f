from __future__ import annotations

import json

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from sklearn.metrics import (
    balanced_accuracy_score,
    classification_report,
    f1_score,
    log_loss,
)

from keras_resnet.recipes import get_recipe
from keras_resnet.training import plots, report
from keras_resnet.training.evaluation import WORST, Mistake, evaluate_logits, pick
from keras_resnet.training.schedules import rates_by_epoch


def answers(images, classes, seed=0):
    """Logits of a middling classifier, and labels."""
    random = np.random.default_rng(seed)
    labels = random.integers(0, classes, images)
    logits = random.normal(0, 2, (images, classes))
    logits[np.arange(images), labels] += 3
    return logits, labels


def names(classes):
    return [f"class {i}" for i in range(classes)]


def softmax(logits):
    exponentials = np.exp(logits)
    return exponentials / exponentials.sum(-1, keepdims=True)


def test_metrics_are_sklearns():
    logits, labels = answers(500, 8)
    found = evaluate_logits(logits.astype("float32"), labels, names(8))
    probabilities = softmax(logits)
    expected = classification_report(
        labels, logits.argmax(-1), target_names=names(8), output_dict=True
    )
    assert found.metrics["accuracy"] == pytest.approx(expected["accuracy"])
    assert found.metrics["loss"] == pytest.approx(
        log_loss(labels, probabilities), rel=1e-5
    )
    five = np.sort(logits, -1)[:, -5]
    right = logits[np.arange(500), labels] >= five
    assert found.metrics["top5_accuracy"] == pytest.approx(right.mean())
    assert found.metrics["images"] == 500
    predictions = logits.argmax(-1)
    for name, score in (
        ("balanced_accuracy", balanced_accuracy_score(labels, predictions)),
        ("macro_f1", f1_score(labels, predictions, average="macro")),
    ):
        assert found.metrics[name] == pytest.approx(score)
    for row in found.per_class:
        theirs = expected[row["class"]]
        assert row["precision"] == pytest.approx(theirs["precision"])
        assert row["recall"] == pytest.approx(theirs["recall"])
        assert row["f1"] == pytest.approx(theirs["f1-score"])
        assert row["support"] == theirs["support"]


def test_few_classes_have_no_top_5():
    logits, labels = answers(20, 5)
    assert "top5_accuracy" not in evaluate_logits(logits, labels, names(5)).metrics


def test_calibration_error_by_hand():
    # Confidences of two classes; bins of 1/15: 0.9 lies in the 14th, 0.6 on the upper
    # border of the 9th.
    confidences = np.array([0.9, 0.9, 0.9, 0.6])
    logits = np.stack([np.log(confidences), np.log(1 - confidences)], -1)
    found = evaluate_logits(logits, np.array([0, 0, 1, 1]), names(2))
    filled = {i: b for i, b in enumerate(found.bins) if b.images}
    assert set(filled) == {8, 13}
    assert filled[13] == pytest.approx((3, 0.9, 2 / 3))
    assert filled[8] == pytest.approx((1, 0.6, 0.0))
    expected = 3 / 4 * abs(2 / 3 - 0.9) + 1 / 4 * 0.6
    assert found.metrics["calibration_error"] == pytest.approx(expected)


def test_confidence_that_is_right_as_often_is_calibrated():
    random = np.random.default_rng(0)
    logits = random.normal(0, 1.5, (20_000, 4))
    honest = np.array([random.choice(4, p=row) for row in softmax(logits)])
    error = evaluate_logits(logits, honest, names(4)).metrics["calibration_error"]
    boast = evaluate_logits(3 * logits, honest, names(4)).metrics["calibration_error"]
    assert error < 0.02 < 0.2 < boast


def test_the_worst_mistakes_come_first():
    logits, labels = answers(300, 6)
    found = evaluate_logits(logits, labels, names(6))
    assert len(found.worst) == WORST
    assert (found.predictions[found.worst] != labels[found.worst]).all()
    confidences = softmax(logits).max(-1)
    wrong = logits.argmax(-1) != labels
    expected = np.sort(confidences[wrong])[::-1][:WORST]
    np.testing.assert_allclose(found.confidences[found.worst], expected)


def test_huge_logits_and_absent_classes_are_no_trouble():
    logits = np.array([[1e30, 0.0, 0.0], [0.0, 5.0, 1.0]], "float32")
    found = evaluate_logits(logits, np.array([0, 0]), names(3))
    assert found.metrics["accuracy"] == 0.5
    assert found.confidences[0] == 1.0
    assert [row["support"] for row in found.per_class] == [2, 0, 0]
    assert found.per_class[2]["f1"] == 0.0


def test_images_are_picked_out_of_batches():
    images = np.arange(23 * 4).reshape(23, 2, 2, 1).astype("uint8")
    dataset = tf.data.Dataset.from_tensor_slices((images, np.zeros(23))).batch(5)
    picked = pick(dataset, np.array([22, 0, 7]))
    np.testing.assert_array_equal(picked, images[[22, 0, 7]])
    assert pick(dataset, []) == []


@pytest.mark.parametrize(("classes", "channels"), [(2, 1), (10, 3), (30, 3), (300, 3)])
def test_what_is_written(tmp_path, classes, channels):
    logits, labels = answers(400, classes)
    found = evaluate_logits(logits, labels, names(classes))
    images = np.random.default_rng(0).integers(
        0, 256, (len(found.worst), 6, 6, channels)
    )
    report.write_report(found, list(images.astype("uint8")), tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == set(report.FILES)
    table = json.loads((tmp_path / "report.json").read_text())
    assert table["accuracy"] == found.metrics["accuracy"]
    assert len(table["per_class"]) == classes
    assert sum(row["images"] for row in table["calibration"]) == 400
    worst = table["worst_mistakes"][0]
    assert worst["is"] == names(classes)[labels[worst["image"]]]
    assert worst["is"] != worst["taken_for"]
    for name in report.FILES:
        if name.endswith(".png"):
            with Image.open(tmp_path / name) as image:
                assert 400 < min(image.size) < max(image.size) < 2000


def test_formulas_in_names_and_five_channels_are_drawn(tmp_path):
    logits, labels = answers(50, 2)
    found = evaluate_logits(logits, labels, [r"$5\bill$", "$"])
    images = np.zeros((len(found.worst), 6, 6, 5), "uint8")
    report.write_report(found, list(images), tmp_path)
    assert (tmp_path / "mistakes.png").exists()


def test_a_perfect_classifier_has_no_mistakes(tmp_path):
    found = evaluate_logits(np.eye(6) * 9, np.arange(6), names(6))
    report.write_report(found, [], tmp_path)
    assert json.loads((tmp_path / "report.json").read_text())["worst_mistakes"] == []
    assert (tmp_path / "mistakes.png").exists()


@pytest.fixture
def drawn(monkeypatch):
    """Figures as they are saved, drawn."""
    figures = []

    def write(path, figure):
        figure.canvas.draw()
        figures.append(figure)

    monkeypatch.setattr(plots, "write_figure", write)
    return figures


def overlaps(texts):
    """Pairs of texts that stand in each other."""
    boxes = [text.get_window_extent() for text in texts if text.get_text()]
    return [
        (a, b)
        for i, a in enumerate(boxes)
        for b in boxes[i + 1 :]
        if a.padded(-1).overlaps(b.padded(-1))
    ]


@pytest.mark.parametrize("classes", [2, 10, 20, 60, 200, 1000])
def test_names_of_confused_classes_stay_apart(drawn, tmp_path, classes):
    logits, labels = answers(1000, classes)
    long = [f"a wire-haired fox terrier, kind {i}" for i in range(classes)]
    plots.draw_confusion(labels, logits.argmax(-1), long, tmp_path)
    axes = drawn[0].axes[0]
    for axis in (axes.xaxis, axes.yaxis):
        labels_shown = axis.get_ticklabels()
        assert not overlaps(labels_shown)
        if classes <= 60:
            assert len({text.get_text() for text in labels_shown}) == classes
    assert not overlaps(axes.texts)  # the counts
    assert bool(axes.texts) == (classes <= 20 or classes > 200)


def test_titles_of_mistakes_stay_apart(drawn, tmp_path):
    image = np.zeros((6, 6, 3), "uint8")
    name = "a wire-haired fox terrier"
    mistake = Mistake(name, name, 0.999, "at 99.9%")
    plots.draw_mistakes([image] * 20, [mistake] * 20, tmp_path)
    figure = drawn[0]
    assert not overlaps([axes.title for axes in figure.axes] + figure.texts)


def test_curves_have_the_learning_rate_if_it_is_known(drawn, tmp_path):
    rows = [
        {"epoch": 1, "loss": 2.0, "accuracy": 0.4, "learning_rate": 0.1},
        {"epoch": 2, "loss": 1.0, "accuracy": 0.5, "learning_rate": 0.01},
    ]
    plots.draw_curves(rows, tmp_path)
    without = [{k: v for k, v in row.items() if k != "learning_rate"} for row in rows]
    plots.draw_curves(without, tmp_path)
    assert [len(figure.axes) for figure in drawn] == [3, 2]
    line = drawn[0].axes[2].lines[0]
    np.testing.assert_array_equal(line.get_ydata(), [0.1, 0.01, 0.01])
    np.testing.assert_array_equal(line.get_xdata(), [0, 1, 2])


def test_curves_show_the_first_epoch_and_the_warm_up(drawn, tmp_path):
    rows = [
        {"epoch": epoch, "loss": 1 / epoch, "accuracy": 1 - 0.9 / epoch**3,
         "val_loss": 1.0, "val_accuracy": 1.0}
        for epoch in range(1, 31)
    ]  # fmt: skip
    recipe = get_recipe("digits").replace(epochs=30, warmup_epochs=2)
    rates = rates_by_epoch(recipe, steps=10)
    plots.draw_curves(rows, tmp_path, rates)
    loss, error, rate = drawn[0].axes
    for axes in (loss, error):
        low, high = axes.get_ylim()
        assert low <= axes.dataLim.ymin
        assert axes.dataLim.ymax < high
    assert error.dataLim.ymax == pytest.approx(90)
    assert [text.get_text() for text in error.get_yticklabels()][:4] == list("0123")
    x, y = rate.lines[0].get_data()
    np.testing.assert_allclose(y[x <= 2], 0.05 * x[x <= 2], atol=1e-6)


def test_rates_by_epoch_show_drops_where_they_are():
    recipe = get_recipe("he2015_cifar")
    rates = dict(rates_by_epoch(recipe, steps=2))
    half = recipe.epochs // 2
    before = max(epoch for epoch in rates if epoch < half)
    after = min(epoch for epoch in rates if epoch >= half)
    assert after - before < recipe.epochs / 200
    assert rates[before] == pytest.approx(0.1)
    assert rates[after] == pytest.approx(0.01)
    assert rates_by_epoch(recipe.replace(schedule="plateau", drops=()), 2) == []


def test_labels_that_are_likely_wrong_are_named():
    """Two of three classes are told apart well, and two labels were exchanged."""
    labels = np.repeat(np.arange(3), 20)
    logits = np.random.default_rng(0).normal(0, 0.3, (60, 3))
    logits[np.arange(60), labels] += 4
    labels[[3, 45]] = 2, 0
    found = evaluate_logits(logits, labels, names(3))
    assert sorted(found.suspects.tolist()) == [3, 45]
    assert not evaluate_logits(4 * np.eye(3), np.arange(3), names(3)).suspects.size
