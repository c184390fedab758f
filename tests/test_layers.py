from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import python

from keras_resnet import build, convolution, layers
from keras_resnet.optimizers import SGD


def outputs_and_gradients(layer, x, seed=0):
    weights = np.random.default_rng(seed)
    layer.build(x.shape)
    layer.set_weights([weights.normal(size=w.shape) for w in layer.get_weights()])
    x = tf.constant(x)
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = layer(x)
        loss = tf.reduce_sum(y * tf.cos(y))
    return y, *tape.gradient(loss, [x, *(w.value for w in layer.trainable_weights)])


@pytest.mark.parametrize(
    ("kernel", "stride", "groups", "padding", "dilation"),
    [
        (3, 1, 1, "same", 2),
        (3, 1, 1, "valid", (1, 3)),
        (3, 1, 4, "same", 1),
        (3, 2, 4, "valid", 1),
        (1, 2, 2, "valid", 1),
        (3, 1, 8, "same", 2),
    ],
)
def test_convolution_split_equals_keras(
    kernel, stride, groups, padding, dilation, monkeypatch
):
    monkeypatch.setattr(convolution, "gradient_is_native", lambda *_: False)
    x = np.random.default_rng(1).normal(size=(2, 9, 9, 8)).astype("float32")
    arguments = {
        "filters": 16,
        "kernel_size": kernel,
        "strides": stride,
        "groups": groups,
        "padding": padding,
        "dilation_rate": dilation,
    }
    ours = outputs_and_gradients(layers.Conv2D(**arguments), x)
    stock = outputs_and_gradients(keras.layers.Conv2D(**arguments), x)
    for a, b in zip(ours, stock, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4 * np.abs(b).max())


def test_grouped_convolution_is_never_compiled_with_xla():
    layer = layers.Conv2D(8, 3, groups=4)
    layer.build((None, 8, 8, 8))
    traced = tf.function(layer).get_concrete_function(tf.TensorSpec((None, 8, 8, 8)))
    assert "XlaMustCompile" not in str(traced.graph.as_graph_def())
    stock = keras.layers.Conv2D(8, 3, groups=4)
    stock.build((None, 8, 8, 8))
    traced = tf.function(stock).get_concrete_function(tf.TensorSpec((None, 8, 8, 8)))
    assert "XlaMustCompile" in str(traced.graph.as_graph_def())  # why ours exists


def test_config_names_and_weights_are_keras_own():
    for ours, stock in (
        (layers.Conv2D(4, 3, groups=2), keras.layers.Conv2D(4, 3, groups=2)),
        (layers.BatchNormalization(), keras.layers.BatchNormalization()),
    ):
        ours.build((None, 8, 8, 4))
        stock.build((None, 8, 8, 4))
        assert type(ours).__name__ == type(stock).__name__
        names = [w.name for w in ours.weights], [w.name for w in stock.weights]
        assert names[0] == names[1]
        assert ours.get_config() | {"name": ""} == stock.get_config() | {"name": ""}


def test_stock_weight_files_load_and_ours_load_into_stock(tiny_spec, tmp_path):
    from keras_resnet.surgery import to_stock

    model = build(tiny_spec)
    stock = to_stock(model)
    assert {type(layer).__module__.split(".")[0] for layer in stock.layers} == {"keras"}
    stock.set_weights([w + 1 for w in stock.get_weights()])
    stock.save_weights(tmp_path / "stock.weights.h5")
    model.load_weights(tmp_path / "stock.weights.h5")
    for a, b in zip(model.get_weights(), stock.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    model.set_weights([w * 2 for w in model.get_weights()])
    model.save_weights(tmp_path / "ours.weights.h5")
    stock.load_weights(tmp_path / "ours.weights.h5")
    x = np.random.default_rng(0).normal(size=(2, 8, 8, 1))
    np.testing.assert_allclose(
        model.predict(x, verbose=0), stock.predict(x, verbose=0), rtol=1e-5
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    "imports", ["import keras, keras_resnet", "import keras_resnet, keras"]
)
def test_saved_models_load_in_either_import_order(imports, tiny_spec, tmp_path):
    path = tmp_path / "model.keras"
    model = build(tiny_spec)
    model.compile(SGD(0.1, momentum=0.9, l2=1e-4), "mse")
    model.fit(np.zeros((4, 8, 8, 1)), np.zeros((4, 10)), verbose=0)
    model.save(path)
    code = f"{imports}; print(len(keras.models.load_model({str(path)!r}).layers))"
    assert python(code) == str(len(build(tiny_spec).layers))


@pytest.mark.slow
@pytest.mark.parametrize("onednn", ["0", "1"])
def test_grouped_and_dilated_convolutions_train_with_and_without_onednn(onednn):
    code = """
import os, keras, numpy as np
from keras_resnet import build, cifar_resnext
model = build(cifar_resnext(11, 8, 4, widths=(64, 64, 64)))
model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
x, y = np.zeros((4, 32, 32, 3)), np.zeros(4)
print(np.isfinite(model.train_on_batch(x, y)))
model = build("resnet18", input_shape=(32, 32, 3), widths=(8,) * 4, output_stride=8)
model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
assert np.isfinite(model.train_on_batch(x, y))
"""
    assert python(code, TF_ENABLE_ONEDNN_OPTS=onednn) == "True"
