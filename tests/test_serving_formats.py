"""Exports for LiteRT, ONNX and OpenVINO, each run by its own runtime."""

from __future__ import annotations

import json
import shutil
import zipfile

import keras
import numpy as np
import onnx
import openvino
import pytest
from click.testing import CliRunner
from conftest import ROOT
from images import noise
from PIL import Image

from keras_resnet import build, cifar_resnet, get_spec, serving
from keras_resnet.cli import main
from keras_resnet.errors import ExportWarning, UserError
from keras_resnet.heads import Head
from keras_resnet.serving import ExportError, exporting, quantizing, runtimes
from keras_resnet.surgery import fold_batch_norm

FILES = {"litert": "model.tflite", "onnx": "model.onnx", "openvino": "model.xml"}
CIFAR = {
    "depths": (1, 1, 1),
    "stem_width": 8,
    "widths": (8, 8, 16),
    "input_shape": (16, 16, 3),
}
IMAGENET = {
    "depths": (1, 1),
    "stem_width": 8,
    "widths": (32, 64),
    "input_shape": (32, 32, 3),
    "classes": 10,
}
FAMILIES = {
    "plain": get_spec("cifar_plain20", **CIFAR),
    "highway": get_spec("cifar_highway20", **CIFAR),
    **{
        order: cifar_resnet(8, order=order, **CIFAR)
        for order in (
            "post", "pre", "bn_after_add", "relu_before_add", "relu_only_pre",
        )
    },
    "stochastic depth": get_spec("cifar_resnet110_sd", **CIFAR),
    "wide": get_spec("wrn_16_4", **CIFAR | {"k": 2}),
    "ResNeXt": get_spec("cifar_resnext29_8x64d", **CIFAR | {"cardinality": 4}),
    "C": get_spec("resnet50_c", **IMAGENET),
    "D": get_spec("resnet50_d", **IMAGENET),
    "dense": get_spec("dense_resnet8"),
}  # fmt: skip


def trained(spec, **options):
    """A network whose statistics and classifier are as training may leave them."""
    model = build(spec, **options)
    random = np.random.default_rng(0)
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            shape = layer.moving_mean.shape
            layer.moving_mean.assign(random.normal(0, 0.2, shape))
            layer.moving_variance.assign(random.uniform(0.5, 2, shape))
    return model


def answers_of(model, images):
    logits = model.predict(images, verbose=0).astype("float64")
    exponents = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return exponents / exponents.sum(axis=-1, keepdims=True)


@pytest.mark.slow
@pytest.mark.parametrize("name", FAMILIES)
def test_each_family_in_each_format(name, tmp_path):
    spec = FAMILIES[name]
    model = trained(spec)
    for format in FILES:
        path = serving.export(model, tmp_path / "net", format=format)
        served = serving.load(path)
        for count in (1, 5):
            images = noise(count, spec.input_shape, seed=count)
            np.testing.assert_allclose(
                served.predict(images), answers_of(model, images), rtol=1e-3, atol=1e-5
            )


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """A network with raw pixels in, in all formats, as one version."""
    spec = cifar_resnet(8, name="net", **CIFAR | {"widths": (32, 64, 128)})
    model = trained(spec, pixel_stats=([120.0] * 3, [60.0] * 3))
    path = tmp_path_factory.mktemp("formats") / "net"
    source = serving.exporting.find(
        model, [f"class {i}" for i in range(10)], about={"licence": "MIT"}
    )
    names = ["saved_model", *FILES]
    options = serving.exporting.Options()
    paths = serving.exporting.write(source, path, names, options)
    return model, dict(zip(names, paths, strict=True))


def test_all_formats_are_one_version_and_agree(exported):
    model, paths = exported
    root = paths["saved_model"].parent
    assert paths == {
        "saved_model": root / "1",
        **{name: root / name / "1" for name in FILES},
    }
    assert serving.server.versions(root) == [1]
    images = noise(7, (16, 16, 3), seed=3)
    for path in paths.values():
        served = serving.load(path)
        np.testing.assert_allclose(
            served.predict(images), answers_of(model, images), rtol=1e-3, atol=1e-6
        )
        assert served.class_names[9] == "class 9"
        assert served.image_shape == (16, 16, 3)
        described = serving.describe(path)
        assert described["version"] == 1
        assert described["labels"][0] == "class 0"
        assert described["weights"].startswith("sha256:")
    later = serving.export(model, root, format="onnx", check=False)
    assert later == root / "onnx" / "2"
    assert serving.export(model, root, check=False) == root / "3"
    with pytest.raises(ExportError, match="2 exists; name a higher one"):
        serving.export(model, root, format="litert", version=2)


def test_a_file_by_itself_says_what_it_is(exported, tmp_path):
    _, paths = exported
    images = noise(2, (16, 16, 3))
    for name, file in FILES.items():
        alone = shutil.copytree(paths[name], tmp_path / name)
        for other in ("labels.txt", "model.json", "check.json"):
            (alone / other).unlink()
        served = serving.load(alone / file)
        assert served.class_names == tuple(f"class {i}" for i in range(10))
        again = serving.load(paths[name]).predict(images)
        np.testing.assert_array_equal(served.predict(images), again)


def test_other_tools_read_what_files_say(exported):
    _, paths = exported
    with zipfile.ZipFile(paths["litert"] / "model.tflite") as archive:
        assert set(archive.namelist()) == {"labels.txt", "model.json"}
        assert archive.read("labels.txt").decode().split("\n")[9] == "class 9"
    model = onnx.load(paths["onnx"] / "model.onnx")
    onnx.checker.check_model(model)
    said = {each.key: each.value for each in model.metadata_props}
    information = openvino.Core().read_model(paths["openvino"] / "model.xml")
    for text in (said, {k: information.get_rt_info(["model_info", k]).astype(str)
                        for k in said}):  # fmt: skip
        assert text["licence"] == "MIT"
        assert text["labels"].split("\n")[3] == "class 3"
        assert text["image_shape"] == "16x16x3"
        assert "uint8 pixels from 0 to 255" in text["input"]
    [images], [answers] = model.graph.input, model.graph.output
    assert (images.name, answers.name) == ("images", "probabilities")
    sides = [d.dim_param or d.dim_value for d in images.type.tensor_type.shape.dim]
    assert sides == ["batch", 16, 16, 3]


def test_batch_norms_are_folded_in_all(exported):
    _, paths = exported
    model = onnx.load(paths["onnx"] / "model.onnx")
    kinds = {node.op_type for node in model.graph.node}
    assert "Conv" in kinds
    assert "BatchNormalization" not in kinds


@pytest.mark.parametrize(
    ("name", "quantize"),
    [
        ("litert", "int8"),
        ("litert", "float16"),
        ("onnx", "int8"),
        ("openvino", "int8"),
        ("openvino", "float16"),
    ],
)
def test_quantized_models_are_smaller_and_near(exported, name, quantize, tmp_path):
    model, paths = exported
    images = noise(64, (16, 16, 3), seed=1)
    path = serving.export(
        model, tmp_path / "net", format=name, quantize=quantize, images=images,
        limit=20,
    )  # fmt: skip
    found = serving.load(path).predict(images)
    expected = answers_of(model, images)
    assert np.abs(found - expected).max() < (0.02 if quantize == "float16" else 0.1)
    assert not np.array_equal(found, serving.load(paths[name]).predict(images))
    weights = {"litert": "model.tflite", "onnx": "model.onnx", "openvino": "model.bin"}
    before, after = (
        (folder / weights[name]).stat().st_size for folder in (paths[name], path)
    )
    assert after < (0.4 if quantize == "int8" else 0.6) * before
    checked = json.loads((path / "check.json").read_text())
    assert set(checked["milliseconds"]) == {"1", "8"}
    if quantize == "int8":
        assert checked["calibration"]["images"] == checked["calibration_images"] == 64
        low, high = checked["calibration"]["interval_points"]
        assert low <= checked["calibration"]["difference_points"] <= high
        assert serving.describe(path)["quantize"] == "int8"


def test_stages_of_several_basic_units_are_quantized_for_onnx(tmp_path):
    """Where NNCF's slow correction of biases fails, its fast one serves."""
    spec = get_spec("resnet18").replace(stem_width=8, widths=(8, 8, 16, 16), name="net")
    model = build(spec, input_shape=(32, 32, 3), classes=3)
    generator = np.random.default_rng(1)
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            shapes = [weight.shape for weight in layer.weights]
            layer.set_weights([generator.uniform(0.5, 1.5, shape) for shape in shapes])
    images = noise(64, (32, 32, 3), seed=1)
    with pytest.warns(ExportWarning, match="onnx: NNCF can't correct .* fast correct"):
        path = serving.export(
            model, tmp_path / "net", class_names=["a", "b", "c"], format="onnx",
            quantize="int8", images=images, limit=20,
        )  # fmt: skip
    found = serving.load(path).predict(images)
    assert np.abs(found - answers_of(model, images)).max() < 0.1


def test_a_loss_is_measured_as_it_is():
    before = np.eye(4)[[0, 1, 2, 3, 0, 1, 2, 3]]
    after = np.eye(4)[[0, 1, 2, 3, 0, 1, 2, 0]]
    labels = np.array([0, 1, 2, 3, 0, 1, 1, 3])
    comparison = quantizing._Comparison(Head("softmax", 4, "classes"), np.ones(1))
    comparison.add(before, after, labels)
    found = comparison.result()
    assert (found["float32"], found["int8"]) == (7 / 8, 6 / 8)
    assert found["difference_points"] == pytest.approx(-12.5)
    assert found["agreement"] == 7 / 8
    low, high = found["interval_points"]  # Student's, of one -1 among eight
    assert (low, high) == pytest.approx((-12.5 - 29.56, -12.5 + 29.56), abs=0.01)
    quantizing.check_loss({"validation": found}, 13)
    with pytest.raises(ExportError, match=r"loses 12\.50 points .* validation"):
        quantizing.check_loss({"validation": found}, 12)


def test_what_can_not_be_written_is_refused_at_once(exported, tmp_path, monkeypatch):
    model, paths = exported
    for options, message in (
        ({"format": "caffe"}, "format: 'caffe' is not one of 'saved_model', 'litert'"),
        ({"quantize": "int8"}, "int8 is not of saved_model, but of litert and onnx"),
        ({"format": "onnx", "quantize": "float16"}, "float16 is not of onnx"),
        ({"format": "onnx", "quantize": "int4"}, "quantize: 'int4' is not one of"),
        ({"format": "onnx", "quantize": "int8"}, "give some"),
        (
            {"format": "onnx", "quantize": "int8", "images": noise(31, (16, 16, 3))},
            "31 are too few to calibrate by; give 32 or more",
        ),
        (
            {"format": "onnx", "quantize": "int8", "images": np.zeros((64, 16, 16, 3))},
            "calibrated by uint8",
        ),
    ):
        with pytest.raises(ExportError, match=message):
            serving.export(model, tmp_path / "net", **options)
    found = runtimes.importlib.util.find_spec
    monkeypatch.setattr(
        runtimes.importlib.util,
        "find_spec",
        lambda name: None if name in ("nncf", "openvino") else found(name),
    )
    for options in ({}, {"quantize": "int8", "images": noise(64, (16, 16, 3))}):
        missing = "openvino nncf" if options else "openvino"
        with pytest.raises(ExportError, match=f"pip install {missing}$"):
            serving.export(model, tmp_path / "net", format="openvino", **options)
    with pytest.raises(ExportError, match="pip install openvino"):
        serving.load(paths["openvino"])
    assert list(tmp_path.iterdir()) == []


def adapted():
    normalize = keras.layers.Normalization()
    normalize.adapt(noise(8, (8, 8, 3)).astype("float32"))
    return small(normalize)


def small(normalize=None, dtype="float32"):
    """A convolution with a batch norm, and a head of another type than all else."""
    image = keras.Input((8, 8, 3))
    x = (normalize or keras.layers.Rescaling(1 / 255))(image)
    x = keras.layers.Conv2D(4, 3, dtype=dtype)(x)
    x = keras.layers.BatchNormalization(dtype=dtype)(x)
    x = keras.layers.GlobalAveragePooling2D(dtype=dtype)(x)
    return keras.Model(image, keras.layers.Dense(3, "softmax")(x))


def nested():
    image = keras.Input((8, 8, 3))
    turned = keras.layers.RandomFlip()(image)
    return keras.Model(image, small(dtype="mixed_float16")(turned))


def named():
    image = keras.Input((8, 8, 3), name="picture")
    return keras.Model({"picture": image}, {"kinds": small()(image)})


def turned():
    """Channels first, behind a layer that puts them there."""
    image = keras.Input((8, 8, 3))
    x = keras.layers.Permute((3, 1, 2))(image)
    x = keras.layers.AveragePooling2D(2, data_format="channels_first")(x)
    return keras.Model(image, keras.layers.Dense(3)(keras.layers.Flatten()(x)))


def weightless():
    image = keras.Input((8, 8, 3))
    return keras.Model(image, keras.layers.Softmax()(
        keras.layers.GlobalAveragePooling2D()(image) / 100.0
    ))  # fmt: skip


# Each is served by its own means, or was refused once.
MODELS = {
    "adapted normalization": (adapted, 1e-4),
    "float16": (lambda: small(dtype="float16"), 0.02),
    "mixed bfloat16": (lambda: small(dtype="mixed_bfloat16"), 0.02),
    "nested, mixed, augmented": (nested, 0.02),
    "dictionaries": (named, 1e-4),
    "no weights": (weightless, 1e-4),
}


@pytest.mark.parametrize("name", MODELS)
def test_models_of_any_making_are_served_as_they_predict(name, tmp_path):
    make, allowed = MODELS[name]
    model = make()
    images = noise(5, (8, 8, 3))
    pixels = images.astype("float32")
    expected = model.predict(
        {"picture": pixels} if name == "dictionaries" else pixels, verbose=0
    )
    [expected] = keras.tree.flatten(expected)
    for format in FILES:
        path = serving.export(model, tmp_path / "net", format=format)
        found = serving.load(path).predict(images)
        np.testing.assert_allclose(found, expected, atol=allowed)


def test_a_model_whose_layers_can_not_be_copied_is_one_line(tmp_path):
    model = small()
    model.layers[-1].quantize("float8")
    with pytest.raises(UserError, match=r"dense.* can't be copied"):
        serving.export(model, tmp_path / "net")
    unbuilt = keras.Sequential([keras.layers.Flatten(), keras.layers.Dense(3)])
    with pytest.raises(UserError, match="has no known outputs"):
        serving.export(unbuilt, tmp_path / "net")


def test_images_have_their_channels_last(tmp_path):
    first = keras.Input((3, 8, 8))
    x = keras.layers.AveragePooling2D(2, data_format="channels_first")(first)
    model = keras.Model(first, keras.layers.Dense(3)(keras.layers.Flatten()(x)))
    with pytest.raises(UserError, match=r"channels first; put .*Permute"):
        serving.export(model, tmp_path / "net")
    serving.exporting.find(turned())


class Fourier(keras.layers.Layer):
    """Complex numbers, of which LiteRT has none."""

    def call(self, x):
        return keras.ops.fft2((x, 0 * x))[0]


def test_what_a_format_can_not_hold_is_one_line(tmp_path):
    image = keras.Input((8, 8, 1))
    x = keras.layers.Flatten()(Fourier()(image))
    model = keras.Model(image, keras.layers.Dense(3)(x))
    with pytest.raises(UserError, match="can't be written as litert") as raised:
        serving.export(model, tmp_path / "net", format="litert", check=False)
    assert len(str(raised.value).splitlines()) == 1
    with pytest.raises(UserError, match="none of saved_model, litert was written"):
        exporting.write(
            exporting.find(model),
            tmp_path / "models" / "net",
            ["saved_model", "litert"],
            exporting.Options(check=False),
        )
    assert not list(tmp_path.iterdir())


def test_tools_of_others_print_nothing(exported, tmp_path, capfd):
    model, _ = exported
    path = serving.export(model, tmp_path / "net", format="litert")
    serving.load(path)
    assert capfd.readouterr() == ("", "")


def test_an_export_that_differs_is_not_published(exported, tmp_path, monkeypatch):
    model, _ = exported

    def broken(model):
        folded = fold_batch_norm(model)
        folded.layers[-1].bias.assign(range(10))
        return folded

    monkeypatch.setattr(serving.exporting, "fold_batch_norm", broken)
    with pytest.raises(ExportError, match=r"check: the export differs by"):
        serving.export(model, tmp_path / "net", format="onnx")
    assert not list(tmp_path.rglob("*.onnx"))


def test_commands(workplace):
    """A run's export by command, quantized by its own images, and asked."""
    run = shutil.copytree(ROOT / "tests/golden/previous/finished", workplace / "run")
    sample = run / "samples" / "0-is-7.png"
    invoke = CliRunner().invoke
    done = invoke(
        main,
        ["export", "run", "--to", "net", "--format", "onnx,litert", "--quantize",
         "int8", "--limit", "5", "--licence", "CC0-1.0", "--json"],
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)["formats"]
    assert found["litert"]["path"] == "net/litert/1"
    for name in ("onnx", "litert"):
        check = found[name]["check"]
        assert (check["validation"]["images"], check["test"]["images"]) == (144, 360)
        assert check["calibration_images"] == 256
        assert serving.describe(f"net/{name}/1")["licence"] == "CC0-1.0"
        for model in (f"net/{name}/1", f"net/{name}/1/{FILES[name]}"):
            asked = invoke(main, ["predict", model, str(sample), "--json"])
            [row] = json.loads(asked.stdout)
            assert next(iter(row["classes"])) == "0"
            assert row["classes"]["0"] == pytest.approx(0.1625, abs=0.02)
    pixels = np.asarray(Image.open(sample))[np.newaxis, ..., np.newaxis]
    assert serving.load("net/onnx/1").predict(pixels).shape == (1, 10)
    for arguments, message in (
        (["export", "run", "--format", "onnx,caffe"], "format: 'caffe' is not one of"),
        (["export", "run", "--quantize", "int8"], "int8 is not of saved_model"),
        (["predict", "net/onnx", str(sample)], "holds versions; name one, such as net"),
        (["predict", "net/none.onnx", str(sample)], "is not a run folder"),
    ):
        refused = invoke(main, arguments)
        assert refused.exit_code == 2
        assert message in refused.output
        assert len(refused.output.splitlines()) == 1
    (workplace / "broken.onnx").write_bytes(b"no model")
    refused = invoke(main, ["predict", "broken.onnx", str(sample)])
    assert refused.exit_code == 2
    assert "model: can't load broken.onnx: " in refused.output
