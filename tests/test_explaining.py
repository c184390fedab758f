from __future__ import annotations

import csv

import numpy as np

from keras_resnet import build, cifar_resnet
from keras_resnet.analysis import explaining


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
