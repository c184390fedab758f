from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from images import write_folder
from PIL import Image

from keras_resnet import (
    build,
    cifar_resnet,
    data,
    estimate_cost,
    files,
    serving,
    training,
)
from keras_resnet.errors import ExportError, RunFolderError, UserError
from keras_resnet.prediction import predict_files
from keras_resnet.run import LOCK, Run, RunWarning
from keras_resnet.tracking import MLflowTracker, tracker
from keras_resnet.training import get_recipe, loop

TINY = get_recipe("digits").replace(
    name="tiny",
    model=cifar_resnet(8, name="tiny", stem_width=4, widths=(4, 8, 8)),
    epochs=2,
    warmup_epochs=0,
)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A whole run, tracked by MLflow in its own database."""
    place = tmp_path_factory.mktemp("run")
    here = Path.cwd()
    os.chdir(place)
    try:
        yield training.train(
            TINY, folder=place / "one", tracker=MLflowTracker(register="digits@best")
        )
    finally:
        os.chdir(here)


@pytest.mark.slow
def test_what_a_run_leaves(run):
    assert {path.name for path in run.folder.iterdir()} == {
        "recipe.json",
        "data.json",
        "environment.json",
        "history.jsonl",
        "checkpoint",
        "best.keras",
        "curves.png",
        "confusion.png",
        "mistakes.png",
        "calibration.png",
        "report.json",
        "report.html",
        "augmented.png",
        "trained_on.npy",
        "samples",
        "export",
        "tracking",
        "result.json",
        ".lock",
    }
    recipe = training.Recipe.from_json((run.folder / "recipe.json").read_text())
    assert recipe.model.input_shape == (8, 8, 1)
    environment = json.loads((run.folder / "environment.json").read_text())
    assert environment["seed"] == 0
    assert environment["versions"]["keras"] == keras.__version__
    assert environment["onednn"] in (True, False)
    history = files.read_lines(run.folder / "history.jsonl")
    assert [row["epoch"] for row in history] == [1, 2]
    assert set(history[0]) == {
        "epoch", "seconds", "loss", "accuracy", "val_loss", "val_accuracy",
        "learning_rate",
    }  # fmt: skip
    result = json.loads((run.folder / "result.json").read_text())
    assert result["test_accuracy"] == run.metrics["accuracy"]
    for picture in ("curves.png", "confusion.png"):
        with Image.open(run.folder / picture) as image:
            assert min(image.size) > 400
    assert len(list((run.folder / "samples").glob("*.png"))) == 10


@pytest.mark.slow
def test_export_predicts_as_the_model(run):
    served = tf.saved_model.load(str(run.export)).signatures["serving_default"]
    pixels = np.random.default_rng(0).integers(0, 256, (7, 8, 8, 1), dtype=np.uint8)
    out = served(images=tf.constant(pixels))
    model = keras.models.load_model(run.folder / "best.keras")
    expected = keras.ops.softmax(model.predict(pixels, verbose=0))
    np.testing.assert_allclose(out["probabilities"], expected, rtol=1e-4, atol=1e-6)
    np.testing.assert_array_equal(out["classes"], np.argmax(expected, axis=-1))
    labels = (run.export / "assets" / "labels.txt").read_text().split()
    assert labels == list("0123456789")


@pytest.mark.slow
def test_evaluate_agrees_with_the_run(run):
    metrics = training.evaluate(run.folder)
    assert metrics["images"] == 360
    assert metrics["accuracy"] == run.metrics["accuracy"]
    assert metrics["loss"] == pytest.approx(run.metrics["loss"], rel=1e-5)
    # The same by Keras' own.
    model = keras.models.load_model(run.folder / "best.keras")
    test = data.load("digits").test
    model.compile(**TINY.compile_args(model, 1))
    loss, accuracy = model.evaluate(test, verbose=0)
    assert metrics["loss"] == pytest.approx(loss, rel=1e-4)
    assert metrics["accuracy"] == pytest.approx(accuracy)


@pytest.mark.slow
def test_a_run_is_not_judged_on_changed_data(run, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(run.folder, folder)
    described = json.loads((folder / "data.json").read_text())
    described["fingerprint"] = "0" * 32
    (folder / "data.json").write_text(json.dumps(described))
    with pytest.raises(RunFolderError, match="run: digits has changed since"):
        training.evaluate(folder)


@pytest.mark.slow
def test_mlflow_has_it_all(run):
    import mlflow

    assert not mlflow.is_tracking_uri_set()  # the caller's setting is left alone
    client = mlflow.MlflowClient(f"sqlite:///{run.folder.parent}/mlflow.db")
    logged = client.get_run(run.run_id)
    assert logged.info.status == "FINISHED"
    assert logged.data.params["epochs"] == "2"
    cost = estimate_cost(TINY.model.replace(input_shape=(8, 8, 1)))
    assert logged.data.params["params"] == str(cost.params)
    assert logged.data.params["seed"] == "0"
    assert logged.data.metrics["test_accuracy"] == run.metrics["accuracy"]
    losses = client.get_metric_history(run.run_id, "loss")
    assert [point.step for point in losses] == [1, 2]
    files = {file.path for file in client.list_artifacts(run.run_id)}
    assert {
        "recipe.json", "spec.json", "data.json", "environment.json", "history.jsonl",
        "curves.png", "report.json", "confusion.png", "mistakes.png",
        "calibration.png", "best.keras", "export", "report.html", "augmented.png",
    } == files  # fmt: skip
    assert logged.data.tags["network"] == "tiny"
    assert "one class of several (0, 1, 2," in logged.data.tags["mlflow.note.content"]
    data = logged.inputs.dataset_inputs[0].dataset
    assert data.name == "digits"
    assert json.loads(data.profile)["counts"]["test"] == 360


@pytest.mark.slow
def test_the_logged_model_loads_without_this_package(run):
    place = run.folder.parent
    code = f"""
import sys
sys.modules["keras_resnet"] = None  # importing it fails
import mlflow, numpy as np
mlflow.set_tracking_uri("sqlite:///{place}/mlflow.db")
loaded = mlflow.keras.load_model("models:/digits@best")
x = np.load({str(place / "x.npy")!r})
np.save({str(place / "y.npy")!r}, loaded.predict(x, verbose=0))
"""
    x = np.random.default_rng(0).uniform(0, 255, (3, 8, 8, 1)).astype("float32")
    np.save(place / "x.npy", x)
    subprocess.run([sys.executable, "-c", code], check=True, cwd=place, timeout=120)
    model = keras.models.load_model(run.folder / "best.keras")
    np.testing.assert_allclose(
        np.load(place / "y.npy"), model.predict(x, verbose=0), rtol=1e-5, atol=1e-5
    )


@pytest.mark.slow
def test_a_finished_run_is_not_run_again(run):
    with pytest.raises(RunFolderError, match="holds a finished run"):
        training.train(TINY, folder=run.folder)


@pytest.mark.slow
def test_a_seed_fixes_the_result(run, tmp_path):
    again = training.train(TINY, folder=tmp_path / "again")
    keys = ("loss", "accuracy", "val_loss", "val_accuracy")
    for first, second in zip(run.history, again.history, strict=True):
        assert [first[key] for key in keys] == [second[key] for key in keys]
    other = training.train(TINY, folder=tmp_path / "other", seed=1)
    assert other.history[0]["loss"] != run.history[0]["loss"]


@pytest.mark.slow
def test_an_unfinished_run_is_continued_on_its_own_data_only(workplace):
    def interrupt(*_):
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "draw_curves", interrupt)
        with pytest.raises(KeyboardInterrupt):
            training.train(TINY, folder="mine")
    with pytest.raises(RunFolderError, match=r"another recipe \(another epochs\)"):
        training.train(TINY.replace(epochs=3), folder="mine")
    with pytest.raises(RunFolderError, match="unfinished run with seed 0, not 1"):
        training.train(TINY, folder="mine", seed=1)
    with (
        Run("mine").lock(),
        pytest.raises(RunFolderError, match=r"trains in mine \(process \d+\)"),
    ):
        training.train(TINY, folder="mine")
    result = training.train(TINY, folder="mine")
    assert [row["epoch"] for row in result.history] == [1, 2]
    written = {path.name for path in Path("mine/export").iterdir()}
    assert written - {LOCK} == {"1", "server"}


class Interrupting:
    """A tracker that ends a run as Ctrl-C does, after its first epoch."""

    def log_metrics(self, metrics, step):
        if "loss" in metrics:
            raise KeyboardInterrupt

    def start(self, *arguments):
        pass

    set_tags = log_data = log_files = finish = start


def test_an_unfinished_run_is_not_taken_for_a_finished_one(workplace):
    with pytest.raises(KeyboardInterrupt):
        training.train(TINY, folder="mine", steps=3, tracker=Interrupting())
    message = "mine is unfinished, at epoch 1 of 2"
    with pytest.warns(RunWarning, match=message):
        training.evaluate("mine")
    image = Path("digit.png")
    Image.fromarray(np.zeros((8, 8), "uint8")).save(image)
    with pytest.warns(RunWarning, match=message):
        predict_files("mine", [image])
    with pytest.raises(ExportError, match=message):
        serving.export("mine")
    path = serving.export("mine", unfinished=True)
    assert serving.describe(path)["run"]["unfinished"] == "epoch 1 of 2"


@pytest.mark.slow
def test_divergence_ends_a_run(workplace):
    recipe = TINY.replace(learning_rate=1e30)
    with pytest.raises(
        ValueError, match=r"diverged in epoch 1, step \d+: .* lower learning_rate"
    ):
        training.train(recipe, folder="wild")
    assert not Path("wild/result.json").exists()
    assert not Path("wild/best.keras").exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("file", "content"),
    [("best.keras", "junk"), ("data.json", "{}"), ("data.json", "[")],
)
def test_damaged_runs_are_named(run, tmp_path, file, content):
    folder = shutil.copytree(run.folder, tmp_path / "copy")
    (folder / file).write_text(content)
    with pytest.raises(RunFolderError, match=file) as error:
        training.evaluate(folder)
    assert "\n" not in str(error.value)


@pytest.mark.slow
def test_two_replicas(tmp_path):
    """The same path under a strategy, in a process with two devices."""
    code = """
import tensorflow as tf
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(
    cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
import sys
from keras_resnet import training
recipe = training.get_recipe("digits").over(1)
strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
result = training.train(
    recipe, folder=sys.argv[1], strategy=strategy, sync_batch_norm=True)
print(result.metrics["images"])
"""
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "run")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.strip() == "360", done.stderr[-2000:]


@pytest.mark.slow
def test_a_folder_of_images_with_a_broken_one(workplace):
    write_folder(workplace / "pets", {"cat": 12, "the dog": 12})
    (workplace / "pets" / "cat" / "note.jpg").write_text("no image")
    recipe = TINY.replace(image_size=16, epochs=1)
    with pytest.warns(data.DataWarning, match="1 unreadable image left out: .*note"):
        result = training.train(recipe, data="folder:pets", folder="run")
    described = files.read_json(result.folder / "data.json")
    assert described["class_names"] == ["cat", "the dog"]
    assert described["image_shape"] == [16, 16, 3]
    assert sum(described["counts"].values()) == 24
    assert len(described["unreadable"]) == 1
    samples = sorted((result.folder / "samples").iterdir())
    assert {path.stem.split("-", 1)[1] for path in samples} == {"is-cat", "is-the-dog"}
    with pytest.warns(data.DataWarning):
        again = training.evaluate(result.folder)
    assert again == pytest.approx(result.metrics)
    # A file is predicted as it is in evaluation.
    [(_, ranking)] = predict_files(result.folder, [workplace / "pets/cat/000.png"])
    served = predict_files(result.export, [workplace / "pets/cat/000.png"])
    assert dict(ranking) == pytest.approx(dict(served[0][1]), rel=1e-4)


@pytest.mark.slow
def test_trained_at_one_size_and_tested_at_another(workplace):
    """Wightman 2021's A3, small: mixed labels, LAMB, binary loss."""
    write_folder(workplace / "pets", {"cat": 20, "dog": 20}, size=(60, 50))
    recipe = get_recipe("wightman2021_a3").smoke().replace(image_size=32, test_size=48)
    result = training.train(
        recipe.replace(batch_size=8), data="folder:pets", folder="run", steps=2
    )
    assert [len(result.history), result.metrics["images"]] == [2, 8]
    served = serving.load(result.export)
    assert served.image_shape == (48, 48, 3)
    assert training.evaluate("run")["accuracy"] == result.metrics["accuracy"]


@pytest.mark.slow
def test_mixed_precision_is_of_the_run(workplace):
    result = training.train(TINY.over(1), folder="run", precision="mixed_bfloat16")
    environment = files.read_json(Path("run/environment.json"))
    assert environment["precision"] == "mixed_bfloat16"
    assert keras.config.dtype_policy().name == "float32"
    model = keras.models.load_model("run/best.keras")
    assert model.get_layer("conv2_block1_1_conv").compute_dtype == "bfloat16"
    assert model.output.dtype == "float32"
    assert np.isfinite(result.metrics["loss"])
    with pytest.raises(training.RecipeError, match="'half' is not one of 'float32'"):
        training.train(TINY, folder="other", precision="half")


@pytest.mark.slow
def test_a_dead_tracking_server_does_not_end_a_run(workplace, monkeypatch, capsys):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")  # nobody listens
    monkeypatch.setattr(tracker, "FAILING", 1)
    result = training.train(TINY.over(1), folder="lonely", tracker=MLflowTracker())
    assert (result.folder / "result.json").exists()
    assert result.run_id is None
    message = capsys.readouterr().err
    assert message.count("MLflow at http://127.0.0.1:9 doesn't answer") == 1
    assert "keras-resnet sync lonely" in message


def test_plain_keras_in_five_lines():
    """As in the README, shorter."""
    recipe = TINY
    splits = data.load("digits", batch_size=recipe.batch_size, augment=recipe.augment)
    model = build(
        recipe.model, input_shape=splits.image_shape, pixel_stats=splits.pixel_stats
    )
    model.compile(**recipe.compile_args(model, splits.steps))
    history = model.fit(
        splits.train,
        validation_data=splits.val,
        epochs=2,
        shuffle=False,
        verbose=0,
    )
    assert history.history["loss"][1] < history.history["loss"][0]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: path.write_text("x"), "is a file; name a new folder"),
        (
            lambda path: (path.mkdir(), (path / "mine.txt").write_text("x")),
            "exists and is not a run; name a new or empty folder",
        ),
    ],
)
def test_other_peoples_folders_are_left_alone(tmp_path, make, message):
    path = tmp_path / "precious"
    make(path)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(RunFolderError, match=message):
        training.train(TINY, folder=path)
    assert sorted(tmp_path.rglob("*")) == before


def test_too_small_images_write_nothing(workplace):
    recipe = TINY.replace(model=cifar_resnet(8, stem="imagenet"))
    with pytest.raises(ValueError, match="too small for a total stride of 16"):
        training.train(recipe, folder="new")
    assert list(workplace.iterdir()) == []


def test_files_are_whole_or_absent(tmp_path):
    path = tmp_path / "file.txt"

    def fail_half_way():
        with files.replacing(path) as temporary:
            temporary.write_text("half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail_half_way()
    assert list(tmp_path.iterdir()) == []
    files.write_text(path, "whole")
    assert [p.name for p in tmp_path.iterdir()] == ["file.txt"]


class Doubled(keras.layers.Layer):
    """A user's layer, which no file of a model brings back by itself."""

    def __init__(self, factor, **options):  # without a `get_config` that has it
        super().__init__(**options)
        self.factor = factor

    def call(self, inputs):
        return self.factor * inputs


class Own(keras.Model):
    def call(self, inputs):
        return keras.ops.mean(inputs, axis=(1, 2))


def test_a_model_that_could_not_be_kept_is_refused_before_training(workplace):
    image = keras.Input((8, 8, 1))
    made = keras.Model(
        image,
        Doubled(2.0)(build(TINY.model, input_shape=(8, 8, 1))(image)),
        name="mine",
    )
    for model, message in (
        (made, "mine could be saved but not loaded; register its classes"),
        (Own(name="own"), "'own' is not a functional or sequential model"),
    ):
        with pytest.raises(UserError, match=message):
            training.train(TINY, model=model, folder="run")
    assert not list(workplace.iterdir())


@pytest.mark.slow
def test_a_nested_model_is_trained_logged_and_exported(workplace):
    image = keras.Input((8, 8, 1))
    model = keras.Model(
        image, build(TINY.model, input_shape=(8, 8, 1))(image), name="outer"
    )
    mine = MLflowTracker("nested")
    result = training.train(TINY, model=model, folder="run", tracker=mine, steps=2)
    assert result.export is not None
    assert result.run_id
