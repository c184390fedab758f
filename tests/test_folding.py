from __future__ import annotations

import keras
import numpy as np
import pytest

from keras_resnet import ResNetSpec, build, cifar_resnet, cifar_resnext, layers
from keras_resnet.errors import UserError
from keras_resnet.surgery import fold_batch_norm

SMALL = {"input_shape": (16, 16, 3), "stem_width": 8, "widths": (8, 16, 16)}
BOTTLENECK = {**SMALL, "widths": (16, 32, 32)}


def basic(**changes):
    return cifar_resnet(8, **{**SMALL, **changes})


def bottleneck(**changes):
    return cifar_resnet(11, block="bottleneck", **{**BOTTLENECK, **changes})


IMAGENET = ResNetSpec(
    name="imagenet", input_shape=(64, 64, 3), classes=10, stem="imagenet",
    stem_width=8, block="bottleneck", depths=(1, 2), widths=(16, 32),
    shortcut="project",
)  # fmt: skip

# A network of each family, with the batch norms that can't be folded.
FAMILIES = {
    "resnet": (IMAGENET, 0),
    "resnet_c_d": (IMAGENET.replace(stem="deep", project_pool=True), 0),
    "keras_resnet": (IMAGENET.replace(conv_bias="all"), 0),
    "plain": (basic(merge="none"), 0),
    "cifar_resnet": (basic(), 0),
    "preactivation": (basic(order="pre"), 3),
    "preactivation_bottleneck": (bottleneck(order="pre"), 3),
    "bn_after_add": (basic(order="bn_after_add"), 3),
    "relu_only_pre": (basic(order="relu_only_pre"), 0),
    "wide_with_dropout": (basic(order="pre", k=2, dropout=0.3), 3),
    "resnext": (cifar_resnext(11, 4, 4, **BOTTLENECK), 0),
    "highway": (basic(merge="exclusive_gate"), 0),
    "scaled": (basic(merge="scale", merge_scales=(0.5, 0.5)), 0),
    "shortcut_dropout": (basic(merge="dropout", merge_dropout=0.5), 0),
    "stochastic_depth": (basic(survival=0.5), 0),
    "stochastic_depth_sample": (basic(survival=0.5, survival_mode="sample"), 0),
}


def trained(model):
    """Statistics, factors and offsets as training might leave them."""
    random = np.random.default_rng(0)
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            shape = layer.gamma.shape
            layer.gamma.assign(random.uniform(0.5, 1.5, shape))
            layer.beta.assign(random.normal(0, 0.3, shape))
            layer.moving_mean.assign(random.normal(0, 0.3, shape))
            layer.moving_variance.assign(random.uniform(0.3, 2, shape))
    return model


def agree(model, folded):
    shape = model.input_shape[1:]
    pixels = np.random.default_rng(1).normal(size=(3, *shape)).astype("float32")
    expected = np.asarray(model(pixels, training=False))
    got = np.asarray(folded(pixels, training=False))
    np.testing.assert_allclose(got, expected, atol=1e-4 * np.abs(expected).max())


def norms(model):
    return [
        layer
        for layer in model.layers
        if isinstance(layer, keras.layers.BatchNormalization)
    ]


@pytest.mark.parametrize("family", FAMILIES)
def test_outputs_stay_as_they_were(family):
    spec, left = FAMILIES[family]
    model = trained(build(spec, pixel_stats=([0.1] * 3, [1.1] * 3)))
    weights = [weight.copy() for weight in model.get_weights()]
    folded = fold_batch_norm(model)
    agree(model, folded)
    assert len(norms(folded)) == left
    assert [layer.name for layer in folded.layers] == [
        layer.name for layer in model.layers
    ]
    for before, after in zip(weights, model.get_weights(), strict=True):
        np.testing.assert_array_equal(before, after)


def test_a_dense_network():
    spec = ResNetSpec(
        name="dense", input_shape=(12,), classes=3, stem="dense", stem_width=8,
        block="dense", depths=(2,), widths=(8,),
    )  # fmt: skip
    model = trained(build(spec))
    folded = fold_batch_norm(model)
    agree(model, folded)
    assert norms(model)
    assert not norms(folded)


def test_a_model_of_stock_layers_and_models_in_models():
    inner = keras.Sequential(
        [
            keras.Input((8, 8, 4)),
            keras.layers.Conv2D(8, 3, groups=2, activation="relu"),
            keras.layers.BatchNormalization(),  # behind an activation
            keras.layers.Conv2D(8, 3, use_bias=False),
            keras.layers.BatchNormalization(scale=False, center=False),
            keras.layers.GlobalAveragePooling2D(),
        ]
    )
    model = keras.Sequential([inner, keras.layers.Softmax()])
    for layer in inner.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.moving_variance.assign(np.full(8, 0.5))
    folded = fold_batch_norm(model)
    agree(model, folded)
    assert len(norms(folded.layers[-2])) == 1
    convolutions = [
        layer for layer in folded.layers[-2].layers if hasattr(layer, "kernel")
    ]
    # None is compiled by XLA.
    assert all(isinstance(layer, layers.Conv2D) for layer in convolutions)


class Doubled(keras.layers.BatchNormalization):
    def call(self, inputs, **options):
        return 2 * super().call(inputs, **options)


@pytest.mark.parametrize(
    ("conv", "norm"),
    [
        ({}, layers.BatchNormalization(renorm=True)),
        ({}, Doubled()),
        ({"lora_rank": 2}, layers.BatchNormalization()),
    ],
)
def test_what_computes_otherwise_is_not_folded(conv, norm):
    model = keras.Sequential(
        [keras.Input((8, 8, 3)), layers.Conv2D(4, 3, **conv, use_bias=False), norm]
    )
    random = np.random.default_rng(0)
    model.set_weights([random.uniform(0.5, 1.5, w.shape) for w in model.get_weights()])
    folded = fold_batch_norm(model)
    agree(model, folded)
    assert len(norms(folded)) == 1


def test_a_model_in_float64_stays_exact():
    model = keras.Sequential(
        [
            keras.Input((8, 8, 3), dtype="float64"),
            layers.Conv2D(4, 3, dtype="float64"),
            layers.BatchNormalization(dtype="float64"),
        ]
    )
    model.layers[1].moving_variance.assign(np.full(4, 0.3))
    pixels = np.random.default_rng(0).normal(size=(2, 8, 8, 3))
    folded = fold_batch_norm(model)
    np.testing.assert_allclose(folded(pixels), model(pixels), rtol=0, atol=1e-13)


def test_shared_layers_and_outputs_are_left_alone():
    image = keras.Input((8, 8, 3))
    conv, norm = layers.Conv2D(4, 3, name="conv"), layers.BatchNormalization()
    twice = norm(conv(image)) + norm(conv(image[:, ::-1]))
    seen = layers.Conv2D(4, 3, name="seen")(image)
    model = keras.Model(image, [twice, seen, layers.BatchNormalization()(seen)])
    folded = fold_batch_norm(model)
    assert len(norms(folded)) == 2
    pixels = np.random.default_rng(0).normal(size=(2, 8, 8, 3))
    for a, b in zip(model(pixels), folded(pixels), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)


def test_a_model_without_layers_is_refused():
    class Own(keras.Model):
        def call(self, inputs):
            return inputs

    with pytest.raises(UserError, match="is not a functional or sequential model"):
        fold_batch_norm(Own(name="own"))
