from __future__ import annotations

import csv
import itertools

import keras
import numpy as np

from keras_resnet import build, cifar_resnet
from keras_resnet.analysis import explaining
from keras_resnet.analysis.ablation import Lesion
from keras_resnet.analysis.responses import GradientNorm, UnitShare


def rows_of(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_all_there_is_to_see_in_a_highway_network(tmp_path):
    fields = {"input_shape": (8, 8, 1), "stem_width": 4, "widths": (4, 8, 8)}
    model = build(cifar_resnet(8, name="tiny", merge="exclusive_gate", **fields))
    model.get_layer("predictions").kernel.assign(np.ones((8, 10)))
    before = model.get_weights()
    images = np.random.default_rng(0).random((16, 8, 8, 1), "float32")
    paths = explaining.explain(model, [(images, np.arange(16) % 10)], tmp_path)
    names = ["responses", "gradients", "shortcuts", "lesions", "gates"]
    assert [path.name for path in paths] == [
        f"{name}.{kind}" for name in names for kind in ("png", "svg", "csv")
    ]
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)
    gradients = rows_of(tmp_path / "gradients.csv")
    states = {row["state"] for row in gradients}
    assert states == {"at initialization", "trained"}
    last = [row for row in gradients if row["layer"] == "predictions"]
    # The classifier's weights, all one, are as the model has them only "trained".
    assert last[0]["relative"] != last[1]["relative"]
    assert [row["unit"] for row in rows_of(tmp_path / "gates.csv")] == [
        f"conv{stage}_block1_add" for stage in (2, 3, 4)
    ]
    assert len(rows_of(tmp_path / "lesions.csv")) == 4  # the whole one first


def test_a_plain_network_has_responses_and_gradients(tmp_path):
    model = build(
        cifar_resnet(
            8, merge="none", input_shape=(8, 8, 1), stem_width=4, widths=(4, 8, 8)
        )
    )
    batches = [(np.ones((4, 8, 8, 1), "float32"), np.arange(4))]
    explaining.explain(model, batches, tmp_path)
    assert {path.stem for path in tmp_path.iterdir()} == {"responses", "gradients"}


def names_on(axis):
    return [text.get_text() for text in axis.get_ticklabels()]


def assert_nothing_is_cut(axes):
    """Markers have half a point's size of room to the frame."""
    axes.figure.canvas.draw()
    for line in axes.lines:
        radius = line.get_markersize() / 2 * axes.figure.dpi / 72
        places = axes.transData.transform(line.get_xydata())
        frame = axes.get_window_extent()
        assert places[:, 1].min() - radius > frame.y0
        assert places[:, 1].max() + radius < frame.y1


def test_units_are_named_and_no_point_is_cut():
    units = [f"conv2_block{i}_add" for i in range(1, 5)]
    shares = list(map(UnitShare, units, (0, 1, 0.5, 1)))
    (axes,) = explaining._chart(shares, "share", "share").figure.axes
    assert names_on(axes.xaxis) == [f"conv2_block{i}" for i in range(1, 5)]
    assert axes.get_ylabel() == "share (%)"
    np.testing.assert_array_equal(axes.lines[0].get_ydata(), [0, 100, 50, 100])
    assert_nothing_is_cut(axes)
    chart = explaining.lesion_chart(
        [Lesion(None, 0.05), Lesion(units[0], 0.0), Lesion(units[1], 0.9)]
    )
    (axes,) = chart.figure.axes
    assert_nothing_is_cut(axes)
    assert axes.get_legend() is None  # it is above the axes
    assert chart.figure.legends[0].get_texts()[0].get_text() == "whole network: 5.0%"


def test_of_many_units_some_are_named():
    shares = [UnitShare(f"conv2_block{i}_add", 0.5) for i in range(1, 334)]
    chart = explaining._chart(shares, "share", "share")
    chart.figure.canvas.draw()
    boxes = [
        text.get_window_extent() for text in chart.figure.axes[0].get_xticklabels()
    ]
    assert len(boxes) > 20
    assert not any(a.overlaps(b) for a, b in itertools.pairwise(boxes))


def test_where_no_gradient_comes_is_shown_and_explained():
    rows = [GradientNorm("a", 1.0, 1.0), GradientNorm("b", 0.0, 0.0)]
    figure = explaining.gradients_chart({"at initialization": rows}).figure
    (axes,) = figure.axes
    place = axes.lines[1].get_xydata()
    assert place[0][0] == 2
    assert place[0][1] == axes.get_ylim()[0]  # below all others
    assert "gamma is 0" in figure._supxlabel.get_text()
    figure = explaining.gradients_chart({"trained": rows[:1]}).figure
    assert figure._supxlabel is None


def test_a_nested_network_is_explained(tmp_path):
    fields = {"input_shape": (8, 8, 1), "stem_width": 4, "widths": (4, 8, 8)}
    image = keras.Input((8, 8, 1))
    model = keras.Model(image, build(cifar_resnet(8, **fields))(image))
    batches = [(np.ones((4, 8, 8, 1), "float32"), np.arange(4))]
    explaining.explain(model, batches, tmp_path)
    assert len(rows_of(tmp_path / "lesions.csv")) == 4
