from __future__ import annotations

import keras
import numpy as np
import pytest

from keras_resnet import build, cifar_resnet, cifar_resnext, features, get_spec
from keras_resnet import wide_resnet as wide
from keras_resnet.analysis import lesions
from keras_resnet.errors import SpecError, UserError
from keras_resnet.network import under_policy
from keras_resnet.recompute import Recomputing
from keras_resnet.resnext import to_form
from keras_resnet.surgery import (
    SurgeryError,
    deepen,
    flatten,
    fold_batch_norm,
    to_stock,
)

X = np.random.default_rng(5).normal(size=(3, 32, 32, 3)).astype("float32")
FLAT = np.random.default_rng(5).normal(size=(3, 64)).astype("float32")


def randomized(model):
    """With weights and moving statistics that show every mistake."""
    random = np.random.default_rng(0)
    for layer in model.layers:
        layer.set_weights(
            [
                random.uniform(0.5, 1.5, w.shape)
                if w.name in ("gamma", "moving_variance")
                else random.normal(0, 0.1, w.shape)
                for w in layer.weights
                if "seed" not in w.path
            ]
        )
    return model


def assert_same_outputs(first, second, x, tolerance=1e-5):
    expected = first.predict(x, verbose=0)
    difference = np.abs(second.predict(x, verbose=0) - expected).max()
    assert np.abs(expected).max() > 0
    assert difference <= tolerance * np.abs(expected).max()


def lesioned(model):
    """Runs the lesion study."""
    rows = lesions(model, [(X, np.array([0, 1, 2]))])
    assert len(rows) == 17


SMALL = {"input_shape": (32, 32, 3), "stem_width": 8, "widths": (16, 24, 32, 48)}
STOCK = [
    cifar_resnet(8),
    cifar_resnet(8, merge="none"),
    cifar_resnet(8, merge="scale", merge_scales=(0.5, 0.7)),
    cifar_resnet(8, merge="exclusive_gate"),
    cifar_resnet(8, merge="shortcut_gate"),
    cifar_resnet(8, merge="dropout"),
    cifar_resnet(8, merge="dropout_inverted"),
    cifar_resnet(8, survival=0.5),
    cifar_resnet(8, survival=0.5, survival_mode="sample"),
    cifar_resnext(11, 4, 4, widths=(16, 32, 32)),
    wide(10, 2, dropout=0.3),
    get_spec("resnet50_d", **SMALL, depths=(1, 1, 2, 2), output_stride=8),
    get_spec("dense_resnet8", merge="exclusive_gate"),
    get_spec("dense_resnet8", depths=(1, 1), widths=(64, 96), shortcut="pad"),
]


@pytest.mark.parametrize(
    "spec", STOCK, ids=lambda s: f"{s.name}-{s.merge}-{s.survival}"
)
def test_stock_layers_give_equal_outputs(spec):
    model = randomized(build(spec))
    stock = to_stock(model)

    def modules(network):
        for layer in network.layers:
            yield type(layer).__module__.split(".")[0]
            if isinstance(layer, keras.Model):
                yield from modules(layer)

    assert set(modules(stock)) == {"keras"}
    assert [la.name for la in stock.layers] == [la.name for la in model.layers]
    assert_same_outputs(model, stock, FLAT if spec.block == "dense" else X)


DEEPENED = [
    (cifar_resnet(8), (2, 3, 1), X),
    (cifar_resnet(8, order="pre"), (2, 1, 2), X),
    (cifar_resnet(8, order="relu_only_pre"), (2, 2, 2), X),
    (cifar_resnet(8, merge="none"), (2, 3, 2), X),
    (cifar_resnet(8, merge="none", norm="none", conv_bias="all"), (2, 2, 2), X),
    (cifar_resnet(11, "bottleneck"), (2, 1, 2), X),
    (cifar_resnext(11, 4, 4, widths=(16, 32, 32)), (1, 2, 1), X),
    (get_spec("dense_resnet8"), (5,), FLAT),
    (get_spec("dense_plain8"), (5,), FLAT),
]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("spec", "depths", "x"), DEEPENED, ids=lambda v: getattr(v, "name", None)
)
def test_a_deepened_network_starts_equal_and_trains_on(spec, depths, x):
    model = randomized(build(spec))
    deeper = deepen(model, depths)
    assert deeper.spec.depths == depths
    assert deeper.count_params() > model.count_params()
    assert_same_outputs(model, deeper, x)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    deeper.compile(keras.optimizers.SGD(0.005, momentum=0.9), loss)
    kernels = [w for w in deeper.trainable_weights if w.name == "kernel"]
    before = [np.array(w) for w in kernels]
    y = np.array([1, 2, 3])
    losses = [deeper.train_on_batch(x, y) for _ in range(15)]
    assert losses[-1] < losses[0]
    stuck = [w.path for w, b in zip(kernels, before, strict=True) if np.all(b == w)]
    assert not stuck  # no unit is dead


def test_a_deepened_network_keeps_pixels_and_activation():
    model = build(
        cifar_resnet(8),
        pixel_stats=([120.0] * 3, [60.0] * 3),
        classifier_activation="softmax",
    )
    deeper = deepen(model, (2, 1, 1))
    assert_same_outputs(model, deeper, X * 255)


def test_a_loaded_model_needs_its_spec(tmp_path):
    model = build(cifar_resnet(8))
    model.save(tmp_path / "m.keras")
    loaded = keras.models.load_model(tmp_path / "m.keras")
    with pytest.raises(SurgeryError, match="give its spec"):
        deepen(loaded, (2, 1, 1))
    for other in (
        cifar_resnet(14),
        cifar_resnet(8, merge="none"),
        cifar_resnet(8, k=2),
    ):
        with pytest.raises(SurgeryError, match="is not the whole network of its spec"):
            deepen(loaded, (3, 3, 3), spec=other)
    for near, key in (
        ({"bn_epsilon": 1e-2}, "epsilon"),
        ({"kernels": (3, 1)}, "kernel_size"),
        ({"merge": "scale", "merge_scales": (0.5, 1)}, "class"),
    ):
        with pytest.raises(SurgeryError, match=rf"^spec: .*resnet8 has {key}"):
            deepen(loaded, (2, 1, 1), spec=cifar_resnet(8, **near))
    assert_same_outputs(model, deepen(loaded, (2, 1, 1), spec=model.spec), X)


def test_a_deepened_network_keeps_precision_recomputation_and_what_is_frozen():
    with under_policy("mixed_bfloat16"):
        model = build(cifar_resnet(8), recompute=True)
    model.get_layer("conv1_conv").trainable = False
    deeper = deepen(model, (2, 1, 1))
    for layer in deeper.layers:
        if layer.name in {old.name for old in model.layers}:
            assert layer.dtype_policy == model.get_layer(layer.name).dtype_policy
    assert deeper.get_layer("conv2_block2_1_conv").compute_dtype == "bfloat16"
    assert isinstance(deeper, Recomputing)
    assert not deeper.get_layer("conv1_conv").trainable
    assert deeper.get_layer("conv1_bn").trainable


@pytest.mark.parametrize(
    ("changes", "depths", "message"),
    [
        ({"include_top": False}, (2, 1, 1), "with its classifier and nothing before"),
        (
            {"order": "bn_after_add"},
            (2, 1, 1),
            "order: a new unit can't be an identity",
        ),
        ({"merge": "none", "order": "pre"}, (2, 1, 1), "'pre' in a plain network"),
        ({"merge": "exclusive_gate"}, (2, 1, 1), "merge: "),
        ({"survival": 0.5}, (2, 1, 1), "survival: "),
        ({"shortcut": "project_all"}, (2, 1, 1), "shortcut: "),
    ],
)
def test_what_can_not_be_deepened_says_why(changes, depths, message):
    with pytest.raises(SurgeryError, match=message):
        deepen(build(cifar_resnet(8), **changes), depths)


@pytest.mark.parametrize("depths", [(1, 1), (2, 0, 1), 5, (2, 1, "1")])
def test_wrong_depths(depths):
    with pytest.raises(SpecError, match=r"^depths: "):
        deepen(build(cifar_resnet(8)), depths)
    with pytest.raises(SurgeryError, match=r"not stage by stage \[2, 2, 2\] or more"):
        deepen(build(cifar_resnet(14)), (3, 1, 3))


def test_layers_before_the_network_are_not_lost():
    scaled = keras.layers.Rescaling(2.0)(keras.Input((32, 32, 3)))
    model = build(cifar_resnet(8), input_tensor=scaled)
    with pytest.raises(SurgeryError, match="nothing before it"):
        deepen(model, (2, 1, 1))


def nested():
    """Two networks in a model, one of them called twice, with layers of equal names."""
    image = keras.Input((32, 32, 3))
    body = build(cifar_resnet(8, survival=0.5), include_top=False, pooling="avg")
    other = keras.Sequential([keras.Input((32, 32, 3)), build(cifar_resnet(14))])
    mirrored = keras.layers.Concatenate()([body(image), body(image[:, :, ::-1])])
    merged = keras.layers.Concatenate()([mirrored, other(image)])
    return randomized(keras.Model(image, keras.layers.Dense(3)(merged), name="outer"))


def test_a_nested_model_in_stock_layers():
    model = nested()
    stock = to_stock(model)
    assert [w.path for w in stock.weights] == [w.path for w in model.weights]
    assert_same_outputs(model, stock, X)
    kinds = {type(layer).__module__ for layer in flatten(stock).layers}
    assert all(kind.startswith("keras.") for kind in kinds)


def test_a_flat_model_has_the_layers_of_nested_ones():
    model = nested()
    flat = flatten(model)
    assert not [la for la in flat.layers if isinstance(la, keras.Model)]
    names = {layer.name for layer in flat.layers}
    assert {"conv1_conv", "cifar_resnet14_conv1_conv", "predictions"} <= names
    assert len(flat.weights) == len(model.weights)
    assert_same_outputs(model, flat, X)


def test_a_flat_model_trains_where_a_call_said_so():
    image = keras.Input((32, 32, 3))
    inner = keras.Sequential([keras.Input((32, 32, 3)), build(cifar_resnet(8))])
    model = randomized(keras.Model(image, inner(image, training=True)))
    flat = flatten(model)
    np.testing.assert_allclose(flat(X), model(X), rtol=1e-4, atol=1e-5)
    assert np.abs(flat(X) - flat(X, training=False)).max() > 0.01


def test_models_that_can_not_be_walked_are_refused():
    class Own(keras.Model):
        def call(self, inputs):
            return inputs

    unbuilt = keras.Sequential([keras.layers.Dense(3)])
    image = keras.Input((8, 8, 3))
    within = keras.Model(image, Own(name="own")(image))
    for function, model in (
        (to_stock, Own()),
        (flatten, unbuilt),
        (flatten, within),
        (fold_batch_norm, Own()),
    ):
        with pytest.raises(UserError, match="is not a functional or sequential model"):
            function(model)


@pytest.mark.parametrize("change", [to_stock, flatten, fold_batch_norm, lesioned])
def test_models_of_keras_applications(change):
    """Their input has no name of its own."""
    model = randomized(
        keras.applications.ResNet50(
            weights=None, input_shape=(32, 32, 3), classes=3, classifier_activation=None
        )
    )
    changed = change(model)
    if changed:
        assert [la.name for la in changed.layers] == [la.name for la in model.layers]
        assert_same_outputs(model, changed, X, 1e-4)


@pytest.mark.parametrize("form", ["a", "b"])
@pytest.mark.parametrize("changes", [{}, {"conv_bias": "all"}, {"merge": "none"}])
def test_the_three_forms_are_equal(form, changes):
    model = randomized(build(cifar_resnext(11, 4, 4, widths=(16, 32, 64), **changes)))
    other = to_form(model, form)
    assert not any(getattr(layer, "groups", 1) > 1 for layer in other.layers)
    assert_same_outputs(model, other, X, tolerance=1e-5)
    assert other.count_params() == model.count_params()  # Equation 4
    paths = [la.name for la in other.layers if "conv3_block1_path" in la.name]
    last = [name for name in paths if name.endswith("_3_conv")]
    assert len(last) == (4 if form == "a" else 0)


def test_a_form_keeps_precision_and_what_is_frozen():
    with under_policy("mixed_bfloat16"):
        model = build(cifar_resnext(11, 2, 4, widths=(16, 16, 16)))
    model.get_layer("conv2_block1_1_conv").trainable = False
    other = to_form(model, "b")
    assert other.get_layer("conv2_block1_path1_1_conv").compute_dtype == "bfloat16"
    assert not other.get_layer("conv2_block1_path2_1_conv").trainable
    assert other.get_layer("conv2_block1_path1_1_bn").trainable


@pytest.mark.parametrize(
    ("spec", "form", "message"),
    [
        (cifar_resnext(11, 4, 4), "d", "form: 'd' is not 'a' or 'b'"),
        (cifar_resnet(8), "a", "need a cardinality above 1"),
        (cifar_resnext(11, 4, 4, survival=0.5), "b", "survival 1; got 4, 'post', 0"),
    ],
)
def test_what_has_no_forms_says_why(spec, form, message):
    with pytest.raises(SpecError, match=message):
        to_form(build(spec), form)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "channels"),
    [
        ("resnet18", (64, 128, 256, 512)),
        ("keras_resnet50_v2", (256, 512, 1024, 2048)),
        ("resnet50_d", (256, 512, 1024, 2048)),
    ],
)
def test_features(name, channels):
    model = build(name, input_shape=(64, 96, 3), include_top=False)
    pyramid = features(model)
    for stride, width in zip((4, 8, 16, 32), channels, strict=True):
        shape = (None, 64 // stride, 96 // stride, width)
        assert pyramid.output[f"stride_{stride}"].shape == shape
    x = np.zeros((1, 64, 96, 3), "float32")
    maps = pyramid.predict(x, verbose=0)
    # The last map is what the classifier would see.
    np.testing.assert_array_equal(maps["stride_32"], model.predict(x, verbose=0))


@pytest.mark.parametrize("side", [33, 40, 67])
def test_features_have_the_strides_of_the_layers(side):
    pyramid = features(build("resnet18", input_shape=(side, side, 3)))
    assert list(pyramid.output) == [f"stride_{n}" for n in (4, 8, 16, 32)]
    small = features(build(cifar_resnet(8), input_shape=(5, 5, 3)))
    assert list(small.output) == ["stride_1", "stride_2", "stride_4"]


def test_features_of_odd_open_and_dilated_sizes():
    odd = features(build("resnet18", input_shape=(97, 97, 3)), (8,))
    assert odd.output["stride_8"].shape == (None, 13, 13, 128)
    dilated = build("resnet18", input_shape=(None, None, 3), output_stride=8)
    maps = features(dilated, (4, 8)).predict(np.zeros((1, 64, 64, 3)), verbose=0)
    assert maps["stride_8"].shape == (1, 8, 8, 512)
    with pytest.raises(SurgeryError, match=r"strides: \[16\] are not among .*\[4, 8\]"):
        features(dilated, (8, 16))
    with pytest.raises(SurgeryError, match="no units with feature maps"):
        features(build("dense_resnet8"))
