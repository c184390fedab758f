from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_resnet import build
from keras_resnet.optimizers import SGD
from keras_resnet.recompute import Recomputing
from keras_resnet.surgery import to_stock

X = np.random.default_rng(0).normal(size=(8, 8, 8, 1)).astype("float32")
Y = np.arange(8) % 10


def trained(spec, recompute, steps=3):
    """Losses and weights after some steps."""
    keras.utils.set_random_seed(0)
    model = build(spec, recompute=recompute)
    model.compile(
        SGD(0.1, momentum=0.9),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    losses = [float(model.train_on_batch(X, Y)) for _ in range(steps)]
    return losses, model.get_weights(), model


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"order": "pre", "dropout": 0.3},
        {"survival": 0.5},
        {"survival": 0.5, "survival_mode": "sample"},
        {"merge": "none"},
        {"shortcut": "project", "merge": "exclusive_gate"},
    ],
)
def test_training_is_the_same(tiny_spec, changes):
    """Losses, kernels, and moving statistics, which must move once a step."""
    spec = tiny_spec.replace(**changes)
    plain, again = trained(spec, False), trained(spec, True)
    np.testing.assert_allclose(again[0], plain[0], rtol=1e-6)
    for a, b in zip(again[1], plain[1], strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


def test_activations_are_computed_again(tiny_spec):
    def forward_convolutions(recompute):
        model = build(tiny_spec, recompute=recompute)

        @tf.function
        def step(x):
            with tf.GradientTape() as tape:
                y = model(x, training=True)
            return tape.gradient(y, [w.value for w in model.trainable_variables])

        operations = step.get_concrete_function(X).graph.get_operations()
        return sum(op.type == "Conv2D" for op in operations)

    plain = forward_convolutions(False)
    assert forward_convolutions(True) == 2 * plain - 1  # the stem's is kept


def test_files_and_stock_form_are_the_plain_models(tiny_spec, tmp_path):
    plain, again = build(tiny_spec), build(tiny_spec, recompute=True)
    assert isinstance(again, Recomputing)
    assert [w.path for w in again.weights] == [w.path for w in plain.weights]
    plain.save_weights(tmp_path / "plain.weights.h5")
    again.load_weights(tmp_path / "plain.weights.h5")
    np.testing.assert_allclose(again(X), plain(X), rtol=1e-6)
    again.save(tmp_path / "again.keras")
    loaded = keras.saving.load_model(tmp_path / "again.keras")
    assert isinstance(loaded, Recomputing)
    np.testing.assert_allclose(loaded(X), plain(X), rtol=1e-6)
    assert type(to_stock(loaded)) is type(to_stock(plain))
    assert not isinstance(to_stock(loaded), Recomputing)


def test_it_can_be_a_part_of_another_model(tiny_spec):
    body = build(tiny_spec, include_top=False, pooling="avg", recompute=True)
    inputs = keras.Input((8, 8, 1))
    model = keras.Model(inputs, keras.layers.Dense(3)(body(inputs)))
    model.compile(SGD(0.1), keras.losses.SparseCategoricalCrossentropy(True))
    before = [w.numpy() for w in body.trainable_variables]
    model.fit(X, Y % 3, verbose=0)
    after = [w.numpy() for w in body.trainable_variables]
    assert all((a != b).any() for a, b in zip(before, after, strict=True))
