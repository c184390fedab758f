"""Our layers and optimizer of stock names against stock Keras, argument by argument."""

from __future__ import annotations

import functools
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_resnet import layers
from keras_resnet.optimizers import SGD, WarmUp

Values = list[np.ndarray]

# Of the largest value; the low precisions round after each operation.
TOLERANCE = {"float32": 1e-4, "float64": 1e-10}
QUICK = [("float32", "graph"), ("float64", "eager"), ("mixed_float16", "graph")]
SLOW = [
    ("float32", "eager"),
    ("float32", "jit"),
    ("mixed_float16", "jit"),
    ("mixed_bfloat16", "graph"),
    ("float16", "graph"),
]
WAYS = QUICK + [pytest.param(*way, marks=pytest.mark.slow) for way in SLOW]


def images(*shape: int) -> np.ndarray:
    return np.random.default_rng(1).normal(size=shape)


def started(layer: Any, shape: tuple[int, ...]) -> Any:
    """With weights that show every mistake."""
    layer.build(shape)
    random = np.random.default_rng(0)
    for weight in layer.weights:
        if "kernel" in weight.name:
            weight.assign(random.normal(0, 0.2, weight.shape))
        else:
            weight.assign(random.uniform(0.5, 1.5, weight.shape))
    return layer


def trained(layer: Any, x: np.ndarray, mode: str, **options: Any) -> Values:
    """Outputs, losses, gradients and weights of two steps of training."""
    x = tf.constant(x, layer.compute_dtype)
    weights = [weight.value for weight in layer.trainable_weights]

    def step(x: Any) -> Any:
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = layer(x, **options)
            shares = np.random.default_rng(2).uniform(size=y.shape)
            loss = tf.reduce_sum(tf.cast(y, tf.float64) ** 2 * shares)
            loss += sum(tf.cast(each, tf.float64) for each in layer.losses)
        return y, loss, tape.gradient(loss, [x, *weights])

    if mode != "eager":
        step = tf.function(step, jit_compile=mode == "jit")
    seen = [step(x), step(x), layer.weights]
    return [
        np.asarray(tf.cast(tf.convert_to_tensor(each), tf.float64))
        for each in tf.nest.flatten(seen)
        if each is not None
    ]


def assert_equal(ours: Values, stock: Values, tolerance: float) -> None:
    assert len(ours) == len(stock)
    for a, b in zip(ours, stock, strict=True):
        assert a.shape == b.shape
        assert np.isfinite(b).all()
        scale = np.abs(b).max(initial=1e-30)
        np.testing.assert_allclose(a, b, rtol=0, atol=tolerance * scale)


CONVOLUTIONS: dict[str, dict[str, Any]] = {
    "plain": {},
    "valid": {"padding": "valid"},
    "strides": {"strides": 2},
    "strides, valid": {"strides": (2, 1), "padding": "valid"},
    "oblong": {"kernel_size": (1, 5)},
    "1x1 strides": {"kernel_size": 1, "strides": 2},
    "dilation": {"dilation_rate": (2, 1)},
    "dilation, valid": {"dilation_rate": 2, "padding": "valid"},
    "groups": {"groups": 4},
    "groups, strides": {"groups": 2, "strides": 2},
    "groups, dilation": {"groups": 2, "dilation_rate": 2},
    "depthwise": {"groups": 8, "filters": 8},
    "no bias": {"use_bias": False},
    "activation": {"activation": "relu"},
    "regularized": {"kernel_regularizer": "l2", "bias_regularizer": "l1"},
    "activity": {"activity_regularizer": "l2"},
    "constraint": {"kernel_constraint": "unit_norm"},
    "lora": {"lora_rank": 2, "groups": 2},
    "frozen": {"trainable": False},
}


def convolved(kind: Any, name: str, dtype: str, mode: str) -> Values:
    arguments = {"filters": 12, "kernel_size": 3, "padding": "same", "dtype": dtype}
    shape = (2, 7, 6, 8)
    layer = started(kind(**(arguments | CONVOLUTIONS[name])), shape)
    return trained(layer, images(*shape), mode)


@functools.cache
def stock_convolved(name: str, dtype: str) -> Values:
    try:
        return convolved(keras.layers.Conv2D, name, dtype, "eager")
    except tf.errors.InvalidArgumentError:
        # Keras' own has no gradient on this CPU, but compiled by XLA.
        return convolved(keras.layers.Conv2D, name, dtype, "jit")


@pytest.mark.parametrize(("dtype", "mode"), WAYS)
@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_convolution(name, dtype, mode):
    stock = stock_convolved(name, dtype)
    if name == "lora":
        dtype = "float32" if dtype == "float64" else dtype  # Keras' own has it so
    ours = convolved(layers.Conv2D, name, dtype, mode)
    assert_equal(ours, stock, TOLERANCE.get(dtype, 0.05))


NORMS: dict[str, tuple[tuple[int, ...], dict[str, Any]]] = {
    "images": ((6, 5, 5, 3), {}),
    "features": ((16, 8), {}),
    "sequences": ((4, 5, 8), {}),
    "volumes": ((2, 3, 4, 5, 3), {}),
    "one pixel": ((6, 1, 1, 3), {}),
    "one axis of others": ((6, 5, 4, 3), {"axis": 1}),
    "no scale": ((6, 5, 5, 3), {"scale": False}),
    "no center": ((6, 5, 5, 3), {"center": False}),
    "neither": ((6, 5, 5, 3), {"center": False, "scale": False}),
    "momentum 0": ((6, 5, 5, 3), {"momentum": 0.0}),
    "momentum 1": ((6, 5, 5, 3), {"momentum": 1.0}),
    "small epsilon": ((6, 5, 5, 3), {"epsilon": 1e-7}),
    "great epsilon": ((6, 5, 5, 3), {"epsilon": 0.5}),
    "regularized": (
        (6, 5, 5, 3),
        {"gamma_regularizer": "l2", "beta_regularizer": "l1"},
    ),
    "constraint": ((6, 5, 5, 3), {"gamma_constraint": "non_neg"}),
    "renormalized": ((6, 5, 5, 3), {"renorm": True}),
    "renormalized within": (
        (6, 5, 5, 3),
        {"renorm": True, "renorm_clipping": {"rmax": 1.1, "rmin": 0.9, "dmax": 0.1}},
    ),
    "synchronized": ((6, 5, 5, 3), {"synchronized": True}),
    "frozen": ((6, 5, 5, 3), {"trainable": False}),
}
STOCK_PATHS = ("sequences", "volumes", "one axis", "renormal", "synchron", "frozen")


@pytest.mark.parametrize(("dtype", "mode"), WAYS)
@pytest.mark.parametrize("name", NORMS)
def test_batch_normalization(name, dtype, mode):
    shape, arguments = NORMS[name]
    kinds = layers.BatchNormalization, keras.layers.BatchNormalization
    ours, stock = (started(kind(**arguments, dtype=dtype), shape) for kind in kinds)
    before = np.asarray(stock.moving_variance, "float64")
    x = images(*shape) * 2 + 1
    results = [trained(layer, x, mode, training=True) for layer in (ours, stock)]
    if not name.startswith(STOCK_PATHS) and dtype != "float64":
        # The moving variance is the last weight: of n values, ours is of n - 1.
        kept = before * stock.momentum**2
        n = np.prod(shape[:-1])
        results[1][-1] = kept + (results[1][-1] - kept) * n / (n - 1)
    assert_equal(*results, TOLERANCE.get(dtype, 0.05))
    ours.set_weights(stock.get_weights())
    results = [trained(layer, x, mode, training=False) for layer in (ours, stock)]
    assert_equal(*results, TOLERANCE.get(dtype, 0.05))


@pytest.mark.parametrize("mode", ["eager", "graph"])
def test_batch_normalization_masked(mode):
    x = images(4, 5, 3)
    mask = tf.constant(np.arange(20).reshape(4, 5) % 3 > 0)
    kinds = layers.BatchNormalization, keras.layers.BatchNormalization
    options = {"training": True, "mask": mask}
    results = [trained(started(kind(), x.shape), x, mode, **options) for kind in kinds]
    assert_equal(*results, 1e-5)


SCHEDULE = keras.optimizers.schedules.CosineDecay(0.1, 5)
STEPS: dict[str, dict[str, Any]] = {
    "plain": {"momentum": 0.0},
    "momentum": {},
    "sparse gradients": {},
    "nesterov": {"nesterov": True},
    "momentum 1": {"momentum": 1.0},
    "schedule": {"learning_rate": SCHEDULE},
    "warm-up": {"learning_rate": WarmUp(SCHEDULE, 3)},
    "a function": {"learning_rate": lambda: 0.05},
    "decoupled decay": {"weight_decay": 0.1},
    "clipnorm": {"clipnorm": 0.1},
    "clipvalue": {"clipvalue": 0.01},
    "global_clipnorm": {"global_clipnorm": 0.1},
    "averages": {"use_ema": True, "ema_momentum": 0.5},
    "averages put in": {"use_ema": True, "ema_overwrite_frequency": 3},
    "scaled": {"loss_scale_factor": 128.0},
    "accumulated": {"gradient_accumulation_steps": 2},
    "accumulated, all": {
        "gradient_accumulation_steps": 2, "use_ema": True, "clipnorm": 0.1,
        "weight_decay": 0.1, "learning_rate": SCHEDULE,
    },
}  # fmt: skip


def fitted(optimizer: Any, dtype: str, mode: str, sparse: bool) -> Values:
    """Losses, weights and the optimizer's variables after some steps of `fit`."""
    keras.utils.set_random_seed(0)
    embedded = [
        keras.layers.Embedding(7, 5, dtype=dtype),
        keras.layers.GlobalAveragePooling1D(dtype=dtype),
    ]
    model = keras.Sequential(
        [
            keras.Input((6,)),
            *(embedded if sparse else []),
            keras.layers.Dense(
                4, "relu", kernel_constraint="max_norm", bias_initializer="ones",
                dtype=dtype,
            ),
            keras.layers.Dense(3, dtype=dtype),
        ]
    )  # fmt: skip
    model.compile(
        optimizer,
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        run_eagerly=mode == "eager",
        jit_compile=mode == "jit",
    )
    x = np.random.default_rng(0).integers(0, 7, (14, 6))
    history = model.fit(x, np.arange(14) % 3, 2, 1, verbose=0, shuffle=False)
    values = [*history.history["loss"], *model.get_weights()]
    values += [variable.numpy() for variable in optimizer.variables]
    return [np.asarray(value, "float64") for value in values]


@pytest.mark.parametrize(("dtype", "mode"), WAYS)
@pytest.mark.parametrize("name", STEPS)
def test_sgd(name, dtype, mode):
    arguments = {"learning_rate": 0.1, "momentum": 0.9, **STEPS[name]}
    results = []
    for kind in (SGD, keras.optimizers.SGD):
        optimizer = kind(**arguments)
        if dtype == "mixed_float16":
            optimizer = keras.optimizers.LossScaleOptimizer(optimizer, 2.0**4, 3)
        sparse = name == "sparse gradients"
        results.append(fitted(optimizer, dtype, mode, sparse))
    assert_equal(*results, TOLERANCE.get(dtype, 0.05))
