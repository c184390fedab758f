from __future__ import annotations

import keras
import numpy as np
import pytest

from keras_resnet.optimizers import SGD


def run(optimizer, gradients, start=2.0):
    """Where one weight goes under given gradients."""
    weight = keras.Variable([start])
    path = []
    for gradient in gradients:
        optimizer.apply([keras.ops.convert_to_tensor([gradient])], [weight])
        path.append(float(weight.value[0]))
    return path


@pytest.mark.parametrize("nesterov", [False, True])
def test_coupled_decay_goes_through_the_momentum(nesterov):
    rate, momentum, l2 = 0.1, 0.9, 0.05
    gradients = [1.0, -0.5, 0.25, 0.0]
    expected, weight, velocity = [], 2.0, 0.0
    for gradient in gradients:
        gradient += l2 * weight
        velocity = momentum * velocity - rate * gradient
        step = momentum * velocity - rate * gradient if nesterov else velocity
        weight += step
        expected.append(weight)
    path = run(SGD(rate, momentum=momentum, nesterov=nesterov, l2=l2), gradients)
    np.testing.assert_allclose(path, expected, rtol=1e-6)


def test_without_decay_it_is_keras_sgd():
    gradients = [1.0, -0.5, 0.25]
    stock = run(keras.optimizers.SGD(0.1, momentum=0.9), gradients)
    assert run(SGD(0.1, momentum=0.9), gradients) == stock


def test_coupled_decay_is_stronger_than_decoupled_by_one_over_one_minus_momentum():
    steps = [0.0] * 400
    coupled = run(SGD(0.01, momentum=0.9, l2=0.01), steps)[-1]
    decoupled = run(SGD(0.01, momentum=0.9, weight_decay=0.01), steps)[-1]
    assert np.log(coupled / 2) / np.log(decoupled / 2) == pytest.approx(10, rel=0.05)


def test_config_round_trip():
    optimizer = SGD(0.1, momentum=0.9, l2=1e-4)
    config = keras.optimizers.serialize(optimizer)
    restored = keras.optimizers.deserialize(config)
    assert type(restored) is SGD
    assert restored.l2 == 1e-4
