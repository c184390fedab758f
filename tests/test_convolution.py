from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from keras_resnet import PRESETS, convolution, make_plan, runtime
from keras_resnet.convolution import Problem, convolve, count_paths, path_of
from keras_resnet.plan import Conv
from keras_resnet.presets import get_spec

WIDE = Problem(16, 16, 128, 128, kernel=(3, 3))


@pytest.fixture(autouse=True)
def on_cpu_with_onednn(monkeypatch):
    """Paths as such a machine chooses them, whatever this one is."""
    monkeypatch.setattr(runtime, "has_gpu", lambda: False)
    monkeypatch.setattr(convolution, "gradient_is_native", lambda *_: True)


def test_wide_3x3_convolutions_train_by_winograd():
    assert path_of(WIDE) == "winograd"


@pytest.mark.parametrize(
    "changes",
    [
        {"kernel": (1, 1)},
        {"kernel": (5, 5)},
        {"strides": (2, 2)},
        {"dilation": (2, 2)},
        {"padding": "valid"},
        {"channels": 64},
        {"in_channels": 64},
        {"height": None},
        {"height": 5, "width": 5},  # tiles would overhang
        {"groups": 32},
    ],
)
def test_all_others_are_native(changes):
    assert path_of(WIDE._replace(**changes)) == "native"


def test_inference_other_precisions_and_gpus_are_native(monkeypatch):
    assert path_of(WIDE, training=False) == "native"
    assert path_of(WIDE, dtype="bfloat16") == "native"
    monkeypatch.setattr(runtime, "has_gpu", lambda: True)
    assert path_of(WIDE) == "native"


def test_groups_are_split_where_they_have_no_gradient(monkeypatch):
    monkeypatch.setattr(
        convolution,
        "gradient_is_native",
        lambda _, grouped, dilated: not (grouped or dilated),
    )
    assert path_of(WIDE._replace(groups=32)) == "split"
    counts = count_paths(make_plan(get_spec("resnext50_32x4d")))
    assert counts == {"native": 37, "winograd": 0, "split": 16}


def test_paths_of_networks():
    assert count_paths(make_plan(get_spec("wrn_28_10")))["winograd"] == 21
    assert count_paths(make_plan(get_spec("resnet50")))["winograd"] == 13


def outputs_and_gradients(function, x, kernel, above):
    with tf.GradientTape() as tape:
        tape.watch((x, kernel))
        y = function(x, kernel)
    return y, *tape.gradient(y, (x, kernel), above)


def compare(problem, batch=2, seed=0):
    """Largest differences of output and gradients from TensorFlow's op."""
    random = np.random.default_rng(seed)
    groups = problem.groups
    size = (*problem.kernel, problem.in_channels // groups, problem.channels)
    x = random.normal(size=(batch, problem.height, problem.width, problem.in_channels))
    kernel = random.normal(size=size) / np.sqrt(np.prod(size[:3]))
    strides, dilation, padding = problem.strides, problem.dilation, problem.padding
    x, kernel = (tf.constant(value, "float32") for value in (x, kernel))
    stock = lambda x, kernel: tf.nn.conv2d(  # noqa: E731
        x, kernel, strides, padding.upper(), dilations=dilation
    )
    ours = lambda x, kernel: convolve(  # noqa: E731
        x,
        kernel,
        strides=strides,
        padding=padding,
        dilation=dilation,
        groups=groups,
        training=True,
    )
    above = tf.constant(random.normal(size=stock(x, kernel).shape), "float32")
    results = (outputs_and_gradients(f, x, kernel, above) for f in (ours, stock))
    return [
        float(tf.reduce_max(tf.abs(a - b)) / tf.reduce_max(tf.abs(b)))
        for a, b in zip(*results, strict=True)
    ]


@pytest.mark.parametrize("height", [4, 6, 7])
@pytest.mark.parametrize("width", [5, 8])
def test_winograd_equals_the_op(height, width, monkeypatch):
    monkeypatch.setattr(convolution, "_winograd_pays", lambda problem: True)
    problem = Problem(height, width, 5, 7, kernel=(3, 3))
    assert path_of(problem) == "winograd"
    assert max(compare(problem, batch=3)) < 1e-4


def preset_problems():
    """Every kind of convolution of the presets, at up to 14 pixels."""
    problems = set()
    for preset in PRESETS.values():
        for op in make_plan(preset.spec).ops:
            if isinstance(op, Conv):
                height, width = (min(side, 14) for side in op.shape[:2])
                problems.add(
                    Problem(
                        height * op.stride + op.kernel,
                        width * op.stride + op.kernel,
                        op.in_channels,
                        op.shape[-1],
                        (op.kernel,) * 2,
                        (op.stride,) * 2,
                        op.padding,
                        (op.dilation,) * 2,
                        op.groups,
                    )
                )
    return problems


@pytest.mark.slow
def test_every_convolution_of_the_presets_equals_the_op():
    problems = preset_problems()
    assert len(problems) > 100
    assert {path_of(problem) for problem in problems} == {"native", "winograd"}
    for problem in sorted(problems, key=str):
        if path_of(problem) != "native" or problem.groups > 1:
            assert max(compare(problem, batch=1)) < 1e-4, problem


def test_winograd_takes_any_batch_and_keeps_no_planes():
    """In a graph: the batch is open, and the planes of x are made twice, not kept."""
    kernel = tf.ones((3, 3, 128, 128))

    @tf.function(input_signature=[tf.TensorSpec((None, 16, 16, 128))])
    def step(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = convolve(x, kernel, training=True)
        return tape.gradient(y, x)

    for batch in (1, 3):
        assert step(tf.ones((batch, 16, 16, 128))).shape == (batch, 16, 16, 128)
    operations = step.get_concrete_function().graph.get_operations()
    again = [op for op in operations if op.type == "Identity" and op.control_inputs]
    assert again


def test_exported_and_evaluated_networks_hold_native_convolutions_only():
    x = tf.TensorSpec((None, 16, 16, 128))
    kernel = tf.ones((3, 3, 128, 128))
    traced = tf.function(lambda x: convolve(x, kernel)).get_concrete_function(x)
    types = [op.type for op in traced.graph.get_operations()]
    assert types.count("Conv2D") == 1
    assert "MatMul" not in types
