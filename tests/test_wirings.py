"""What the variants of the papers compute, at initialization and in training."""

from __future__ import annotations

import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_resnet import build, cifar_resnet, get_spec, wide_resnet
from keras_resnet.layers import MergeAdd, MergeDropout, MergeGate, Skip

RANDOM = np.random.default_rng(0)
SHORTCUT = RANDOM.normal(size=(64, 4, 4, 3)).astype("float32")
RESIDUAL = RANDOM.normal(size=(64, 4, 4, 3)).astype("float32")


def merged(layer, training=False):
    return np.asarray(layer([SHORTCUT, RESIDUAL], **training_of(layer, training)))


def training_of(layer, training):
    return {} if isinstance(layer, MergeGate) else {"training": training}


def test_scale():
    for training in (False, True):
        out = merged(MergeAdd(0.5, 0.25), training)
        np.testing.assert_allclose(out, 0.5 * SHORTCUT + 0.25 * RESIDUAL, rtol=1e-5)


@pytest.mark.parametrize("exclusive", [True, False])
def test_gate(exclusive):
    layer = MergeGate(exclusive, gate_bias=-2.0)
    out = merged(layer)
    logits = SHORTCUT @ np.asarray(layer.kernel) - 2
    gate = 1 / (1 + np.exp(-logits))
    residual = gate * RESIDUAL if exclusive else RESIDUAL
    expected = (1 - gate) * SHORTCUT + residual
    np.testing.assert_allclose(out, expected, rtol=1e-4, atol=1e-6)


def test_a_closed_gate_carries_and_an_open_one_transforms():
    closed = MergeGate(gate_bias=-30.0)
    np.testing.assert_allclose(merged(closed), SHORTCUT, atol=1e-6)
    opened = MergeGate(gate_bias=30.0)
    np.testing.assert_allclose(merged(opened), RESIDUAL, atol=1e-6)


def test_highway_network_starts_as_a_carry():
    """T is about 0.047 at b = -3 (Srivastava 2015), so units pass on their input."""
    model = build("cifar_highway20")
    layer = model.get_layer("conv2_block2_add")
    x = tf.zeros((1, 32, 32, 16))
    assert np.mean(layer.gate(x)) == pytest.approx(0.0474, abs=1e-3)


@pytest.mark.parametrize("inverted", [False, True])
def test_shortcut_dropout(inverted):
    layer = MergeDropout(0.5, inverted)
    expectation = 1.0 if inverted else 0.5  # of the shortcut
    kept = merged(layer, training=True) - RESIDUAL
    ratio = kept / SHORTCUT
    factor = 2.0 if inverted else 1.0
    # Each value is dropped or kept at its factor; the sum rounds small ratios.
    assert np.all((np.abs(ratio) < 1e-2) | (np.abs(ratio - factor) < 1e-2))
    assert np.mean(np.abs(ratio) > 0.1) == pytest.approx(0.5, abs=0.05)
    out = merged(layer, training=False)
    np.testing.assert_allclose(out, expectation * SHORTCUT + RESIDUAL, atol=1e-5)


def test_sample_wise_stochastic_depth():
    layer = MergeAdd(survival=0.7, mode="sample")
    np.testing.assert_allclose(merged(layer), SHORTCUT + RESIDUAL, rtol=1e-5, atol=1e-6)
    draws = [merged(layer, training=True) - SHORTCUT for _ in range(40)]
    factors = np.array(
        [
            [np.vdot(d, r) / np.vdot(r, r) for d, r in zip(draw, RESIDUAL, strict=True)]
            for draw in draws
        ]
    )
    alive = factors > 0.5
    np.testing.assert_allclose(factors[alive], 1 / 0.7, rtol=1e-3)
    np.testing.assert_allclose(factors[~alive], 0, atol=1e-5)
    assert alive.mean() == pytest.approx(0.7, abs=0.03)
    # In expectation training is inference.
    assert np.mean(factors) == pytest.approx(1, abs=0.05)


def test_batch_wise_stochastic_depth():
    skip, merge = Skip(0.7), MergeAdd(survival=0.7)
    out = merge([SHORTCUT, skip(RESIDUAL, training=False)], training=False)
    np.testing.assert_allclose(out, SHORTCUT + 0.7 * RESIDUAL, rtol=1e-4, atol=1e-5)
    alive = 0
    for _ in range(300):
        residual = skip(RESIDUAL, training=True)
        out = np.asarray(merge([SHORTCUT, residual], training=True))
        if residual.shape == RESIDUAL.shape:
            alive += 1
            np.testing.assert_allclose(out, SHORTCUT + RESIDUAL, rtol=1e-5, atol=1e-6)
        else:
            assert residual.shape == (1, 1, 1, 3)
            np.testing.assert_array_equal(out, SHORTCUT)
    assert alive / 300 == pytest.approx(0.7, abs=0.08)


def statistics(model, unit):
    return {
        w.path: np.array(w)
        for w in model.weights
        if w.path.startswith(unit) and "moving" in w.path
    }


@pytest.mark.parametrize("spec", [cifar_resnet(8), get_spec("dense_resnet8")])
@pytest.mark.parametrize("order", ["post", "pre"])
def test_a_skipped_branch_learns_nothing_and_moves_no_batch_norm(spec, order):
    def trained(survival):
        keras.utils.set_random_seed(1)
        model = build(spec, order=order, survival=survival)
        model.compile(
            keras.optimizers.SGD(0.1),
            keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        )
        before = {w.path: np.array(w) for w in model.weights}
        x = np.random.default_rng(0).normal(size=(8, *spec.input_shape))
        model.train_on_batch(x.astype("float32"), np.arange(8))
        changed = {
            w.path for w in model.weights if not np.array_equal(before[w.path], w)
        }
        return {path for path in changed if path.startswith(last)}

    last = f"conv{len(spec.depths) + 1}_block{spec.depths[-1]}"
    # The first activation of a unit that opens a stage is shared by the branches.
    shared = {f"{last}_preact_bn/{w}" for w in ("gamma", "beta")} | {
        f"{last}_preact_bn/{w}" for w in ("moving_mean", "moving_variance")
    }
    assert trained(1e-9) <= shared
    assert {f"{last}_1_conv/kernel", f"{last}_1_bn/moving_mean"} <= trained(1.0)


def test_inference_is_the_weighted_expectation_of_the_paper():
    """Residuals count p_l times (Huang 2016, Equation 5)."""
    spec = cifar_resnet(8, survival=0.5)
    model, plain = build(spec), build(spec.replace(survival=1.0))
    plain.set_weights(model.get_weights())
    for unit in range(1, 4):
        # p_l = 1 - l/3 * (1 - 0.5), by the last batch norm of the branch.
        norm = plain.get_layer(f"conv{unit + 1}_block1_2_bn")
        for weight in (norm.gamma, norm.beta):
            weight.assign(weight * (1 - unit / 3 * 0.5))
    x = np.random.default_rng(0).normal(size=(2, 32, 32, 3))
    np.testing.assert_allclose(
        model.predict(x, verbose=0), plain.predict(x, verbose=0), rtol=1e-4, atol=1e-5
    )


@pytest.mark.slow
def test_stochastic_depth_under_two_replicas():
    """Each replica draws for its own part of the batch."""
    code = """
import tensorflow as tf
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(
    cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
import keras, numpy as np
from keras_resnet import build, cifar_resnet
keras.utils.set_random_seed(0)
with tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"]).scope():
    model = build(cifar_resnet(8, survival=0.5))
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
x = np.random.default_rng(0).normal(size=(64, 32, 32, 3)).astype("float32")
history = model.fit(x, np.arange(64) % 10, batch_size=16, epochs=3, verbose=0)
assert np.isfinite(history.history["loss"]).all()
assert all(np.isfinite(w).all() for w in model.get_weights())
print("trained")
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False
    )
    assert done.stdout.strip() == "trained", done.stderr[-2000:]


ORDERS = ("post", "pre", "bn_after_add", "relu_before_add", "relu_only_pre")


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize(
    "block", ["basic", pytest.param("bottleneck", marks=pytest.mark.slow)]
)
def test_every_order_trains(order, block):
    depth = 8 if block == "basic" else 11
    model = build(cifar_resnet(depth, block, order=order, input_shape=(8, 8, 1)))
    model.compile(
        keras.optimizers.SGD(0.05, momentum=0.9),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    x = np.random.default_rng(0).normal(size=(32, 8, 8, 1)).astype("float32")
    losses = [model.train_on_batch(x, np.arange(32) % 10) for _ in range(12)]
    assert losses[-1] < 0.7 * losses[0]


@pytest.mark.parametrize(
    "changes",
    [
        {"merge": "exclusive_gate"},
        {"merge": "shortcut_gate"},
        {"merge": "dropout"},
        {"merge": "scale", "merge_scales": (0.5, 0.5)},
        {"survival": 0.5},
        {"survival": 0.5, "survival_mode": "sample"},
        {"norm": "none", "conv_bias": "all", "init": "glorot"},
        {"stem": "deep"},
        {"output_stride": 8, "stem": "imagenet"},
        {"kernels": (3, 1, 3)},
        {"kernels": (1, 3, 1)},
        {"kernels": (3,)},
    ],
    ids=str,
)
@pytest.mark.parametrize(
    "policy", ["float32", pytest.param("mixed_bfloat16", marks=pytest.mark.slow)]
)
def test_every_wiring_serializes_and_takes_a_step(changes, policy, tmp_path):
    keras.mixed_precision.set_global_policy(policy)
    try:
        model = build(cifar_resnet(8, input_shape=(32, 32, 2), classes=3, **changes))
        model.compile(
            "sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        )
        x = np.random.default_rng(0).normal(size=(4, 32, 32, 2)).astype("float32")
        assert np.isfinite(model.train_on_batch(x, np.array([0, 1, 2, 0])))
        model.save(tmp_path / "model.keras")
        loaded = keras.models.load_model(tmp_path / "model.keras")
        np.testing.assert_array_equal(
            loaded.predict(x, verbose=0), model.predict(x, verbose=0)
        )
    finally:
        keras.mixed_precision.set_global_policy("float32")


def test_dropout_stands_between_the_convolutions_of_wide_units():
    model = build(wide_resnet(10, 1, dropout=0.3))
    assert model.get_layer("conv2_block1_dropout").rate == 0.3
    # Zagoruyko 2016, section 2.4: after the ReLU, before the second convolution.
    [node] = model.get_layer("conv2_block1_2_conv")._inbound_nodes
    assert node.input_tensors[0]._keras_history.operation.name == "conv2_block1_dropout"


def test_dense_networks_take_flat_input():
    model = build("dense_resnet8", input_shape=(30,), classes=4)
    assert model.output_shape == (None, 4)
    assert model.predict(np.zeros((3, 30)), verbose=0).shape == (3, 4)
    widening = get_spec("dense_resnet8", depths=(1, 1), widths=(64, 96))
    for shortcut in ("pad", "project"):
        build(widening, shortcut=shortcut).predict(np.zeros((1, 64)), verbose=0)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["cifar_resnet1202", "cifar_resnet1001_v2"])
def test_the_deepest_save_and_load(name, tmp_path):
    model = build(name)
    model.save(tmp_path / "deep.keras")
    loaded = keras.models.load_model(tmp_path / "deep.keras")
    first, last = model.weights[0], model.weights[-1]
    np.testing.assert_array_equal(loaded.weights[0], first)
    np.testing.assert_array_equal(loaded.weights[-1], last)
    assert len(loaded.layers) == len(model.layers)
