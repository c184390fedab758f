from __future__ import annotations

import json
import re

import keras
import numpy as np
import pytest
import tensorflow as tf
from google.protobuf import text_format
from tensorflow_serving.apis import prediction_log_pb2
from tensorflow_serving.config import model_server_config_pb2

from keras_resnet import build, cifar_resnext, serving
from keras_resnet.errors import UserError
from keras_resnet.serving import ExportError, graph
from keras_resnet.surgery import fold_batch_norm


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """A grouped network with raw pixels in, as versions 1 and 2."""
    model = build(
        cifar_resnext(11, 4, 4, widths=(16, 32, 32), stem_width=8),
        pixel_stats=([120.0] * 3, [60.0] * 3),
    )
    path = tmp_path_factory.mktemp("export") / "net"
    return model, [serving.export(model, path, check=not i) for i in range(2)]


def test_versions_count_up_and_are_never_overwritten(exported):
    model, (first, second) = exported
    assert (first.name, second.name) == ("1", "2")
    there = sorted(path.name for path in first.parent.iterdir())
    assert there == [".lock", "1", "2", "server"]
    with pytest.raises(ExportError, match=r"version: .*2 exists; name a higher one"):
        serving.export(model, first.parent, version=2)


def test_signature(exported):
    model, (first, _) = exported
    signature = tf.saved_model.load(str(first)).signatures["serving_default"]
    [images] = signature.structured_input_signature[1].values()
    assert (images.name, images.dtype) == ("images", tf.uint8)
    assert images.shape.as_list() == [None, 32, 32, 3]
    outputs = signature.structured_outputs
    assert outputs["probabilities"].dtype == tf.float32
    assert outputs["classes"].dtype == tf.int64
    pixels = np.random.default_rng(0).integers(0, 256, (5, 32, 32, 3), dtype=np.uint8)
    logits = model.predict(pixels, verbose=0)
    served = serving.load(first)
    np.testing.assert_allclose(
        served.predict(pixels), tf.nn.softmax(logits), rtol=1e-4, atol=1e-6
    )
    assert served.class_names == tuple("0123456789")


def test_assets_tell_what_it_is(exported):
    model, (first, second) = exported
    described = serving.describe(first)
    assert described["spec"] == model.spec.to_dict()
    assert described["preprocessing"]["normalization"] == {
        "mean": [120.0] * 3,
        "std": [60.0] * 3,
    }
    assert set(described["signatures"]) == {
        "serving_default", "serving_float", "image_bytes", "features",
    }  # fmt: skip
    assert described["max_batch"] == 1024
    assert re.fullmatch(r"sha256:[0-9a-f]{64}", described["hash"])
    checked = json.loads((first / "assets.extra" / "check.json").read_text())
    assert {row["input"] for row in checked["signatures"]} == {"pixels", "png", "jpeg"}
    assert all(row["difference"] < 1e-3 for row in checked["signatures"])
    assert not (second / "assets.extra" / "check.json").exists()


def test_warm_up_requests_can_be_answered(exported):
    _, (first, _) = exported
    native = serving.NativeModel(first, serving.describe(first)["signatures"])
    file = first / "assets.extra" / "tf_serving_warmup_requests"
    seen = []
    for record in tf.data.TFRecordDataset(str(file)).as_numpy_iterator():
        log = prediction_log_pb2.PredictionLog.FromString(record)
        request = log.predict_log.request
        assert request.model_spec.name == "net"
        inputs = {key: tf.make_ndarray(value) for key, value in request.inputs.items()}
        signature = request.model_spec.signature_name
        [batch] = {len(value) for value in native.run(signature, inputs).values()}
        seen.append((signature, batch))
    native.close()
    assert len(seen) == len(set(seen)) == 8


def test_configuration_is_what_tf_serving_reads(exported):
    _, (first, _) = exported
    folder = first.parent / "server"
    config = model_server_config_pb2.ModelServerConfig()
    text_format.Parse((folder / "models.config").read_text(), config)
    [model] = config.model_config_list.config
    assert (model.name, model.base_path) == ("net", "/models/net")
    line = serving.docker_line(first.parent)
    assert f"{first.parent}:/models/net:ro" in line
    assert "--model_config_file=/models/net/server/models.config" in line


def test_an_export_that_differs_is_not_published(tiny_spec, tmp_path, monkeypatch):
    def broken(model):
        folded = fold_batch_norm(model)
        folded.layers[-1].bias.assign(range(10))
        return folded

    monkeypatch.setattr(serving.exporting, "fold_batch_norm", broken)
    with pytest.raises(UserError, match=r"check: .* differ by .* not published"):
        serving.export(build(tiny_spec), tmp_path / "net")
    assert not (tmp_path / "net").exists()


def test_what_xla_must_compile_is_refused(tmp_path):
    image = keras.Input((8, 8, 4))
    x = keras.layers.Conv2D(4, 3, groups=2)(image)
    x = keras.layers.GlobalAveragePooling2D()(x)
    model = keras.Model(image, keras.layers.Dense(3)(x))
    with pytest.raises(UserError, match="must be compiled by XLA"):
        serving.export(model, tmp_path / "net", fold=False, check=False)
    assert not (tmp_path / "net").exists()


def test_no_function_must_be_compiled(exported):
    _, (first, _) = exported
    assert b"XlaMustCompile" not in (first / "saved_model.pb").read_bytes()


@pytest.mark.parametrize("limit", [0, graph.FROZEN_LIMIT])
def test_weights_as_variables_where_constants_would_be_too_large(
    exported, tmp_path, monkeypatch, limit
):
    model, _ = exported
    monkeypatch.setattr(graph, "FROZEN_LIMIT", limit)
    # The check loads variables by the C++ loader.
    path = serving.export(model, tmp_path / "net", fold=False, check=not limit)
    loaded = tf.saved_model.load(str(path))
    variables = loaded.signatures["serving_default"].variables
    assert len(variables) == (0 if limit else len(model.weights))
    assert b"XlaMustCompile" not in (path / "saved_model.pb").read_bytes()
    pixels = np.random.default_rng(0).integers(0, 256, (5, 32, 32, 3), dtype=np.uint8)
    np.testing.assert_allclose(
        serving.load(path).predict(pixels),
        tf.nn.softmax(model.predict(pixels, verbose=0)),
        rtol=1e-4,
        atol=1e-6,
    )


def test_probabilities_stay_probabilities(tiny_spec, tmp_path):
    model = build(tiny_spec, classifier_activation="softmax")
    path = serving.export(model, tmp_path / "net", class_names=list("abcdefghij"))
    served = serving.load(path)
    pixels = np.full((1, 8, 8, 1), 7, np.uint8)
    expected = model.predict(pixels, verbose=0)
    np.testing.assert_allclose(served.predict(pixels), expected, rtol=1e-4)
    assert served.class_names == tuple("abcdefghij")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"version": 0}, "version: 0 is not a positive integer"),
        ({"version": "1"}, "version: '1' is not a positive integer"),
        ({"class_names": ["a"]}, "class_names: 1 names for 10 classes"),
        (
            {"class_names": ["a\nb", *"cdefghijk"]},
            r"class_names: class 'a\\nb' has line",
        ),
        ({"class_names": ["a", *"abcdefghi"]}, "classes 0 and 1 have one name, 'a'"),
        ({"class_names": [1, 2]}, "class_names: 1 is not a string"),
        ({"class_names": {"a": 1}}, r"class_names: {'a': 1} is not a list of names"),
        ({"class_names": "abcdefghij"}, "class_names: 'abcdefghij' is not a list"),
    ],
)
def test_wrong_arguments_write_nothing(tiny_spec, tmp_path, arguments, message):
    with pytest.raises(ExportError, match=message):
        serving.export(build(tiny_spec), tmp_path / "net", **arguments)
    assert list(tmp_path.iterdir()) == []


def test_what_is_no_classifier_is_refused(tiny_spec, tmp_path):
    for changes, message in (
        ({"classifier_activation": "tanh"}, "neither logits nor a softmax"),
        ({"include_top": False}, "is no classifier"),
        ({"classes": 1}, "one number, a logit or a value; say task="),
    ):
        with pytest.raises(UserError, match=message):
            serving.export(build(tiny_spec, **changes), tmp_path / "net")
    assert list(tmp_path.iterdir()) == []


def test_unwritable_and_unreadable_places(tiny_spec, tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(ExportError, match=r"path: can't write to .*Not a directory"):
        serving.export(build(tiny_spec), tmp_path / "file" / "net")
    with pytest.raises(ExportError, match="model: can't load"):
        serving.load(tmp_path)
