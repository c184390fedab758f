from __future__ import annotations

import keras
import numpy as np
import pytest

from keras_resnet import analysis, build, cifar_resnet
from keras_resnet.analysis import activation
from keras_resnet.analysis.activation import draw_activation
from keras_resnet.errors import UserError


def corner_model() -> keras.Model:
    """Class 1 is as likely as the image is bright; class 0 as it is dark."""
    image = keras.Input((8, 8, 1))
    x = keras.layers.Conv2D(1, 1, use_bias=False, name="conv1")(image)
    x = keras.layers.GlobalAveragePooling2D()(x)
    model = keras.Model(image, keras.layers.Dense(2, name="last")(x))
    model.get_layer("conv1").kernel.assign(np.ones((1, 1, 1, 1)))
    model.get_layer("last").kernel.assign([[-1.0, 1.0]])
    return model


def test_class_activation_is_where_the_class_is():
    image = np.zeros((8, 8, 1), "float32")
    image[1, 2] = 4
    heat = analysis.class_activation(corner_model(), image, layer="conv1")
    assert heat.shape == (8, 8)
    assert (np.argmax(heat), heat.max()) == (1 * 8 + 2, 1)
    assert heat.sum() == 1
    against = analysis.class_activation(corner_model(), image, label=0, layer="conv1")
    assert against.sum() == 0
    maps = analysis.feature_maps(corner_model(), image, "conv1")
    np.testing.assert_array_equal(maps, image)


@pytest.mark.parametrize("ending", ["dense", "activation", "softmax"])
def test_a_sure_softmax_is_seen_by_its_logits(ending):
    model = corner_model()
    model.get_layer("last").kernel.assign([[-1e6, 1e6]])
    if ending == "dense":
        model.get_layer("last").activation = keras.activations.softmax
    else:
        kinds = {
            "activation": keras.layers.Activation("softmax"),
            "softmax": keras.layers.Softmax(),
        }
        model = keras.Model([model.input], [kinds[ending](model.output)])
    image = np.zeros((8, 8, 1), "float32")
    image[1, 2] = 4
    for label, total in ((None, 1), (0, 0)):
        heat = analysis.class_activation(model, image, label=label, layer="conv1")
        assert heat.sum() == total


def test_lists_of_one_input_and_output():
    inner, image = corner_model(), np.ones((8, 8, 1), "float32")
    model = keras.Model([inner.input], [inner.output])
    heat = analysis.class_activation(model, image, label=1)
    np.testing.assert_array_equal(heat, np.ones((8, 8)))
    np.testing.assert_array_equal(analysis.feature_maps(model, image, "conv1"), image)


def test_picture_of_a_network(tmp_path):
    spec = cifar_resnet(8, input_shape=(8, 8, 1), stem_width=4, widths=(4, 8, 8))
    model = build(spec, classifier_activation="softmax", classes=3)
    image = np.random.default_rng(0).integers(0, 256, (8, 8, 1)).astype("uint8")
    heat = analysis.class_activation(model, image)
    assert heat.shape == (8, 8)
    assert 0 <= heat.min() <= heat.max() <= 1
    draw_activation(model, image, tmp_path / "seen.png")
    assert (tmp_path / "seen.png").stat().st_size > 1000


def test_a_picture_tells_class_probability_and_scale(monkeypatch, tmp_path):
    figures = []
    monkeypatch.setattr(activation, "write_figure", lambda _, f: figures.append(f))
    image = np.full((8, 8, 1), 4, "float32")
    inner = corner_model()
    for model in (inner, keras.Sequential([inner, keras.layers.Softmax()])):
        draw_activation(model, image, tmp_path / "seen.png", ["dark", "bright"])
        _, right, scale = figures[-1].axes[:3]
        assert right.get_title() == "looks like bright: 100.0%"
        assert "Grad-CAM" in scale.get_ylabel()
        assert scale.get_ylim() == (0, 1)
    draw_activation(inner, image, tmp_path / "seen.png")
    assert figures[-1].axes[1].get_title() == "looks like class 1: 100.0%"


def test_a_nested_model():
    image = np.zeros((8, 8, 1), "float32")
    image[1, 2] = 4
    outer = keras.Sequential([keras.Input((8, 8, 1)), corner_model()])
    np.testing.assert_array_equal(
        analysis.class_activation(outer, image, layer="conv1"),
        analysis.class_activation(corner_model(), image, layer="conv1"),
    )


def test_mistakes():
    model, image = corner_model(), np.zeros((8, 8, 1), "float32")
    with pytest.raises(UserError, match="label: 2 is not from 0 to 1"):
        analysis.class_activation(model, image, label=2)
    with pytest.raises(UserError, match="'last' is no layer with feature maps"):
        analysis.class_activation(model, image, layer="last")
    with pytest.raises(UserError, match=r"image: \[8, 8\] is not \[8, 8, 1\]"):
        analysis.class_activation(model, image[:, :, 0])
