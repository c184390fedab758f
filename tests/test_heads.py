"""Every way to end a model is read as what it computes, and served as that."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_resnet import analysis, serving
from keras_resnet.errors import ExportWarning, UserError
from keras_resnet.heads import head_of

L = keras.layers
PIXELS = np.random.default_rng(1).integers(0, 256, (6, 8, 8, 1)).astype("uint8")


class ByHand(L.Layer):
    """A softmax of exponents and their sum, in a layer that nobody knows."""

    def call(self, x):
        exponents = keras.ops.exp(x)
        return exponents / keras.ops.sum(exponents, axis=-1, keepdims=True)


def dense(units=3, activation=None, **options):
    """A head that is far from uniform."""
    wide = keras.initializers.RandomNormal(stddev=0.05, seed=units)
    return L.Dense(units, activation, kernel_initializer=wide, **options)


def nested(x):
    inside = keras.Input(x.shape[1:])
    return keras.Model(inside, keras.ops.softmax(dense()(inside)))(x)


def float16(x):
    return L.Softmax(dtype="float16")(dense(dtype="float16")(x))


SOFTMAX, SIGMOIDS, LOGITS = ("softmax", 3), ("sigmoid", 3), ("logits", 3)
HEADS = {
    "logits": (lambda x: dense()(x), *LOGITS),
    "dropped logits": (lambda x: L.Dropout(0.5)(dense()(x)), *LOGITS),
    "normalized logits": (lambda x: L.BatchNormalization()(dense()(x)), *LOGITS),
    "logits of a temperature": (lambda x: dense()(x) / 2.0, *LOGITS),
    "logarithms": (lambda x: keras.ops.log_softmax(dense()(x)), *LOGITS),
    "mean of logits": (lambda x: L.Average()([dense()(x), dense()(x)]), *LOGITS),
    "one logit": (lambda x: dense(1)(x), "logits", 1),
    "softmax layer": (lambda x: L.Softmax()(dense()(x)), *SOFTMAX),
    "softmax op": (lambda x: keras.ops.softmax(dense()(x)), *SOFTMAX),
    "softmax function": (lambda x: keras.activations.softmax(dense()(x)), *SOFTMAX),
    "activation": (lambda x: L.Activation("softmax")(dense()(x)), *SOFTMAX),
    "dense": (lambda x: dense(3, "softmax")(x), *SOFTMAX),
    "temperature": (lambda x: L.Softmax()(dense()(x) / 2.0), *SOFTMAX),
    "nested": (nested, *SOFTMAX),
    "sequential": (lambda x: keras.Sequential([dense(), L.Softmax()])(x), *SOFTMAX),
    "float16": (float16, *SOFTMAX),
    "lambda": (lambda x: L.Lambda(tf.nn.softmax)(dense()(x)), *SOFTMAX),
    "by hand": (lambda x: ByHand()(dense()(x)), *SOFTMAX),
    "mean of two": (
        lambda x: L.Average()([dense(3, "softmax")(x), L.Softmax()(dense()(x))]),
        *SOFTMAX,
    ),
    "sigmoid layer": (lambda x: dense(3, "sigmoid")(x), *SIGMOIDS),
    "sigmoid op": (lambda x: keras.ops.sigmoid(dense()(x)), *SIGMOIDS),
    "one sigmoid": (lambda x: L.Activation("sigmoid")(dense(1)(x)), "sigmoid", 1),
}


def model_of(head):
    image = keras.Input((8, 8, 1))
    return keras.Model(image, head(L.Flatten()(image)))


@pytest.mark.parametrize("name", HEADS)
def test_a_head_is_what_its_graph_computes(name):
    head, kind, units = HEADS[name]
    assert head_of(model_of(head))[:2] == (kind, units)


REFUSED = {
    "relu": (lambda x: dense(3, "relu")(x), "ends in Relu, which gives neither"),
    "tanh": (lambda x: dense(3, "tanh")(x), "ends in Tanh"),
    "hard": (lambda x: dense(3, "hard_sigmoid")(x), "which gives neither logits nor"),
    "per cent": (lambda x: L.Softmax()(dense()(x)) * 100, "ends in Mul"),
    "one class": (lambda x: dense(1, "softmax")(x), "softmax of one class"),
    "two heads": (lambda x: [dense()(x), dense()(x)], "is no classifier"),
    "a map": (lambda x: L.Reshape((1, 3))(dense()(x)), "is no classifier"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_can_not_be_told_is_refused(name, tmp_path):
    head, message = REFUSED[name]
    with pytest.raises(UserError, match=message):
        serving.export(model_of(head), tmp_path / "net")
    assert not (tmp_path / "net").exists()


def test_a_loss_says_what_logits_are_of():
    for units, loss, task in (
        (1, None, None),
        (1, "binary_crossentropy", "binary"),
        (1, "mse", "regression"),
        (1, keras.losses.Huber(), "regression"),
        (3, None, "classes"),
        (3, keras.losses.BinaryCrossentropy(from_logits=True), "labels"),
        (3, keras.losses.mean_absolute_error, "regression"),
        (3, keras.losses.SparseCategoricalCrossentropy(from_logits=True), "classes"),
    ):
        model = model_of(dense(units))
        if loss:
            model.compile(loss=loss)
        assert head_of(model).task == task
        assert head_of(model, "regression").task == "regression"
    for task, message in (
        ("classes", "task: 'classes' is not what .* 'binary' or 'regression'"),
        ("sorting", "task: 'sorting' is not one of 'classes', "),
    ):
        with pytest.raises(UserError, match=message):
            head_of(model_of(dense(1)), task)


@pytest.mark.parametrize("units", [1, 3])
def test_sigmoids_with_a_loss_of_values_are_told_by_the_user(units, tmp_path):
    """They may be shares, such as sides of a box, or classes by a loss of values."""
    model = model_of(dense(units, "sigmoid"))
    model.compile(loss="mse")
    told = "labels" if units > 1 else "binary"
    with pytest.raises(UserError, match=f"loss is of values; say task='{told}' or"):
        serving.export(model, tmp_path / "net")
    assert head_of(model, told).task == told
    path = serving.export(model, tmp_path / "net", task="regression", format="onnx")
    outputs = model.predict(PIXELS, verbose=0)
    answers = serving.load(path).predict(PIXELS)
    np.testing.assert_allclose(answers, outputs, rtol=1e-3, atol=1e-5)


def test_a_loss_that_nobody_knows_is_a_guess_that_is_said():
    model = model_of(dense())
    model.compile(loss=lambda y, z: keras.ops.mean(keras.ops.abs(y - z)))
    with pytest.warns(ExportWarning, match="served as logits of classes, unless task"):
        serving.exporting.find(model)
    assert serving.exporting.find(model, task="regression").head.task == "regression"


def expected_of(task, outputs):
    """What `predict` means, computed without the package."""
    outputs = outputs.astype("float64")
    if task == "classes":
        exponents = np.exp(outputs)
        return exponents / exponents.sum(axis=-1, keepdims=True)
    if task == "regression":
        return outputs
    ones = 1 / (1 + np.exp(-outputs))
    return np.concatenate([1 - ones, ones], axis=-1) if task == "binary" else ones


@pytest.mark.parametrize(
    ("name", "task"),
    [
        ("logits", "classes"),
        ("logits", "labels"),
        ("logits", "regression"),
        ("one logit", "binary"),
        ("one logit", "regression"),
        ("softmax op", None),
        ("softmax function", None),
        ("by hand", None),
        ("float16", None),
        ("nested", None),
        ("sigmoid op", None),
        ("one sigmoid", None),
    ],
)
def test_exports_serve_what_predict_means(name, task, tmp_path):
    head, _, _ = HEADS[name]
    model = model_of(head)
    path = serving.export(model, tmp_path / "net", task=task)
    outputs = model.predict(PIXELS, verbose=0)
    if task:
        outputs = expected_of(task, outputs)
    elif name == "one sigmoid":
        outputs = np.concatenate([1 - outputs, outputs], axis=-1)
    answers = serving.load(path).predict(PIXELS)
    np.testing.assert_allclose(answers, outputs, rtol=1e-3, atol=1e-3)
    assert serving.describe(path)["task"] == head_of(model, task).task


def test_outputs_that_contradict_a_head_are_noticed():
    head = head_of(model_of(dense()))
    head.check("model", np.array([[3.0, -1.0, 0.5]]))
    with pytest.raises(UserError, match="but its outputs are probabilities"):
        head.check("model", np.array([[0.2, 0.3, 0.5], [0.1, 0.1, 0.8]]))
    softmax = head._replace(kind="softmax")
    with pytest.raises(UserError, match="but its outputs are not probabilities"):
        softmax.check("model", np.array([[3.0, -1.0, 0.5]]))


@pytest.mark.parametrize("name", ["one logit", "one sigmoid", "softmax op", "by hand"])
def test_gradients_and_activations_read_the_same_head(name):
    image = keras.Input((8, 8, 1))
    maps = L.Conv2D(4, 3, name="maps")(image)
    model = keras.Model(image, HEADS[name][0](L.Flatten()(maps)))
    if name == "one logit":
        with pytest.raises(UserError, match="say which task it is of"):
            analysis.gradient_norms(model, PIXELS.astype("f4"), np.zeros(6, int))
        model.compile(loss=keras.losses.BinaryCrossentropy(from_logits=True))
    norms = analysis.gradient_norms(model, PIXELS / np.float32(255), np.zeros(6, int))
    assert all(0 < row.norm < np.inf for row in norms)
    pixels = PIXELS[0] / np.float32(255)
    likeliest = analysis.class_activation(model, pixels)
    both = [analysis.class_activation(model, pixels, label=i) for i in (0, 1)]
    assert any(np.array_equal(likeliest, each) for each in both) or len(norms) == 3
    assert not np.array_equal(*both)
