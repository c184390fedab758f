from __future__ import annotations

import json

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import ROOT

from keras_resnet import build
from keras_resnet.optimizers import SGD, WarmUp, step_decay

TORCH = ROOT / "tests/golden/torch_sgd.json"
RATES = [0.1] * 6 + [0.01] * 6  # across a drop
GRADIENTS = np.random.default_rng(0).normal(size=(len(RATES), 3)).astype("float32")
START = np.array([2.0, -1.0, 0.5], "float32")


def run(optimizer, gradients, start=2.0):
    """Where one weight goes under given gradients."""
    weight = keras.Variable([start])
    path = []
    for gradient in gradients:
        optimizer.apply([keras.ops.convert_to_tensor([gradient])], [weight])
        path.append(float(weight.value[0]))
    return path


@pytest.mark.parametrize("nesterov", [False, True])
@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_rate_in_velocity_in_closed_form(momentum, nesterov):
    rate, l2 = 0.1, 0.05
    gradients = [1.0, -0.5, 0.25, 0.0]
    expected, weight, velocity = [], 2.0, 0.0
    for gradient in gradients:
        gradient += l2 * weight
        velocity = momentum * velocity - rate * gradient
        step = momentum * velocity - rate * gradient if nesterov else velocity
        weight += step
        expected.append(weight)
    optimizer = SGD(rate, momentum=momentum, nesterov=nesterov and momentum > 0, l2=l2)
    if momentum or not nesterov:
        np.testing.assert_allclose(run(optimizer, gradients), expected, rtol=1e-6)


def torch_path(torch, nesterov, l2):
    weight = torch.nn.Parameter(torch.tensor(START))
    optimizer = torch.optim.SGD(
        [weight], 1.0, momentum=0.9, nesterov=nesterov, weight_decay=l2
    )
    path = []
    for rate, gradient in zip(RATES, GRADIENTS, strict=True):
        optimizer.param_groups[0]["lr"] = rate
        weight.grad = torch.tensor(gradient)
        optimizer.step()
        path.append(weight.detach().tolist())
    return path


@pytest.mark.parametrize("nesterov", [False, True])
@pytest.mark.parametrize("l2", [0.0, 0.05])
def test_rate_outside_velocity_is_torch_step_by_step(nesterov, l2, update_golden):
    key = f"nesterov={nesterov}, weight_decay={l2}"
    if update_golden:
        import torch

        recorded = json.loads(TORCH.read_text()) if TORCH.exists() else {}
        recorded |= {"torch": torch.__version__, key: torch_path(torch, nesterov, l2)}
        TORCH.write_text(json.dumps(recorded, indent=1, sort_keys=True) + "\n")
    schedule = step_decay(0.1, [6], 0.1)
    optimizer = SGD(
        schedule, momentum=0.9, nesterov=nesterov, l2=l2, rate_in_velocity=False
    )
    weight = keras.Variable(START)
    path = []
    for gradient in GRADIENTS:
        optimizer.apply([tf.constant(gradient)], [weight])
        path.append(weight.numpy())
    expected = json.loads(TORCH.read_text())[key]
    np.testing.assert_allclose(path, expected, rtol=2e-6, atol=2e-7)


def test_the_forms_differ_after_a_drop_of_the_rate_only():
    gradients = [1.0] * 12
    paths = [
        np.diff(
            run(
                SGD(step_decay(0.1, [6]), momentum=0.9, rate_in_velocity=inside),
                gradients,
                0.0,
            ),
            prepend=0,
        )
        for inside in (True, False)
    ]
    np.testing.assert_allclose(paths[0][:6], paths[1][:6], rtol=1e-5)
    assert abs(paths[0][6]) > 5 * abs(paths[1][6])


def test_without_decay_it_is_keras_sgd():
    gradients = [1.0, -0.5, 0.25]
    stock = run(keras.optimizers.SGD(0.1, momentum=0.9), gradients)
    np.testing.assert_allclose(run(SGD(0.1, momentum=0.9), gradients), stock, rtol=1e-6)


def test_coupled_decay_is_stronger_than_decoupled_by_one_over_one_minus_momentum():
    steps = [0.0] * 400
    coupled = run(SGD(0.01, momentum=0.9, l2=0.01), steps)[-1]
    decoupled = run(SGD(0.01, momentum=0.9, weight_decay=0.01), steps)[-1]
    assert np.log(coupled / 2) / np.log(decoupled / 2) == pytest.approx(10, rel=0.05)


def test_decay_may_leave_out_biases_and_batch_norms():
    kernel, bias = keras.Variable(np.ones((2, 2))), keras.Variable(np.ones(2))
    optimizer = SGD(0.1, l2=0.5, l2_on_vectors=False)
    optimizer.apply([tf.zeros((2, 2)), tf.zeros(2)], [kernel, bias])
    np.testing.assert_allclose(kernel, np.full((2, 2), 0.95))
    np.testing.assert_allclose(bias, np.ones(2))


def test_clipping_averages_and_accumulation_of_keras_work():
    weight = keras.Variable([2.0])
    optimizer = SGD(
        0.1, momentum=0.9, clipvalue=0.5, use_ema=True, gradient_accumulation_steps=2
    )
    for _ in range(2):
        optimizer.apply([tf.constant([4.0])], [weight])
    np.testing.assert_allclose(weight, [2.0 - 0.1 * 0.5], rtol=1e-6)


def compiled(tiny_spec):
    model = build(tiny_spec)
    model.compile(
        SGD(0.1, momentum=0.9, l2=1e-4),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    return model


def test_a_step_is_traced_once_with_one_kernel_a_variable(tiny_spec):
    model = compiled(tiny_spec)
    traces, step = [], model.train_step

    def train_step(data):
        traces.append(tf.compat.v1.get_default_graph())
        return step(data)

    model.train_step = train_step
    model.fit(np.zeros((2, 8, 8, 1)), np.zeros(2), verbose=0)
    [graph] = traces
    kernels = [op for op in graph.get_operations() if "Momentum" in op.type]
    assert len(kernels) == len(model.trainable_variables)
    assert {op.type for op in kernels} == {"ResourceApplyKerasMomentum"}


def test_under_a_strategy_steps_are_the_same(tiny_spec):
    devices = tf.config.list_logical_devices("CPU")
    strategy = tf.distribute.MirroredStrategy(devices[:1])
    x = np.random.default_rng(0).normal(size=(4, 8, 8, 1))
    results = []
    for scope in (strategy.scope(), tf.distribute.get_strategy().scope()):
        with scope:
            keras.utils.set_random_seed(0)
            model = compiled(tiny_spec)
        model.fit(x, np.arange(4), epochs=2, verbose=0, shuffle=False)
        results.append(model.get_weights())
    for a, b in zip(*results, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


def test_config_round_trip():
    optimizer = SGD(
        WarmUp(step_decay(0.1, [3, 5]), 2, start=0.1),
        momentum=0.9,
        l2=1e-4,
        l2_on_vectors=False,
        rate_in_velocity=False,
        rate_factors={"conv1_": 0.5},
    )
    config = keras.optimizers.serialize(optimizer)
    restored = keras.optimizers.deserialize(json.loads(json.dumps(config)))
    assert type(restored) is SGD
    assert restored.get_config() == optimizer.get_config()


def rates(schedule, steps):
    return [float(schedule(step)) for step in range(steps)]


def test_step_decay_drops_at_its_steps():
    np.testing.assert_allclose(
        rates(step_decay(0.1, [2, 4], 0.2), 6), [0.1, 0.1, 0.02, 0.02, 0.004, 0.004]
    )


def test_what_would_train_otherwise_in_silence_is_refused():
    with pytest.raises(ValueError, match=r"steps: \[4, 2\] don't rise"):
        step_decay(0.1, [4, 2])
    with pytest.raises(ValueError, match=r"l2: -0\.1"):
        SGD(0.1, l2=-0.1)


def test_warm_up_is_gradual_or_constant_and_then_the_schedule():
    np.testing.assert_allclose(
        rates(WarmUp(0.8, 4, start=0.25), 6), [0.2, 0.35, 0.5, 0.65, 0.8, 0.8]
    )
    held = WarmUp(step_decay(0.1, [4]), 2, start=0.1, gradual=False)
    np.testing.assert_allclose(rates(held, 5), [0.01, 0.01, 0.1, 0.1, 0.01])
    np.testing.assert_allclose(rates(WarmUp(0.1, 0), 2), [0.1, 0.1])


def test_rate_factors_in_closed_form():
    """Of the variables of a layer, in a nested model too; decay is scaled with them."""
    stem, inner, head = (keras.Variable([2.0]) for _ in range(3))
    for variable, path in ((stem, "conv1_conv"), (inner, "net/conv10_bn"), (head, "a")):
        variable._path = f"{path}/kernel"
    optimizer = SGD(
        0.1, momentum=0.9, l2=0.5, rate_factors={"conv1_": 0.5, "conv10_": 0.25}
    )
    for _ in range(2):
        optimizer.apply([tf.constant([1.0])] * 3, [stem, inner, head])
    for variable, factor in ((stem, 0.5), (inner, 0.25), (head, 1.0)):
        weight, velocity = 2.0, 0.0
        for _ in range(2):
            velocity = 0.9 * velocity - 0.1 * factor * (1 + 0.5 * weight)
            weight += velocity
        np.testing.assert_allclose(variable, [weight], rtol=1e-6)


def multiplications(spec, factors):
    """In the graph of an update."""
    model = build(spec)
    variables = model.trainable_variables
    optimizer = SGD(0.1, momentum=0.9, rate_factors=factors)
    optimizer.build(variables)

    @tf.function
    def update():
        optimizer.apply([tf.zeros(v.shape) for v in variables], variables)

    graph = update.get_concrete_function().graph
    return sum(op.type == "Mul" for op in graph.get_operations())


def test_factors_of_one_cost_nothing(tiny_spec):
    """And others one multiplication each, however many variables they are for."""
    assert multiplications(tiny_spec, {}) == 0
    assert multiplications(tiny_spec, {"conv1_": 1.0}) == 0
    assert multiplications(tiny_spec, {"conv1_": 0.5, "conv2_": 0.25}) == 2


def test_variables_of_tensorflow_move_too():
    """As Keras' own optimizers take them."""
    variables = [tf.Variable([1.0, 2.0]), keras.Variable([1.0, 2.0])]
    optimizer = SGD(0.1, momentum=0.9, l2=0.5)
    gradients = [tf.constant([1.0, -1.0])] * 2
    optimizer.apply_gradients(list(zip(gradients, variables, strict=True)))
    for variable in variables:
        np.testing.assert_allclose(variable.numpy(), [0.85, 2.0], rtol=1e-6)
