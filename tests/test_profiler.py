from __future__ import annotations

import csv
import io
import json

import keras
import pytest
from click.testing import CliRunner

from keras_resnet import PRESETS, ResNetSpec, analysis, build, estimate_cost, get_spec
from keras_resnet.cli import main
from keras_resnet.errors import UserError


def small(spec: ResNetSpec) -> dict[str, object]:
    """Changes that leave every kind of unit, and make it quick to build."""
    thin = 4 if spec.stem in ("imagenet", "deep") else 1
    return {
        "depths": tuple(min(depth, 2) for depth in spec.depths),
        "widths": tuple(width // thin for width in spec.widths),
        "k": min(spec.k, 2),
        "group_width": spec.group_width and min(spec.group_width, 4),
    }


def small_unit_model(
    shape: tuple[int | None, ...] = (8, 8, 3),
) -> keras.Model:
    image = keras.Input(shape)
    x = keras.layers.Conv2D(4, 3, padding="same", use_bias=False, name="first")(image)
    y = keras.layers.ReLU()(keras.layers.BatchNormalization()(x))
    y = keras.layers.Conv2D(4, 3, padding="same", groups=2, name="grouped")(y)
    x = keras.layers.GlobalAveragePooling2D()(keras.layers.Add()([x, y]))
    return keras.Model(image, keras.layers.Dense(2, name="last")(x))


def assert_equals_cost(spec):
    found = analysis.profile(build(spec))
    assert (
        found.params,
        found.total_params,
        found.macs,
        found.activations,
        found.training_bytes,
    ) == estimate_cost(spec)
    assert not found.uncounted


@pytest.mark.parametrize("name", ["cifar_resnet20", "cifar_highway20", "dense_resnet8"])
def test_equals_the_analytic_cost(name):
    assert_equals_cost(get_spec(name))


@pytest.mark.slow
def test_equals_the_analytic_cost_of_every_preset():
    specs = {
        preset.spec.replace(name="x", **small(preset.spec))
        for preset in PRESETS.values()
    }
    assert len(specs) > 25  # the others differ in depth only
    for spec in specs:
        assert_equals_cost(spec)
        keras.backend.clear_session()


def test_by_hand():
    found = analysis.profile(small_unit_model())
    layers = {layer.name: layer for layer in found.layers}
    tensor = 8 * 8 * 4
    assert layers["first"].macs == 8 * 8 * 9 * 3 * 4
    assert layers["grouped"].macs == 8 * 8 * 9 * 2 * 4
    assert layers["grouped"].params == 9 * 2 * 4 + 4
    assert layers["last"].macs == 4 * 2
    assert found.macs == sum(layer.macs for layer in found.layers)
    assert found.activations == 2 * tensor + 2
    # The shortcut lives until the sum: it, and what a layer takes in and puts out.
    assert found.inference_bytes == 4 * 3 * tensor
    # The image, the norm's input, the ReLU's output, the pooled features.
    assert found.training_bytes == 4 * (8 * 8 * 3 + 2 * tensor + 4)
    assert found.peak_inference(3) == found.weight_bytes + 3 * found.inference_bytes
    moved = 4 * (8 * 8 * 3 + 9 * 3 * 4 + tensor)
    assert layers["first"].intensity == pytest.approx(layers["first"].macs / moved)


def test_other_kinds_of_layers():
    image = keras.Input((8, 8, 6))
    x = keras.layers.DepthwiseConv2D(3, depth_multiplier=2, use_bias=False)(image)
    x = keras.layers.SeparableConv2D(5, 3, use_bias=False)(x)
    x = keras.layers.Conv2DTranspose(7, 2, strides=2, use_bias=False)(x)
    shared = keras.layers.Dense(7, use_bias=False)
    x = shared(shared(keras.layers.GlobalAveragePooling2D()(x)))
    found = analysis.profile(keras.Model(image, x))
    macs = [layer.macs for layer in found.layers if layer.macs]
    assert macs == [36 * 9 * 12, 16 * (9 * 12 + 12 * 5), 16 * 4 * 5 * 7, 49, 49]
    assert sum(layer.params for layer in found.layers) == found.params


@pytest.mark.parametrize(
    ("layer", "macs"),
    [
        (keras.layers.Conv2D(8, 3, groups=2), 6 * 6 * 9 * 2 * 8),
        (keras.layers.DepthwiseConv2D(3), 6 * 6 * 9 * 4),
        (keras.layers.SeparableConv2D(5, 3), 6 * 6 * (9 * 4 + 4 * 5)),
        (keras.layers.Conv2DTranspose(7, 2, strides=2), 8 * 8 * 4 * 4 * 7),
    ],
    ids=["grouped", "depthwise", "separable", "transposed"],
)
def test_either_order_of_channels(layer, macs):
    for order, shape in (("channels_first", (4, 8, 8)), ("channels_last", (8, 8, 4))):
        config = {**layer.get_config(), "data_format": order}
        model = keras.Sequential([keras.Input(shape), type(layer).from_config(config)])
        assert analysis.profile(model).macs == macs


def test_nested_sequential_and_own_classes():
    class Own(keras.Model):
        def __init__(self) -> None:
            super().__init__()
            self.inner = keras.Sequential([keras.layers.Conv2D(4, 3)])
            self.last = keras.layers.Dense(3)

        def call(self, images):
            return self.last(keras.ops.relu(self.inner(images)))

    shape = (8, 8, 1)
    nested = keras.Sequential(
        [keras.Input(shape), build_inner(), keras.layers.Dense(3)]
    )
    macs = 6 * 6 * (9 * 4 + 4 * 3)
    assert analysis.profile(Own(), input_shape=shape).macs == macs
    found = analysis.profile(nested)
    assert found.macs == macs
    assert found.layers[0].name == "inner/conv"


def build_inner() -> keras.Model:
    image = keras.Input((8, 8, 1))
    return keras.Model(
        image, keras.layers.Conv2D(4, 3, name="conv")(image), name="inner"
    )


def test_unknown_layers_are_named():
    image = keras.Input((5, 4))
    found = analysis.profile(
        keras.Model(image, keras.layers.LSTM(3, name="rnn")(image))
    )
    assert found.uncounted == ("rnn",)


def test_open_sizes():
    model = build("cifar_resnet20", input_shape=(None, None, 3))
    known = analysis.profile(build("cifar_resnet20"))
    assert analysis.profile(model, input_shape=(32, 32, 3))[1:9] == known[1:9]
    with pytest.raises(UserError, match="is open; give the size"):
        analysis.profile(model)
    with pytest.raises(UserError, match=r"takes \(32, 32, 3\), not \(64, 64, 3\)"):
        analysis.profile(build("cifar_resnet20"), input_shape=(64, 64, 3))
    with pytest.raises(UserError, match="str is not a Keras model"):
        analysis.profile("cifar_resnet20")


def test_writes_json_and_csv():
    found = analysis.profile(small_unit_model())
    assert "multiply-adds" in found.to_json()
    assert json.loads(found.to_json())["macs"] == found.macs
    rows = list(csv.DictReader(io.StringIO(found.to_csv())))
    assert [int(row["macs"]) for row in rows] == [layer.macs for layer in found.layers]
    assert rows[0]["shape"] == "8x8x4"


@pytest.mark.slow
def test_command_measures_and_agrees(workplace):
    small_unit_model((None, None, 3)).save("mine.keras")
    arguments = ["profile", "mine.keras", "--measure", "--training", "--repeats", "3"]
    arguments += ["--batch", "2", "--batch", "1", "--image-size", "8"]
    done = CliRunner().invoke(main, [*arguments, "--json", "--csv", "layers.csv"])
    assert done.exit_code == 0, done.output
    told = json.loads(done.output)
    measured = told["measured"]
    rows = measured["inference"] + measured["training"]
    assert [row["batch"] for row in rows] == [1, 2, 1, 2]
    for row in rows:
        assert 0 < row["seconds_min"] <= row["seconds_median"]
        assert row["images_per_second"] == row["batch"] / row["seconds_min"]
        assert row["peak_bytes"] > 0
    lines = (workplace / "layers.csv").read_text().splitlines()
    assert len(lines) == 1 + len(told["layers"])


def test_command_takes_another_size():
    arguments = ["profile", "cifar_resnet20", "--image-size", "64", "--json"]
    done = CliRunner().invoke(main, arguments)
    spec = get_spec("cifar_resnet20", input_shape=(64, 64, 3))
    assert json.loads(done.output)["macs"] == estimate_cost(spec).macs


def test_command_takes_a_network_of_features():
    done = CliRunner().invoke(main, ["profile", "dense_resnet8", "--json"])
    cost = estimate_cost(get_spec("dense_resnet8"))
    assert json.loads(done.output)["macs"] == cost.macs
    done = CliRunner().invoke(main, ["profile", "dense_resnet8", "--image-size", "8"])
    assert done.exit_code == 2
    assert "dense_resnet8 takes 64 features, not images" in done.output


def test_command_prints_a_table():
    done = CliRunner().invoke(main, ["profile", "cifar_resnet20"])
    assert done.exit_code == 0, done.output
    assert "269,722 trainable parameters, 271,098 in all; 40.551 M MACs" in done.output
    assert "conv2_block1_1_conv" in done.output


@pytest.mark.parametrize(
    ("network", "message"),
    [
        ("resnet51", "no preset is named 'resnet51'; closest: resnet50"),
        ("missing.keras", "file missing.keras doesn't exist"),
        ("folder", "folder is not a run folder"),
        ("damaged.keras", "can't load damaged.keras: Bad CRC-32"),
        ("run", "can't load run/best.keras: Bad CRC-32"),
    ],
)
def test_command_refuses_what_is_no_network(workplace, network, message):
    (workplace / "folder").mkdir()
    small_unit_model().save("damaged.keras")
    content = bytearray((workplace / "damaged.keras").read_bytes())
    content[len(content) // 2] ^= 1
    (workplace / "damaged.keras").write_bytes(content)
    (workplace / "run").mkdir()
    (workplace / "run/best.keras").write_bytes(content)
    (workplace / "run/recipe.json").write_text("{}")
    known = {"arguments": {}, "image_shape": [8, 8, 3], "class_names": []}
    (workplace / "run/data.json").write_text(json.dumps(known))
    done = CliRunner().invoke(main, ["profile", network])
    assert done.exit_code == 2
    assert message in done.output
