from __future__ import annotations

import keras
import numpy as np
import pytest

from keras_resnet import build, cifar_resnet, cifar_resnext, resnext, surgery
from keras_resnet.analysis import responses
from keras_resnet.errors import UserError

SHAPE = (8, 8, 1)


def tiny(**changes):
    fields = {"input_shape": SHAPE, "stem_width": 4, "widths": (4, 8, 8)} | changes
    return build(cifar_resnet(8, name="tiny", **fields))


@pytest.fixture(scope="module")
def batch():
    rng = np.random.default_rng(0)
    return rng.normal(size=(64, *SHAPE)).astype("float32"), rng.integers(0, 10, 64)


def adapt(model, images):
    """Moving statistics of these images, and scales that aren't all alike."""
    rng = np.random.default_rng(1)
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.gamma.assign(rng.uniform(0.5, 1.5, layer.gamma.shape))
            layer.beta.assign(rng.normal(size=layer.beta.shape))
            layer.momentum = 0.5
    for _ in range(20):
        model(images, training=True)


def test_responses_are_those_of_algebra(batch):
    model = tiny()
    adapt(model, batch[0])
    rows = responses.layer_responses(model, batch[0])
    assert [row.layer for row in rows] == [
        "conv1_conv",
        *(f"conv{s}_block1_{c}_conv" for s in (2, 3, 4) for c in (1, 2)),
    ]
    for row in rows:
        assert row.std == pytest.approx(row.expected, rel=0.01)
    # By hand: the first one's batch norm.
    tapped = keras.Model(model.input, model.get_layer("conv1_bn").output)
    assert rows[0].std == pytest.approx(np.std(tapped(batch[0])), rel=1e-4)
    # The same of batches with labels; of images that are all zero, far from algebra.
    batches = [(batch[0][:40], batch[1][:40]), (batch[0][40:], batch[1][40:])]
    again = responses.layer_responses(model, batches)
    assert [row.std for row in again] == pytest.approx([row.std for row in rows])
    constant = responses.layer_responses(model, np.zeros_like(batch[0]))
    assert constant[0].std < 0.9 * constant[0].expected


def test_projections_are_left_out_and_last_convolutions_may_have_no_norm(batch):
    rows = responses.layer_responses(tiny(order="pre", shortcut="project"), batch[0])
    assert len(rows) == 7
    assert [row.expected is None for row in rows] == [False, *[False, True] * 3]


def test_gradients_leave_the_model_as_it_was(batch):
    model = tiny()
    before = model.get_weights()
    rows = responses.gradient_norms(model, *batch)
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)
    assert [row.layer for row in rows][0::7] == ["conv1_conv", "predictions"]
    assert all(row.norm > 0 for row in rows)
    layer = model.layers[-1]
    assert rows[-1].relative == pytest.approx(
        rows[-1].norm / np.linalg.norm(layer.kernel), rel=1e-5
    )


def test_gradients_over_a_kernel_of_zeros(batch):
    deeper = surgery.deepen(tiny(order="pre"), (2, 1, 1))
    rows = {row.layer: row for row in responses.gradient_norms(deeper, *batch)}
    # The new unit's last kernel is zero; the one before it gets no gradient by that.
    assert rows["conv2_block2_2_conv"].relative == np.inf
    assert rows["conv2_block2_1_conv"].relative == 0
    deeper.get_layer("conv2_block2_1_conv").kernel.assign(np.zeros((3, 3, 4, 4)))
    rows = responses.gradient_norms(deeper, *batch)
    assert [row.relative for row in rows if "conv2_block2" in row.layer] == [0, 0]


def test_zero_gamma_leaves_all_of_the_signal_to_the_shortcut(batch):
    model = tiny(zero_gamma=True)
    shares = responses.shortcut_shares(model, batch[0])
    assert [row.share for row in shares] == [1, 1, 1]
    assert shares[0].unit == "conv2_block1_add"
    halves = responses.shortcut_shares(tiny(), batch[0])
    assert all(0 < row.share < 1 for row in halves)


@pytest.mark.parametrize("merge", ["scale", "dropout", "shortcut_gate"])
def test_shares_are_of_what_is_added(batch, merge):
    changes = {"merge": merge, "merge_scales": (0.5, 0.5)}
    model = tiny(**changes)
    unit = model.get_layer("conv2_block1_add")
    shortcut, residual = keras.Model(model.input, unit.input)(batch[0])
    if merge == "scale":
        parts = 0.5 * shortcut, 0.5 * residual
    elif merge == "dropout":
        parts = 0.5 * shortcut, residual
    else:
        parts = (1 - unit.gate(shortcut)) * shortcut, residual
    energies = [float(np.mean(np.square(part))) for part in parts]
    np.testing.assert_allclose(sum(parts), unit([shortcut, residual]), atol=1e-5)
    share = responses.shortcut_shares(model, batch[0])[0].share
    assert share == pytest.approx(energies[0] / sum(energies), rel=1e-4)


def test_paths_of_a_resnext_are_no_shortcuts(batch):
    spec = cifar_resnext(
        11, 2, 2, input_shape=SHAPE, stem_width=8, widths=(8, 16, 16), name="tiny"
    )
    model = build(spec)
    shares = responses.shortcut_shares(model, batch[0])
    paths = responses.shortcut_shares(resnext.to_form(model, "a"), batch[0])
    assert [row.unit for row in paths] == [row.unit for row in shares]
    assert [row.share for row in paths] == pytest.approx([row.share for row in shares])


def test_share_of_nothing():
    shares = responses.shortcut_shares(tiny(), np.zeros((2, *SHAPE), "float32"))
    assert [row.share for row in shares] == [0, 0, 0]


def test_gates_start_nearly_closed(batch):
    model = tiny(merge="exclusive_gate", gate_bias=-3.0)
    for layer in model.layers:
        if layer.name.endswith("_add"):
            layer.kernel.assign(np.zeros(layer.kernel.shape))
    rows = responses.gate_openness(model, batch[0])
    assert [row.mean for row in rows] == pytest.approx([0.0474] * 3, abs=1e-4)
    assert [row.std for row in rows] == pytest.approx([0] * 3, abs=1e-4)
    assert rows[0].bias == -3


def test_what_is_not_there(batch):
    plain = tiny(merge="none")
    for look in (responses.shortcut_shares, responses.gate_openness):
        with pytest.raises(UserError, match="has no"):
            look(plain, batch[0])
    with pytest.raises(UserError, match="no images"):
        responses.layer_responses(plain, [])


def nested(model):
    """A network in a model, as transfer learning makes it."""
    image = keras.Input(SHAPE)
    return keras.Model(image, model(image), name="outer")


def test_what_is_nested_counts_as_if_it_stood_by_itself(batch):
    model = tiny(merge="shortcut_gate")
    adapt(model, batch[0])
    outer = nested(nested(model))
    for look in (
        responses.layer_responses, responses.shortcut_shares, responses.gate_openness,
    ):  # fmt: skip
        found, wanted = look(outer, batch[0]), look(model, batch[0])
        assert [row[0] for row in found] == [row[0] for row in wanted]
        np.testing.assert_allclose(
            [row[1] for row in found], [row[1] for row in wanted], rtol=1e-5
        )
    found, wanted = (responses.gradient_norms(m, *batch) for m in (outer, model))
    assert len(found) == len(wanted) == 8
    assert [row.layer for row in found] == [row.layer for row in wanted]
    np.testing.assert_allclose(
        [row.norm for row in found], [row.norm for row in wanted], rtol=1e-3
    )


def test_a_nested_model_that_can_not_be_walked_is_refused(batch):
    class Own(keras.Model):
        def call(self, inputs):
            return keras.ops.mean(inputs, axis=(1, 2))

    image = keras.Input(SHAPE)
    outer = keras.Model(image, keras.layers.Dense(10)(Own(name="own")(image)))
    with pytest.raises(UserError, match="'own' is not a functional or sequential"):
        responses.gradient_norms(outer, *batch)
