from __future__ import annotations

import io
import re
import time

import keras
import numpy as np
import pytest
from conftest import python
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from keras_resnet import build, files
from keras_resnet.training import RecipeError, get_recipe, progress
from keras_resnet.training.plateau import count_plateaus
from keras_resnet.training.progress import ProgressBar

RANDOM = np.random.default_rng(0)
IMAGES = RANDOM.integers(0, 256, (44, 8, 8, 1)).astype("uint8")
CLASSES = IMAGES[:, 0, 0, 0] // 26
TINY = get_recipe("digits").replace(
    epochs=3, batch_size=8, warmup_epochs=0, schedule="constant", l2=0.0
)
STEPS = 6  # the last one with four images


def fit(spec, recipe, folder=None, callbacks=(), **options):
    """A model and the history of its training, images in order."""
    keras.utils.set_random_seed(0)
    model = build(spec, pixel_stats=((128.0,), (74.0,)))
    model.compile(**recipe.compile_args(model, STEPS))
    options = {
        "validation_data": (IMAGES, CLASSES),
        "epochs": recipe.epochs,
        "batch_size": 8,
        "shuffle": False,
        "verbose": 0,
    } | options
    callbacks = [*callbacks, *recipe.callbacks(folder)]
    history = model.fit(IMAGES, CLASSES, callbacks=callbacks, **options)
    return model, history.history


class Watch(keras.callbacks.Callback):
    """The weights after each execution."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def on_train_begin(self, logs=None):
        self.seen.append(self.model.get_weights())

    def on_train_batch_end(self, batch, logs=None):
        self.seen.append(self.model.get_weights())


@pytest.mark.parametrize("together", [1, 4])
def test_averages_are_what_they_say(tiny_spec, together):
    watch = Watch()
    recipe = TINY.replace(ema=0.8, epochs=2, steps_per_execution=together)
    model, history = fit(tiny_spec, recipe, callbacks=[watch])
    # Executions of 4 and 2 steps, or of one.
    lengths = {1: [1] * 12, 4: [4, 2, 4, 2]}[together]
    assert len(watch.seen) == 1 + len(lengths)
    averages, step = watch.seen[0], 0
    for length, weights in zip(lengths, watch.seen[1:], strict=True):
        step += length
        kept = min(0.8, (1 + step) / (10 + step)) ** length
        averages = [
            kept * average + (1 - kept) * weight
            for average, weight in zip(averages, weights, strict=True)
        ]
    # Batch norms' statistics too; they are what training leaves.
    for average, weight in zip(averages, model.get_weights(), strict=True):
        np.testing.assert_allclose(weight, average, rtol=1e-4, atol=1e-5)
    # And what was validated.
    loss, accuracy = model.evaluate(IMAGES, CLASSES, batch_size=8, verbose=0)
    assert history["val_loss"][-1] == pytest.approx(loss, rel=1e-5)
    assert history["val_accuracy"][-1] == pytest.approx(accuracy)


def test_training_ends_early(tiny_spec, tmp_path):
    """Some epochs after the best one, and no epoch later if it is resumed then."""
    recipe = TINY.replace(epochs=12, early_stopping=2, learning_rate=2.0)
    _, history = fit(tiny_spec, recipe, tmp_path / "run")
    losses = history["val_loss"]
    assert len(losses) < 12
    assert len(losses) == int(np.argmin(losses)) + 3
    _, again = fit(tiny_spec, recipe, tmp_path / "run")
    assert "loss" not in again
    with pytest.raises(RecipeError, match="early_stopping waits for the validation"):
        fit(tiny_spec, recipe, validation_data=None)


def test_averages_do_not_touch_the_training(tiny_spec):
    _, plain = fit(tiny_spec, TINY)
    _, averaged = fit(tiny_spec, TINY.replace(ema=0.9))
    assert averaged["loss"] == plain["loss"]
    assert averaged["val_loss"] != plain["val_loss"]


@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize("validated", [True, False])
def test_keras_own_callbacks_meet_the_averages(tiny_spec, tmp_path, first, validated):
    """Before the recipe's callbacks or after them, with validation or without."""
    own = [
        keras.callbacks.ModelCheckpoint(str(tmp_path / "{epoch}.keras")),
        keras.callbacks.EarlyStopping(
            "val_loss" if validated else "loss", patience=1, restore_best_weights=True
        ),
    ]
    recipe = TINY.replace(ema=0.8, learning_rate=1.0)
    keras.utils.set_random_seed(0)
    model = build(tiny_spec, pixel_stats=((128.0,), (74.0,)))
    model.compile(**recipe.compile_args(model, STEPS))
    ours = recipe.callbacks()
    history = model.fit(
        IMAGES,
        CLASSES,
        batch_size=8,
        shuffle=False,
        verbose=0,
        epochs=6,
        callbacks=[*own, *ours] if first else [*ours, *own],
        validation_data=(IMAGES, CLASSES) if validated else None,
    ).history

    def loss(of):
        return of.evaluate(IMAGES, CLASSES, batch_size=8, verbose=0)[0]

    saved = [
        keras.models.load_model(tmp_path / f"{epoch}.keras")
        for epoch in range(1, 1 + len(history["loss"]))
    ]
    if validated:
        assert list(map(loss, saved)) == pytest.approx(history["val_loss"], rel=1e-4)
    best = saved[int(np.argmin(history["val_loss" if validated else "loss"]))]
    for weight, other in zip(model.get_weights(), best.get_weights(), strict=True):
        np.testing.assert_array_equal(weight, other)


@pytest.mark.parametrize("on_epoch", [True, False])
def test_keras_own_averages_do_not_mix_with_ours(tiny_spec, on_epoch):
    """Both are swapped in and out; what is trained stays what it was."""
    losses = []
    for ema in (0.0, 0.8):
        recipe = TINY.replace(ema=ema)
        keras.utils.set_random_seed(0)
        model = build(tiny_spec, pixel_stats=((128.0,), (74.0,)))
        arguments = recipe.compile_args(model, STEPS)
        arguments["optimizer"] = keras.optimizers.SGD(0.1, use_ema=True)
        model.compile(**arguments)
        swap = keras.callbacks.SwapEMAWeights(swap_on_epoch=on_epoch)
        history = model.fit(
            IMAGES,
            CLASSES,
            batch_size=8,
            epochs=3,
            shuffle=False,
            verbose=0,
            validation_data=(IMAGES, CLASSES),
            callbacks=[swap, *recipe.callbacks()],
        ).history
        losses.append(history["loss"])
    assert losses[0] == losses[1]


def test_a_backup_of_keras_own_goes_on_from_the_averages(tiny_spec, tmp_path):
    """It has one set of weights, and restores it after the averages are made."""
    recipe = TINY.replace(ema=0.8)
    backup = keras.callbacks.BackupAndRestore(tmp_path, delete_checkpoint=False)
    stopped, _ = fit(tiny_spec, recipe, callbacks=[backup], epochs=1)
    left = stopped.get_weights()
    keras.utils.set_random_seed(1)
    again = build(tiny_spec)
    again.compile(**recipe.compile_args(again, STEPS))
    averages, *_ = recipe.callbacks()
    again.fit(
        IMAGES,
        CLASSES,
        batch_size=8,
        steps_per_epoch=1,
        epochs=2,
        shuffle=False,
        verbose=0,
        callbacks=[averages, backup],
    )
    assert averages.step == STEPS + 1
    kept = min(0.8, (2 + STEPS) / (11 + STEPS))
    for mine, old, new in zip(
        again.get_weights(), left, [a.numpy() for a in averages.averages], strict=True
    ):
        np.testing.assert_allclose(mine, kept * old + (1 - kept) * new, atol=1e-5)


@pytest.mark.slow
def test_a_resumed_run_has_the_same_averages(tiny_spec, tmp_path):
    recipe = TINY.replace(ema=0.9)
    whole, history = fit(tiny_spec, recipe, tmp_path / "whole")
    fit(tiny_spec, recipe, tmp_path / "parts", epochs=1)
    again, rest = fit(tiny_spec, recipe, tmp_path / "parts")
    assert rest["loss"] == history["loss"][1:]
    assert rest["val_loss"] == history["val_loss"][1:]
    for one, other in zip(whole.get_weights(), again.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
    best = keras.models.load_model(tmp_path / "parts" / "best.keras")
    loss, _ = best.evaluate(IMAGES, CLASSES, batch_size=8, verbose=0)
    assert loss == pytest.approx(min(history["val_loss"]), rel=1e-5)


@pytest.mark.slow
def test_averages_of_two_replicas(tmp_path):
    code = f"""
import tensorflow as tf
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(
    cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
import keras, numpy as np
from keras_resnet import build, cifar_resnet
from keras_resnet.training import get_recipe
recipe = get_recipe("digits").replace(
    epochs=2, warmup_epochs=0, schedule="constant", ema=0.9)
images = np.random.default_rng(0).integers(0, 256, (40, 8, 8, 1)).astype("uint8")
classes = images[:, 0, 0, 0] // 26
keras.utils.set_random_seed(0)
with tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"]).scope():
    model = build(
        cifar_resnet(8, input_shape=(8, 8, 1), stem_width=4, widths=(4, 8, 8)))
    model.compile(**recipe.compile_args(model, 5))
history = model.fit(images, classes, batch_size=8, epochs=2, shuffle=False, verbose=0,
    validation_data=(images, classes), callbacks=recipe.callbacks({str(tmp_path)!r}))
print(history.history["val_loss"][-1], *model.evaluate(images, classes, verbose=0))
"""
    validated, loss, _ = map(float, python(code).splitlines()[-1].split())
    assert validated == pytest.approx(loss, rel=1e-4)


@given(st.lists(st.integers(0, 9), max_size=30), st.integers(1, 5))
def test_plateaus_are_keras_own(errors, patience):
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    model.compile(optimizer=keras.optimizers.SGD(1.0), loss="mse")
    own = keras.callbacks.ReduceLROnPlateau(
        monitor="error", mode="min", factor=0.5, patience=patience, min_delta=0
    )
    own.set_model(model)
    own.on_train_begin()
    for epoch, error in enumerate(errors):
        own.on_epoch_end(epoch, {"error": error})
    drops = count_plateaus(errors, patience)
    assert float(model.optimizer.learning_rate) == 0.5**drops


@pytest.mark.slow
def test_a_plateau_is_found_again_after_a_kill(tiny_spec, tmp_path):
    recipe = TINY.replace(schedule="plateau", patience=1, drop=0.5, epochs=6)
    recipe = recipe.replace(learning_rate=1e-9)  # nothing is learnt at it
    fit(tiny_spec, recipe, tmp_path / "whole")
    rows = files.read_lines(tmp_path / "whole" / "history.jsonl")
    rates = [row["learning_rate"] for row in rows]
    errors = [1 - row["val_accuracy"] for row in rows]
    expected = [1e-9 * 0.5 ** count_plateaus(errors[:i], 1) for i in range(6)]
    assert rates == pytest.approx(expected, abs=1e-15)
    assert 1e-9 > rates[3] > rates[-1]
    fit(tiny_spec, recipe, tmp_path / "parts", epochs=3)
    fit(tiny_spec, recipe, tmp_path / "parts")
    rows = files.read_lines(tmp_path / "parts" / "history.jsonl")
    assert [row["learning_rate"] for row in rows] == rates


def test_a_plateau_needs_validation(tiny_spec):
    recipe = TINY.replace(schedule="plateau")
    with pytest.raises(RecipeError, match="'plateau' waits for the validation"):
        fit(tiny_spec, recipe, validation_data=None)


def shown(spec, **options):
    """What a progress bar writes."""
    file = io.StringIO()
    console = Console(file=file, width=120, **options)
    bar = ProgressBar(console, "tiny", TINY.epochs, batch_size=8)
    slow = keras.callbacks.LambdaCallback(
        on_train_batch_end=lambda batch, logs: time.sleep(0.02)
    )
    try:
        fit(spec, TINY, callbacks=[slow, bar])
    finally:
        bar.stop()
    return file.getvalue()


def test_progress_without_a_terminal_is_a_line_an_epoch(tiny_spec):
    lines = shown(tiny_spec, force_terminal=False).splitlines()
    assert len(lines) == 3
    for epoch, line in enumerate(lines, 1):
        found = re.fullmatch(
            r"epoch (\d)/3  loss [\d.]+  accuracy [\d.]+  val_accuracy [\d.]+  "
            r"(\d+) images/s(  \d+ seconds? left)?",
            line,
        )
        assert found, line
        assert int(found[1]) == epoch
        assert 0 < int(found[2]) < 400  # 8 images in more than 0.02 s
        assert bool(found[3]) == (epoch < 3)


def test_the_first_steps_tell_how_long_all_take(tiny_spec, monkeypatch):
    monkeypatch.setattr(progress, "MEASURED", 0.0)
    first, *rest = shown(tiny_spec, force_terminal=False).splitlines()
    pattern = r"time      about \d+ seconds? left, by 1 step of this machine"
    assert re.fullmatch(pattern, first)
    assert len(rest) == 3, "once"


def test_progress_on_a_terminal_moves_within_an_epoch(tiny_spec):
    text = re.sub(r"\x1b\[[\d;?]*\w", "", shown(tiny_spec, force_terminal=True))
    assert "epoch 2/3" in text
    assert re.search(r"\d+ images/s", text)
    assert "val_accuracy" in text
    assert re.search(r"00:0\d left", text)
