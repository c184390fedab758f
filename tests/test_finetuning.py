from __future__ import annotations

import json
import re
import shutil
import zipfile

import keras
import numpy as np
import pytest
import tensorflow as tf
from click.testing import CliRunner
from conftest import ROOT

from keras_resnet import (
    build,
    cifar_resnet,
    data,
    features,
    files,
    surgery,
    training,
)
from keras_resnet.cli import main
from keras_resnet.data import DataWarning
from keras_resnet.errors import RunFolderError, UserError
from keras_resnet.optimizers import SGD
from keras_resnet.run import Run
from keras_resnet.training import checkpoints, finetuning, get_recipe
from keras_resnet.training.devices import replicas
from keras_resnet.training.finetuning import freeze, transplant
from keras_resnet.training.leaks import LEAKED

STAGES = ["conv1", "conv2", "conv3", "conv4"]
TINY = get_recipe("digits").replace(
    name="tiny",
    model=cifar_resnet(8, name="tiny", stem_width=4, widths=(4, 8, 8)),
    epochs=2,
    warmup_epochs=0,
)
FINE = get_recipe("finetune").over(2).replace(augment=TINY.augment, freeze="conv2")


def trained(spec, **options):
    """A network with statistics and gammas as if it had been trained."""
    model = build(spec, **options)
    random = np.random.default_rng(0)
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.set_weights([random.uniform(0.5, 2, w.shape) for w in layer.weights])
    return model


def images(count=16, size=8, channels=1):
    random = np.random.default_rng(0)
    return random.integers(0, 256, (count, size, size, channels)).astype("uint8")


def fit(model, epochs=2):
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(SGD(0.1, momentum=0.9, l2=1e-3), loss)
    x = images()
    model.fit(x, np.arange(len(x)) % 10, batch_size=8, epochs=epochs, verbose=0)


def moved(before, model):
    """Layers of which a weight has changed."""
    return {
        layer.name
        for layer in model.layers
        for old, new in zip(before[layer.name], layer.get_weights(), strict=True)
        if (old != new).any()
    }


def weights_of(model):
    return {layer.name: layer.get_weights() for layer in model.layers}


def stage(name):
    return "head" if name == "predictions" else name.split("_")[0]


def part(model, last):
    """The outputs of a stage."""
    inside = [layer for layer in model.layers if stage(layer.name) == last]
    return keras.Model(model.inputs, inside[-1].output)


def plain(spec):
    return trained(spec)


def recomputing(spec):
    return trained(spec, recompute=True)


def synchronized(spec):
    model = trained(spec)
    replicas.synchronize_batch_norm(model)
    return model


def stock(spec):
    return surgery.to_stock(trained(spec))


@pytest.mark.parametrize("make", [plain, recomputing, synchronized, stock])
def test_frozen_stages_stay_bit_for_bit(tiny_spec, make):
    model = make(tiny_spec)
    freeze(model, "conv3", batch_norm="follow")
    before, x = weights_of(model), images()
    outputs = part(model, "conv3").predict(x, verbose=0)
    fit(model)
    names = moved(before, model)
    assert {stage(name) for name in names} == {"conv4", "head"}
    assert any(name.endswith("_bn") for name in names)
    np.testing.assert_array_equal(part(model, "conv3").predict(x, verbose=0), outputs)


def test_frozen_batch_norms_infer_when_called_in_training(tiny_spec):
    """The classic trap: `training=True` reaches them all the same."""
    model = trained(tiny_spec)
    freeze(model, None, batch_norm="frozen")
    before, x = weights_of(model), images()
    np.testing.assert_allclose(
        model(x, training=True), model(x, training=False), rtol=1e-5, atol=1e-5
    )
    fit(model)
    names = moved(before, model)
    assert not [name for name in names if name.endswith("_bn")]
    assert {stage(name) for name in names} == {*STAGES, "head"}


def test_batch_norms_may_train_in_frozen_stages(tiny_spec):
    model = trained(tiny_spec)
    freeze(model, "all", batch_norm="train")
    before = weights_of(model)
    fit(model)
    names = moved(before, model)
    assert {name for name in names if not name.endswith("_bn")} == {"predictions"}
    assert {stage(name) for name in names} == {*STAGES, "head"}


def test_a_linear_probe_trains_the_head_alone(tiny_spec):
    for order in ("post", "pre"):
        model = trained(tiny_spec.replace(order=order))
        freeze(model, "all")
        assert model.trainable_variables == model.layers[-1].trainable_variables
        last = trained(tiny_spec.replace(order=order))
        freeze(last, "conv4")
        assert len(last.trainable_variables) == 2


def test_freeze_again_thaws(tiny_spec):
    model = build(tiny_spec)
    count = len(model.trainable_variables)
    freeze(model, "conv3")
    freeze(model, "conv1", batch_norm="follow")
    kernel, gamma, beta = 1, 1, 1
    assert len(model.trainable_variables) == count - kernel - gamma - beta
    freeze(model, None, batch_norm="follow")
    assert len(model.trainable_variables) == count


def test_stages_are_found_in_nested_models_and_keras_own():
    x = keras.Input((32, 32, 3))
    own = keras.applications.ResNet50(
        weights=None, include_top=False, pooling="avg", input_shape=(32, 32, 3)
    )
    model = keras.Model(x, keras.layers.Dense(3)(own(x)))
    freeze(model, "conv4")
    names = {variable.path.split("/")[-2] for variable in model.trainable_variables}
    assert {stage(name) for name in names} == {"conv5", "dense"}


@pytest.mark.parametrize(
    ("until", "batch_norm", "message"),
    [
        (
            "conv5",
            "frozen",
            "freeze: 'conv5' is not a stage of tiny; it has conv1, con",
        ),
        ("stem", "frozen", "freeze: 'stem' is not .* conv4, and 'all' is all"),
        (3, "frozen", "freeze: 3 is not a stage"),
        ("conv2", "off", "batch_norm: 'off' is not one of 'follow', 'frozen', 'train'"),
    ],
)
def test_wrong_stages_are_named(tiny_spec, until, batch_norm, message):
    with pytest.raises(UserError, match=message):
        freeze(build(tiny_spec), until, batch_norm)


def test_something_must_be_left_to_train(tiny_spec):
    model = build(tiny_spec, include_top=False, pooling="avg")
    with pytest.raises(UserError, match="freeze: nothing of tiny is left to tr"):
        freeze(model, "all")
    assert model.trainable_variables
    other = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)], name="other")
    with pytest.raises(UserError, match="stage_decay: other has no stages"):
        finetuning.rate_factors(other, 0.5)
    with pytest.raises(UserError, match=r"is not a stage of other; it has none$"):
        freeze(other, "conv1")


@pytest.mark.parametrize("order", ["post", "pre"])
def test_rates_fall_from_the_head_down(tiny_spec, order):
    """A step of plain descent moves each weight by its own rate."""
    model = build(tiny_spec.replace(order=order))
    recipe = TINY.replace(
        momentum=0.0, nesterov=False, l2=0.0, schedule="constant",
        learning_rate=0.1, stage_decay=0.5,
    )  # fmt: skip
    optimizer = recipe.compile_args(model, 5)["optimizer"]
    variables = model.trainable_variables
    before = [variable.numpy() for variable in variables]
    optimizer.apply([tf.ones(v.shape) for v in variables], variables)
    rates = {"head": 1, "post": 0.5, "conv4": 0.5, "conv3": 0.25, "conv2": 0.125}
    for old, variable in zip(before, variables, strict=True):
        rate = 0.1 * rates.get(stage(variable.path.split("/")[0]), 0.0625)
        np.testing.assert_allclose(variable, old - rate, rtol=1e-5, atol=1e-6)


def test_rates_by_stage_under_a_strategy(tiny_spec):
    devices = tf.config.list_logical_devices("CPU")
    strategy = tf.distribute.MirroredStrategy(devices[:1])
    recipe = TINY.replace(stage_decay=0.1)
    results = []
    for scope in (strategy.scope(), tf.distribute.get_strategy().scope()):
        with scope:
            keras.utils.set_random_seed(0)
            model = build(tiny_spec)
            model.compile(**recipe.compile_args(model, 2))
        model.fit(images(8), np.arange(8), epochs=2, verbose=0, shuffle=False)
        results.append(model.get_weights())
    for a, b in zip(*results, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4)


def test_all_but_the_head_is_transplanted(tiny_spec):
    old, new = trained(tiny_spec), build(tiny_spec, classes=3, recompute=True)
    head = new.layers[-1].get_weights()
    transplant(old, new)
    x = images()
    maps = [
        keras.Model(m.inputs, m.layers[-2].output).predict(x, verbose=0)
        for m in (old, new)
    ]
    np.testing.assert_array_equal(*maps)
    for a, b in zip(head, new.layers[-1].get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(("before", "after"), [(1, 3), (3, 1)])
def test_other_channels_give_the_same_for_gray_images(tiny_spec, before, after):
    stats = {n: ((100.0,) * n, (50.0,) * n) for n in (1, 3)}
    old, new = (
        trained(tiny_spec, input_shape=(8, 8, n), pixel_stats=stats[n])
        for n in (before, after)
    )
    transplant(old, new)
    x = images()
    maps = [
        part(m, "conv4").predict(np.repeat(x, n, axis=-1), verbose=0)
        for m, n in ((old, before), (new, after))
    ]
    np.testing.assert_allclose(*maps, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"depths": (2, 1, 1)},
            "tiny doesn't fit tiny: 4 missing: conv2_block2_1_conv, ",
        ),
        ({"widths": (4, 8, 16)}, "of another shape: conv4_block1_1_conv/kernel"),
        ({"input_shape": (8, 8, 2)}, None),
        ({"order": "pre"}, r"missing: .*preact_bn, .* too much: conv"),
    ],
)
def test_another_network_is_refused_whole(tiny_spec, changes, message):
    old, new = trained(tiny_spec), build(tiny_spec, **changes)
    if message is None:
        transplant(old, new)  # gray to two channels
        return
    before = new.get_weights()
    with pytest.raises(UserError, match=message) as error:
        transplant(old, new)
    assert "\n" not in str(error.value)
    for a, b in zip(before, new.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_weights_of_a_file_and_of_a_published_name(tiny_spec, tmp_path):
    old = trained(tiny_spec, classes=7)
    old.save_weights(tmp_path / "old.weights.h5")
    source = finetuning.read_source(tmp_path / "old.weights.h5", tiny_spec)
    assert source.size == (8, 8)
    assert source.pixel_stats(1) is None
    new = build(tiny_spec, classes=3)
    transplant(source.model, new)
    for layer in old.layers[:-1]:
        for a, b in zip(
            layer.get_weights(), new.get_layer(layer.name).get_weights(), strict=True
        ):
            np.testing.assert_array_equal(a, b)
    name = "torchvision/resnet50.IMAGENET1K_V2"
    assert training.follow(FINE, name).model.name == "resnet50_v1_5"
    assert training.follow(FINE, tmp_path / "old.weights.h5") is FINE


def halves(tmp_path):
    """Digits up to 4, and the others, as files."""
    from sklearn.datasets import load_digits

    bunch = load_digits()
    pixels = (bunch.images * 15).astype("uint8")
    files = []
    for name, chosen in (("low", bunch.target < 5), ("high", bunch.target >= 5)):
        labels = bunch.target[chosen] % 5
        np.savez(tmp_path / f"{name}.npz", images=pixels[chosen], labels=labels)
        files.append(str(tmp_path / f"{name}.npz"))
    return files


@pytest.fixture(scope="module")
def old_run(tmp_path_factory):
    """A run on half of the classes, and a file of the other half."""
    place = tmp_path_factory.mktemp("old")
    low, high = halves(place)
    run = training.train(TINY, data=low, folder=place / "run")
    return run.folder, high


@pytest.mark.slow
def test_a_run_from_a_run(old_run, tmp_path):
    source, high = old_run
    recipe = training.follow(FINE, source)
    assert recipe.model.name == "tiny"
    run = training.train(recipe, data=high, weights=source, folder=tmp_path / "run")
    described = json.loads((run.folder / "data.json").read_text())
    old = json.loads((source / "data.json").read_text())
    stats = (each["pixel_stats"] for each in (described, old))
    np.testing.assert_allclose(*stats, rtol=1e-6)
    file, digest = described["weights"].split(" sha256:")
    assert file == str(source / "best.keras")
    assert len(digest) == 64
    assert old["weights"] is None
    before, after = (
        keras.models.load_model(folder / "best.keras")
        for folder in (source, run.folder)
    )
    names = moved(weights_of(before), after)
    assert {stage(name) for name in names} == {"conv3", "conv4", "head"}


class Killed:
    """A tracker that ends the run after so many epochs."""

    def __init__(self, epochs):
        self.epochs = epochs

    def start(self, *arguments):
        pass

    def log_metrics(self, metrics, step):
        if "loss" in metrics and step == self.epochs:
            raise KeyboardInterrupt

    set_tags = log_data = log_files = finish = start


def stem_in(folder, value=None):
    """The stem's kernel in a run's checkpoint, or sets it."""
    found = checkpoints.read_last(folder)
    [place] = [i for i, a in enumerate(found.arrays) if a.shape == (3, 3, 1, 4)]
    kernel = found.arrays[place].copy()
    if value is not None:
        found.arrays[place][...] = value
        checkpoints.write(folder, found)
    return kernel


@pytest.mark.slow
def test_a_continued_run_starts_from_its_checkpoint(old_run, tmp_path):
    """A frozen kernel that was changed there stays so."""
    source, high = old_run
    recipe = training.follow(FINE, source)
    folder, kernels = tmp_path / "run", []
    for epochs in (1, 2):
        with pytest.raises(KeyboardInterrupt):
            training.train(
                recipe,
                data=high,
                weights=source,
                folder=folder,
                tracker=Killed(epochs),
            )
        kernels.append(stem_in(folder))
        stem_in(folder, 0.5)
    assert len(files.read_lines(folder / "history.jsonl")) == 2
    assert (kernels[0] != 0.5).any()
    assert (kernels[1] == 0.5).all()
    shutil.copy(source / "best.keras", tmp_path / "other.keras")
    with zipfile.ZipFile(tmp_path / "other.keras", "a") as archive:
        archive.comment = b"another file"
    other = tmp_path / "other.keras"
    with pytest.raises(RunFolderError, match=r"unfinished run with weights '.* sha256"):
        training.train(recipe, data=high, weights=other, folder=folder)


def invoke(*arguments):
    return CliRunner().invoke(main, ["train", "--no-track", *map(str, arguments)])


@pytest.mark.slow
def test_the_command(old_run, workplace):
    source, high = old_run
    arguments = ("--recipe", "finetune", "--data", high, "--epochs", 2)
    weights = ("--weights", source, "--freeze", "conv4")
    done = invoke(*arguments, *weights, "--folder", "run")
    assert done.exit_code == 0, done.output
    recipe = training.Recipe.from_json((workplace / "run/recipe.json").read_text())
    assert (recipe.freeze, recipe.model.name) == ("conv4", "tiny")
    assert recipe.model.classes == 5
    file = source / "best.keras"
    for wrong, message in (
        (
            ("--freeze", "conv2"),
            "freeze: conv2 would stay as drawn at random; give the",
        ),
        ((*weights[:2], "--freeze", "conv9"), "freeze: 'conv9' is not a stage of tiny"),
        ((*weights[:2], "--freeze", "stem"), "recipe: freeze: 'stem' is not a stage"),
        (
            ("--weights", "nothing"),
            "weights: nothing is no file, run folder or published",
        ),
        (("--weights", "."), "run: . is not a run folder"),
        (
            ("--weights", file, "--model", "cifar_resnet20"),
            "weights: tiny doesn't fit cifar_resnet20",
        ),
    ):
        failed = invoke(*arguments, *wrong, "--folder", "other")
        assert failed.exit_code == 2, failed.output
        assert message in failed.output
        assert not (workplace / "other").exists()


@pytest.mark.slow
def test_a_head_on_features_leaves_a_frozen_backbone(tiny_spec):
    backbone = features(trained(tiny_spec))
    last = [*backbone.output.values()][-1]
    model = keras.Model(backbone.inputs, keras.layers.Conv2D(1, 1)(last))
    freeze(model, "all")
    before = weights_of(backbone)
    model.compile("sgd", "mse")
    model.fit(images(), np.zeros((16, 2, 2, 1)), verbose=0)
    assert not moved(before, backbone)


def test_the_page_has_the_measured_table():
    page = (ROOT / "docs" / "finetuning.md").read_text()
    results = ROOT / "benchmarks" / "results" / "finetuning.json"
    for record in json.loads(results.read_text())["records"]:
        texts = [value for key, value in record.items() if key.startswith("text_")]
        assert f"| {record['peer']} | {' | '.join(texts)} |" in page


@pytest.mark.parametrize("listed", [True, False])
def test_images_that_the_weights_were_trained_on_are_no_test(tmp_path, listed):
    """Through a chain of runs; one without a list is asked for its data."""
    steps = {"data": "digits", "steps": 2, "export": False}
    recipe = FINE.replace(model=TINY.model)
    first = Run(training.train(TINY, folder=tmp_path / "first", **steps).folder)
    if not listed:
        (first.folder / "trained_on.npy").unlink()
    kept = Run(
        training.train(
            recipe, weights=first.folder, folder=tmp_path / "kept", seed=1, **steps
        ).folder
    )
    assert kept.data["arguments"]["split_seed"] == 0
    assert kept.data["fingerprint"] == first.data["fingerprint"]
    assert kept.data["duplicates"] == {}
    with pytest.warns(DataWarning, match="of the 360 test images") as caught:
        again = Run(
            training.train(
                recipe,
                weights=kept.folder,
                folder=tmp_path / "again",
                split_seed=7,
                **steps,
            ).folder
        )
    [count] = re.findall(r"weights: (\d+) of", str(caught[0].message))
    old, new = (data.load("digits", seed=seed).digests for seed in (0, 7))
    common = {*old["train"].tolist()} & {*new["test"].tolist()}
    assert int(count) == len(common) > 200
    report = json.loads((again.folder / "report.json").read_text())
    assert report["test_images_trained_on"] == int(count)
    assert again.result["test_images_trained_on"] == int(count)
    assert again.data["duplicates"] == {LEAKED: int(count)}


def test_a_recipe_for_weights_is_refused_without(tmp_path):
    recipe = get_recipe("finetune")
    with pytest.raises(UserError, match="weights: finetune starts from old ones"):
        training.train(recipe, data="digits", folder=tmp_path / "run")
    assert not (tmp_path / "run").exists()
    assert not recipe.smoke().needs_weights
