from __future__ import annotations

import csv
import hashlib
from pathlib import Path

import keras
import numpy as np
import pytest
from counting import macs, trainable_params

from keras_resnet import (
    PRESETS,
    ResNetSpec,
    SpecError,
    build,
    cifar_resnet,
    estimate_cost,
    get_spec,
    make_plan,
)
from keras_resnet.errors import UserError

GOLDEN = Path(__file__).parent / "golden" / "networks.csv"
COLUMNS = ("name", "params", "total_params", "macs", "weights", "sha256")


def is_small(name: str) -> bool:
    spec = PRESETS[name].spec
    return sum(spec.depths) <= 27 and estimate_cost(spec).params < 3e6


NETWORKS = [
    pytest.param(name, marks=() if is_small(name) else pytest.mark.slow)
    for name in PRESETS
]


def golden() -> dict[str, dict[str, str]]:
    with GOLDEN.open(newline="") as file:
        return {row["name"]: row for row in csv.DictReader(file)}


def describe(model: keras.Model) -> dict[str, str]:
    """Sizes, and the names and order of all weights as one hash."""
    paths = "\n".join(f"{weight.path} {weight.shape}" for weight in model.weights)
    return {
        "params": str(trainable_params(model)),
        "total_params": str(model.count_params()),
        "macs": str(macs(model)),
        "weights": str(len(model.weights)),
        "sha256": hashlib.sha256(paths.encode()).hexdigest(),
    }


@pytest.mark.parametrize("name", NETWORKS)
def test_built_layers_equal_golden_copy_and_estimate(name, update_golden):
    row = {"name": name, **describe(build(name))}
    if update_golden:
        rows = (golden() if GOLDEN.exists() else {}) | {name: row}
        with GOLDEN.open("w", newline="") as file:
            writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows[n] for n in PRESETS if n in rows)
    assert golden()[name] == row
    cost = estimate_cost(get_spec(name))
    assert [str(n) for n in cost[:3]] == [
        row[column] for column in ("params", "total_params", "macs")
    ]


# Weight names in their order, in full, for one network of each wiring.
WEIGHT_ORDER = {
    "cifar_resnet8": cifar_resnet(8),
    "cifar_plain8": cifar_resnet(8, merge="none"),
    "cifar_resnet8_project": cifar_resnet(8, shortcut="project"),
    "cifar_resnet8_v2": cifar_resnet(8, order="pre"),
    "cifar_resnet11": cifar_resnet(11, "bottleneck"),
    "cifar_resnet11_v2": cifar_resnet(
        11, "bottleneck", order="pre", project_norm=False
    ),
    "cifar_resnet11_v1_5_d": cifar_resnet(
        11, "bottleneck", stride_on="3x3", project_pool=True, dropout=0.1
    ),
    "cifar_highway8": cifar_resnet(8, merge="exclusive_gate"),
    "dense_resnet8": get_spec("dense_resnet8"),
}

# Options that add or move weightless layers only: names and order must not change.
WEIGHTLESS = [
    {"survival": 0.5},
    {"survival": 0.5, "survival_mode": "sample"},
    {"merge": "scale", "merge_scales": (0.5, 0.5)},
    {"merge": "scale", "survival": 0.5},
    {"merge": "dropout"},
    {"merge": "dropout_inverted"},
    {"dropout": 0.3},
    {"pad_pool": "average"},
    {"project_pool": True},
    {"stride_on": "3x3"},
    {"stem_pool_pad": "minus_inf"},
    {"zero_gamma": True},
    {"init": "glorot"},
    {"output_stride": 8},
]
BASES = {
    "basic_pad": cifar_resnet(8, stem="imagenet", input_shape=(64, 64, 3)),
    "bottleneck": cifar_resnet(
        11, "bottleneck", stem="imagenet", input_shape=(64, 64, 3)
    ),
    "bottleneck_pre": cifar_resnet(
        11,
        "bottleneck",
        order="pre",
        project_norm=False,
        stem="imagenet",
        input_shape=(64, 64, 3),
    ),
}
WEIGHTLESS_CASES = [
    (base, changes)
    for base in BASES
    for changes in WEIGHTLESS
    if not (base.endswith("_pre") and "zero_gamma" in changes)
]


@pytest.fixture(scope="module")
def saved_bases(tmp_path_factory):
    """A file of weights of each base, and the paths in it."""
    place = tmp_path_factory.mktemp("bases")
    saved = {}
    for name, spec in BASES.items():
        model = build(spec)
        random = np.random.default_rng(0)
        model.set_weights([random.normal(size=w.shape) for w in model.get_weights()])
        model.save_weights(place / f"{name}.weights.h5")
        values = {w.path: np.asarray(w) for w in model.weights}
        saved[name] = (place / f"{name}.weights.h5", values)
    return saved


@pytest.mark.parametrize(("base", "changes"), WEIGHTLESS_CASES)
def test_weightless_options_keep_names_order_and_files(base, changes, saved_bases):
    """Not even projections and convolutions of equal shape may be swapped."""
    path, values = saved_bases[base]
    model = build(BASES[base], **changes)
    assert [w.path for w in model.weights] == list(values)
    model.load_weights(path)
    for weight in model.weights:
        np.testing.assert_array_equal(weight, values[weight.path])


@pytest.mark.parametrize("name", WEIGHT_ORDER)
def test_weight_order_in_full(name, update_golden):
    path = GOLDEN.parent / "weights" / f"{name}.txt"
    model = build(WEIGHT_ORDER[name])
    text = "".join(f"{w.path} {tuple(w.shape)}\n" for w in model.weights)
    if update_golden:
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    assert text == path.read_text()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "stock", "side"),
    [
        ("keras_resnet50", "ResNet50", 97),
        ("keras_resnet50_v2", "ResNet50V2", 97),
        ("keras_resnet101", "ResNet101", 64),
        ("keras_resnet152_v2", "ResNet152V2", 64),
    ],
)
def test_keras_applications_weights_and_outputs(name, stock, side):
    shape = (side, side, 3)
    theirs = getattr(keras.applications, stock)(
        weights=None, include_top=False, input_shape=shape, pooling="avg"
    )
    ours = build(name, include_top=False, input_shape=shape, pooling="avg")
    unnamed = ("input_layer", "max_pooling2d")  # numbered by Keras
    names = [la.name for la in theirs.layers if not la.name.startswith(unnamed)]
    assert {la.name for la in ours.layers} >= set(names)
    assert [w.path for w in ours.weights] == [w.path for w in theirs.weights]
    random = np.random.default_rng(0)
    values = [
        random.uniform(0.5, 1.5, w.shape)
        if "variance" in w.path or "gamma" in w.path
        else random.normal(0, 0.05, w.shape)
        for w in theirs.weights
    ]
    theirs.set_weights(values)
    ours.set_weights(values)
    x = random.normal(size=(1, *shape)).astype("float32")
    expected = theirs.predict(x, verbose=0)
    assert np.ptp(expected) > 0
    difference = np.abs(ours.predict(x, verbose=0) - expected).max()
    print(f"{name}: {difference / np.abs(expected).max():.1e}")
    assert difference <= 1e-5 * np.abs(expected).max()


def dilatable() -> dict[str, ResNetSpec]:
    """A small network of each wiring with a total stride of 32, of all presets."""
    small = {
        "input_shape": (None, None, 3), "classes": 3, "depths": (1, 2, 2, 2),
        "stem_width": 8, "k": 1,
    }  # fmt: skip
    changed: dict[str, dict] = {name: {} for name in PRESETS}
    changed |= {
        "resnet18 A": {"shortcut": "pad"},
        "resnet18 A, averaged": {"shortcut": "pad", "pad_pool": "average"},
        "resnet18 C": {"shortcut": "project_all", "project_pool": True},
        "resnet18 (3, 1, 3)": {"kernels": (3, 1, 3)},
        "resnet18 (1, 3)": {"kernels": (1, 3)},
        "resnet18 (5, 5)": {"kernels": (5, 5)},
        "resnet18 gated": {"merge": "exclusive_gate"},
        "resnet18 bn_after_add": {"order": "bn_after_add"},
        "resnet18 relu_only_pre": {"order": "relu_only_pre"},
        "resnet18 of one width": {"widths": (8, 8, 8, 8)},
        "resnet18 that strides last": {"stride_at": "last", "pad_pool": "average"},
        "resnet18 stochastic": {"survival": 0.5},
    }
    found: dict[ResNetSpec, str] = {}
    for name, changes in changed.items():
        spec = get_spec(name.split()[0])
        if spec.stem not in ("imagenet", "deep"):
            continue
        groups = {"cardinality": min(spec.cardinality, 2)}
        groups["group_width"] = spec.group_width and 4
        widths = (16, 24, 32, 48)
        fields = {**small, **groups, "widths": widths, "name": "net", **changes}
        found.setdefault(spec.replace(**fields), name)
    return {name: spec for spec, name in found.items()}


@pytest.mark.parametrize("output_stride", [8, 16])
@pytest.mark.parametrize("name", dilatable())
def test_a_dilated_network_is_the_strided_one_seen_densely(name, output_stride):
    """With the same weights, at images of odd and even sizes."""
    spec = dilatable()[name]
    strided = build(spec, include_top=False)
    dense = build(spec, include_top=False, output_stride=output_stride)
    assert [w.path for w in dense.weights] == [w.path for w in strided.weights]
    random = np.random.default_rng(0)
    for a, b in zip(strided.weights, dense.weights, strict=True):
        spread = a.path.endswith(("gamma", "moving_variance"))
        draw = random.uniform if spread else random.normal
        value = draw(*((0.5, 1.5) if spread else (0, 0.1)), a.shape)
        a.assign(value)
        b.assign(value)
    step = 32 // output_stride
    for size in ((65, 97), (34, 51)):
        x = random.normal(size=(1, *size, 3)).astype("float32")
        expected, seen = strided(x), dense(x)[:, ::step, ::step]
        assert seen.shape == expected.shape
        scale = np.abs(expected).max()
        assert scale > 0
        np.testing.assert_allclose(seen, expected, atol=1e-5 * scale)


def test_option_a_subsamples_and_appends_zero_channels():
    model = build(cifar_resnet(8))
    shortcut = keras.Model(
        model.get_layer("conv2_block1_out").output,
        model.get_layer("conv3_block1_0_pad").output,
    )
    x = np.random.default_rng(0).normal(size=(2, 32, 32, 16)).astype("float32")
    y = shortcut.predict(x, verbose=0)
    np.testing.assert_array_equal(y[..., :16], x[:, ::2, ::2])
    np.testing.assert_array_equal(y[..., 16:], 0)


def test_minus_infinity_padding_is_symmetric():
    spec = get_spec("resnet18", input_shape=(32, 32, 3), stem_pool_pad="minus_inf")
    model = build(spec)
    pool = keras.Model(
        model.get_layer("conv1_relu").output, model.get_layer("pool1_pool").output
    )
    x = -np.random.default_rng(0).uniform(1, 2, (1, 16, 16, 64)).astype("float32")
    y = pool.predict(x, verbose=0)
    padded = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)), constant_values=-np.inf)
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(1, 2))
    np.testing.assert_array_equal(y, windows[:, ::2, ::2].max(axis=(-1, -2)))


@pytest.mark.parametrize(
    ("changes", "deviation"),
    [
        ({"init": "he_fan_in"}, (2 / (9 * 16)) ** 0.5),  # .1179
        ({"init": "he_fan_out"}, (2 / (9 * 32)) ** 0.5),  # .0833
        ({"init": "glorot"}, (2 / (9 * 48)) ** 0.5),
    ],
)
def test_initialization(changes, deviation):
    kernel = build(cifar_resnet(8, **changes)).get_layer("conv3_block1_1_conv").kernel
    assert kernel.shape[-2:] == (16, 32)
    assert np.std(kernel) == pytest.approx(deviation, rel=0.03)


def test_zero_gamma_starts_units_as_identities():
    model = build(cifar_resnet(20, zero_gamma=True))
    unit = keras.Model(
        model.get_layer("conv2_block1_out").output,
        model.get_layer("conv2_block3_out").output,
    )
    x = np.random.default_rng(0).uniform(size=(1, 32, 32, 16)).astype("float32")
    np.testing.assert_array_equal(unit.predict(x, verbose=0), x)


def test_raw_pixels_are_normalized_inside(tiny_spec):
    plain = build(tiny_spec)
    ours = build(tiny_spec, pixel_stats=([100.0], [50.0]))
    ours.set_weights(plain.get_weights())
    pixels = np.random.default_rng(0).integers(0, 256, (3, 8, 8, 1), dtype=np.uint8)
    np.testing.assert_allclose(
        ours.predict(pixels, verbose=0),
        plain.predict((pixels - 100.0) / 50, verbose=0),
        rtol=1e-5,
        atol=1e-6,
    )
    nan = float("nan")
    for wrong in (([1, 2, 3], [1, 1, 1]), 3, (1, 2), ("a", "b"), ([1], [nan])):
        with pytest.raises(SpecError, match=r"pixel_stats: .* is not 1 means"):
            build(tiny_spec, pixel_stats=wrong)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"input_shape": 224}, "input_shape: 224 is not"),
        ({"classes": "10"}, "classes: '10' is not an integer"),
        ({"pooling": "avg"}, "pooling: 'avg' needs include_top=False"),
        ({"input_tensor": np.zeros((1, 8, 8, 1))}, "input_tensor: ndarray is not"),
        (
            {"input_tensor": keras.Input((8, 8, 1)), "input_shape": (9, 9, 1)},
            r"input_shape: \[9, 9, 1\] is not the input_tensor's \[8, 8, 1\]",
        ),
    ],
)
def test_wrong_arguments(tiny_spec, arguments, message):
    with pytest.raises(SpecError, match=message):
        build(tiny_spec, **arguments)
    with pytest.raises(SpecError, match="None is not the name of a preset"):
        build(None)


def test_a_tensor_gives_its_shape(tiny_spec):
    model = build(tiny_spec, input_tensor=keras.Input((12, 12, 1)))
    assert model.spec.input_shape == (12, 12, 1)
    assert estimate_cost(model.spec).total_params == model.count_params()


def test_mixed_precision_keeps_logits_and_pixels_in_float32(tiny_spec):
    keras.mixed_precision.set_global_policy("mixed_bfloat16")
    try:
        model = build(tiny_spec, pixel_stats=([100.0], [50.0]))
        assert model.get_layer("conv2_block1_1_conv").compute_dtype == "bfloat16"
        assert model.get_layer("pixel_stats").compute_dtype == "float32"
        assert model.predict(np.zeros((1, 8, 8, 1)), verbose=0).dtype == np.float32
    finally:
        keras.mixed_precision.set_global_policy("float32")


def test_without_the_classifier(tiny_spec):
    assert build(tiny_spec, include_top=False).output_shape == (None, 2, 2, 8)
    assert build(tiny_spec, include_top=False, pooling="max").output_shape == (None, 8)
    pre = build(tiny_spec, include_top=False, order="pre")
    assert pre.layers[-1].name == "post_relu"
    with pytest.raises(SpecError, match="pooling: 'mean' is not"):
        build(tiny_spec, include_top=False, pooling="mean")


def test_any_image_size(tiny_spec):
    model = build(tiny_spec, input_shape=(None, None, 3), classes=7)
    for side in (8, 13):
        assert model.predict(np.zeros((2, side, side, 3)), verbose=0).shape == (2, 7)


@pytest.mark.parametrize("activation", [None, "softmax"])
def test_outputs_are_logits_unless_asked(tiny_spec, activation):
    model = build(tiny_spec, classifier_activation=activation)
    y = model.predict(np.ones((2, 8, 8, 1)), verbose=0)
    assert np.allclose(y.sum(axis=-1), 1) == (activation == "softmax")


def test_every_layer_of_the_plan_is_built_under_its_name(tiny_spec):
    for changes in ({}, {"order": "pre"}, {"shortcut": "project"}, {"merge": "none"}):
        spec = tiny_spec.replace(**changes)
        planned = {op.name: op.shape for op in make_plan(spec).ops}
        built = {la.name: la.output.shape[1:] for la in build(spec).layers[1:]}
        assert built == planned


def test_another_backend_of_keras_is_refused(monkeypatch):
    monkeypatch.setattr(keras.backend, "backend", lambda: "torch")
    with pytest.raises(UserError, match="KERAS_BACKEND: 'torch', but keras_resnet"):
        build("cifar_resnet20")


def test_images_are_channels_last():
    keras.config.set_image_data_format("channels_first")
    try:
        with pytest.raises(SpecError, match="image_data_format: networks are built on"):
            build("cifar_resnet20")
        # Not that the image is too small.
        with pytest.raises(SpecError, match="image_data_format: networks are built on"):
            build("resnet18", input_shape=(3, 224, 224))
    finally:
        keras.config.set_image_data_format("channels_last")
