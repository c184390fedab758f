"""Runs that are stopped, killed, or meet a damaged file; and end as if they had not."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import keras
import kills
import numpy as np
import pytest
import tensorflow as tf
from images import labels, noise, write_folder

from keras_resnet import build, cifar_resnet, data, files, training
from keras_resnet.data import Augment
from keras_resnet.errors import RunFolderError
from keras_resnet.run import HISTORY, RESULT, Run
from keras_resnet.training import checkpoints, get_recipe, stopping
from keras_resnet.training.checkpoints import RunWarning
from keras_resnet.training.resume import TrainingError

TINY = get_recipe("digits").replace(
    name="tiny",
    model=cifar_resnet(
        8,
        name="tiny",
        input_shape=(8, 8, 3),
        classes=3,
        stem_width=4,
        widths=(4, 8, 8),
        dropout=0.2,
        survival=0.6,
    ),
    epochs=3,
    batch_size=8,
    warmup_epochs=1,
    augment=Augment(pad=1, flip=True, mixup=0.2),
    label_smoothing=0.1,
)
STEPS = 5  # of 40 images


def splits(source=None, recipe=TINY, **options):
    source = source or {
        "train": (noise(40), labels(40)),
        "val": (noise(13, seed=1), labels(13)),
        "test": (noise(9, seed=2), labels(9)),
    }
    return data.load(
        source,
        batch_size=8,
        augment=recipe.augment,
        sampling=recipe.sampling,
        image_size=8,
        **options,
    )


class StopAt(keras.callbacks.Callback):
    """As a kill after so many steps, once the checkpoint of that step is there."""

    def __init__(self, step):
        super().__init__()
        self.left = step

    def on_train_batch_end(self, batch, logs=None):
        self.left -= 1
        if not self.left:
            raise ZeroDivisionError


def fit(folder, recipe=TINY, found=None, stop=0, **options):
    keras.utils.set_random_seed(0)
    found = found or splits(recipe=recipe)
    model = build(recipe.model, pixel_stats=found.pixel_stats)
    options = {"checkpoint_minutes": 0} | options
    extra = [StopAt(stop)] if stop else []
    try:
        training.fit(model, recipe, found, folder=folder, callbacks=extra, **options)
    except ZeroDivisionError:
        assert stop
    return model


CASES = {
    "arrays": {},
    "classes weighed": {"recipe": TINY.replace(class_weight="balanced")},
    "classes drawn alike": {"recipe": TINY.replace(sampling="balanced")},
    "averages, plateaus": {
        "recipe": TINY.replace(
            ema=0.9, warmup_epochs=0, schedule="plateau", patience=1, drop=0.5
        )
    },
    "steps together": {"recipe": TINY.replace(steps_per_execution=2), "stops": (2, 1)},
    "first batches": {"take": 3, "stops": (2, 3)},
}


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_it_ends_as_if_it_had_not_been_stopped(tmp_path, case):
    options = dict(CASES[case])
    stops, take = options.pop("stops", (2, 6)), options.pop("take", None)
    recipe = options.get("recipe", TINY)

    def found():
        whole = splits(recipe=recipe)
        return whole.take(take) if take else whole

    fit(tmp_path / "whole", found=found(), **options)
    for stop in stops:
        fit(tmp_path / "parts", found=found(), stop=stop, **options)
    fit(tmp_path / "parts", found=found(), **options)
    assert kills.differences(tmp_path / "whole", tmp_path / "parts") == []


class Slow(keras.callbacks.Callback):
    """Steps that take a while, and the clock around them."""

    def on_train_batch_begin(self, batch, logs=None):
        self.first = getattr(self, "first", None) or time.perf_counter()
        time.sleep(0.3)

    def on_train_batch_end(self, batch, logs=None):
        self.last = time.perf_counter()


class Log:
    """A tracker that keeps what is logged of each epoch."""

    def __init__(self):
        self.epochs = {}

    def log_metrics(self, metrics, step):
        self.epochs[step] = self.epochs.get(step, {}) | metrics


def test_a_resumed_epoch_logs_the_speed_of_its_own_steps(tmp_path):
    """Of 4 + 1 steps of 8 images, all equally slow."""
    recipe = TINY.replace(epochs=1, warmup_epochs=0)
    found = splits(recipe=recipe)
    clock, log = Slow(), Log()
    fit(tmp_path, recipe, found, stop=4)
    model = build(recipe.model, pixel_stats=found.pixel_stats)
    started = time.perf_counter()
    training.fit(model, recipe, found, folder=tmp_path, tracker=log, callbacks=[clock])
    ended = time.perf_counter()
    speed = log.epochs[1]["images_per_second"]
    assert 8 / (ended - started) < speed < 8 / 0.3
    (kept,) = files.read_lines(tmp_path / HISTORY)
    assert log.epochs[1]["seconds"] == kept["seconds"]
    assert kept["seconds"] > clock.last - clock.first


class Killed(Log):
    """A kill between an epoch's checkpoint and its log."""

    def log_metrics(self, metrics, step):
        if "loss" in metrics:
            raise ZeroDivisionError
        super().log_metrics(metrics, step)


def test_a_kill_before_an_epoch_is_logged_loses_nothing_of_it(tmp_path):
    logs, recipe = [Killed(), Log()], TINY.replace(epochs=1, warmup_epochs=0)
    found = splits(recipe=recipe)
    for log in logs:
        fit(tmp_path, recipe, found, tracker=log, stop=10)
    names = [name for log in logs for name in log.epochs[1]]
    assert names.count("images_per_second") == names.count("loss") == 1


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    """A folder of images and a stream of TFDS."""
    import tensorflow_datasets as tfds

    place = tmp_path_factory.mktemp("sources")
    write_folder(place / "pets", {"a": 14, "b": 13, "c": 13})
    tfds.dataset_builders.store_as_tfds_dataset(
        name="tiny",
        version="1.0.0",
        features=tfds.features.FeaturesDict(
            {
                "image": tfds.features.Image(shape=(8, 8, 3), encoding_format="png"),
                "label": tfds.features.ClassLabel(names=["a", "b", "c"]),
            }
        ),
        split_datasets={
            "train": tf.data.Dataset.from_tensor_slices(
                {"image": noise(40), "label": labels(40)}
            )
        },
        data_dir=str(place / "tfds"),
    )
    return {
        "arrays": {},
        "folder": {"source": f"folder:{place / 'pets'}", "memory": 0},
        "stream": {"source": "tfds:tiny", "data_dir": place / "tfds", "memory": 100},
    }


@pytest.mark.parametrize("source", ["arrays", "folder", "stream"])
def test_an_epoch_can_be_entered_at_any_step(sources, source):
    options = {"recipe": TINY, **sources[source]}
    whole, parts = splits(**options), splits(**options)
    counted = [list(whole.train.as_numpy_iterator()) for _ in range(2)]
    parts.start(1)
    for _ in range(2):  # as often as it is asked for
        again = list(parts.train.as_numpy_iterator())
        for (x, y), (u, v) in zip(counted[1], again, strict=True):
            np.testing.assert_array_equal(x, u)
            np.testing.assert_array_equal(y, v)
    assert not np.array_equal(counted[0][0][0], counted[1][0][0])
    parts.start(1, 2)
    rest = list(parts.train.as_numpy_iterator())
    assert len(rest) == len(counted[1]) == parts.steps
    assert [len(x) for x, _ in rest[:2]] == [1, 1]
    for (x, y), (u, v) in zip(counted[1][2:], rest[2:], strict=True):
        np.testing.assert_array_equal(x, u)
        np.testing.assert_array_equal(y, v)


@pytest.fixture(scope="module")
def stopped(tmp_path_factory):
    """A run that was stopped in its second epoch."""
    folder = tmp_path_factory.mktemp("stopped") / "run"
    fit(folder, stop=STEPS + 3)
    return folder


def last(folder):
    return sorted((folder / "checkpoint").iterdir())[-1]


@pytest.mark.slow
@pytest.mark.parametrize("damage", ["cut", "changed", "emptied"])
def test_a_damaged_checkpoint_gives_way_to_the_one_before(stopped, tmp_path, damage):
    folder = Path(shutil.copytree(stopped, tmp_path / "run"))
    assert [path.name for path in sorted((folder / "checkpoint").iterdir())] == [
        "000001-00000002.npz",
        "000001-00000003.npz",
    ]
    content = bytearray(last(folder).read_bytes())
    middle = len(content) // 2
    if damage == "changed":
        content[middle] ^= 1
    last(folder).write_bytes(
        {"cut": content[:middle], "changed": content, "emptied": b""}[damage]
    )
    with pytest.warns(RunWarning, match="00000003.npz is damaged"):
        found = checkpoints.read_last(folder)
    assert (found.epoch, found.step) == (1, 2)
    last(folder).write_bytes(b"x")
    with (
        pytest.warns(RunWarning, match="00000002.npz is damaged"),
        pytest.raises(RunFolderError, match=r"no checkpoint of .* can be read"),
    ):
        checkpoints.read_last(folder)


@pytest.mark.slow
def test_other_versions_and_models_are_refused(stopped, tmp_path, monkeypatch):
    folder = Path(shutil.copytree(stopped, tmp_path / "run"))
    monkeypatch.setattr(checkpoints, "FORMAT", 3)
    with pytest.raises(RunFolderError, match=r"has format 2, .* this one reads 3"):
        checkpoints.read_last(folder)
    monkeypatch.undo()
    found = splits()
    model = build(TINY.model.replace(widths=(4, 8, 12)), pixel_stats=found.pixel_stats)
    with pytest.raises(RunFolderError, match="state of another model: shape"):
        training.fit(model, TINY, found, folder=folder)
    # Without the splits, an epoch can't be entered.
    model = build(TINY.model, pixel_stats=found.pixel_stats)
    model.compile(**TINY.compile_args(model, STEPS))
    with pytest.raises(RunFolderError, match="stopped within epoch 2; give"):
        model.fit(
            found.train, shuffle=False, callbacks=TINY.callbacks(folder), verbose=0
        )
    (folder / "checkpoint" / "epoch-1.weights.h5").touch()
    with pytest.raises(RunFolderError, match="unfinished run of an older version"):
        checkpoints.read_last(folder)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_step_and_writes_a_checkpoint(tmp_path, number):
    class Ask(keras.callbacks.Callback):
        def on_train_batch_begin(self, batch, logs=None):
            if batch == 1:
                signal.raise_signal(number)

    found = splits()
    model = build(TINY.model, pixel_stats=found.pixel_stats)
    before = signal.getsignal(number)
    with pytest.raises(KeyboardInterrupt) as stop:
        training.fit(model, TINY, found, folder=tmp_path, callbacks=[Ask()])
    assert stop.value.code == 128 + number
    assert last(tmp_path).name == "000000-00000002.npz"
    assert signal.getsignal(number) is before
    assert stopping.requested() is None


@pytest.mark.slow
def test_what_diverges_keeps_its_last_good_checkpoint(tmp_path):
    class Spoil(keras.callbacks.Callback):
        def on_train_batch_begin(self, batch, logs=None):
            if batch == 3:
                weight = self.model.trainable_weights[0]
                weight.assign(weight * np.nan)

    found = splits()
    model = build(TINY.model, pixel_stats=found.pixel_stats)
    with pytest.raises(
        TrainingError, match=r"epoch 1, step 4: its (loss|weights) .*; try a lower"
    ):
        training.fit(
            model,
            TINY,
            found,
            folder=tmp_path,
            callbacks=[Spoil()],
            checkpoint_minutes=0,
        )
    assert last(tmp_path).name == "000000-00000003.npz"


def test_a_folder_that_is_removed_is_not_made_again(tmp_path):
    folder = tmp_path / "run"

    class Remove(keras.callbacks.Callback):
        def on_train_batch_begin(self, batch, logs=None):
            if batch == 2:
                shutil.rmtree(folder)

    found = splits()
    model = build(TINY.model, pixel_stats=found.pixel_stats)
    with pytest.raises(RunFolderError, match="was removed while it was trained in"):
        training.fit(model, TINY, found, folder=folder, callbacks=[Remove()])
    assert not folder.exists()


def test_a_full_disk_is_said_and_nothing_is_lost(tmp_path):
    """A limit on the size of files fails as a full disk does."""
    code = """
import resource, sys
from pathlib import Path
import numpy as np
from keras_resnet.training.checkpoints import Checkpoint, read_last, write
folder = Path(sys.argv[1])
write(folder, Checkpoint(1, 0, 0.0, 0.0, [], [np.zeros(9)]))
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
try:
    write(folder, Checkpoint(2, 0, 0.0, 0.0, [], [np.zeros(99_999)]))
except ValueError as error:
    print(error)
print(read_last(folder).epoch, [p.name for p in folder.rglob("*.npz")])
"""
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)],
        capture_output=True,
        text=True,
        check=True,
    )
    message, rest = done.stdout.splitlines()
    assert message.startswith(f"folder: can't write {tmp_path}/checkpoint/000002")
    assert message.endswith("File too large; what was written before is kept")
    assert rest == "1 ['000001-00000000.npz']"


def test_the_next_fit_of_a_model_that_went_on_begins_anew(tmp_path):
    """Keras keeps the epoch that the last one began with."""
    fit(tmp_path / "first")
    model = build(TINY.model)
    went_on = training.fit(model, TINY, splits(), folder=tmp_path / "first")
    assert went_on.epoch == []
    anew = training.fit(model, TINY, splits(), folder=tmp_path / "second")
    assert anew.epoch == [0, 1, 2]


def test_a_run_moves_with_its_data(tmp_path):
    """To another machine, where paths are others."""
    write_folder(tmp_path / "here" / "pets", {"a": 9, "b": 9, "c": 9}, (8, 8))
    recipe = TINY.replace(epochs=1, warmup_epochs=0, image_size=8)

    def train(place, **options):
        source = f"folder:{tmp_path / place / 'pets'}"
        return training.train(
            recipe, data=source, folder=tmp_path / place / "run", **options
        )

    train("here", export=False)
    (tmp_path / "here" / "run" / RESULT).unlink()
    (tmp_path / "here").rename(tmp_path / "there")
    result = train("there", export=False)
    (tmp_path / "there" / "pets").rename(tmp_path / "pets")
    moved = training.evaluate(result.folder, source=f"folder:{tmp_path / 'pets'}")
    assert moved == result.metrics
    write_folder(tmp_path / "pets", {"a": 10, "b": 9, "c": 9}, (8, 8), seed=5)
    with pytest.raises(RunFolderError, match="has changed since"):
        training.evaluate(result.folder, source=f"folder:{tmp_path / 'pets'}")


# Real processes.


@pytest.mark.slow
def test_a_killed_run_ends_as_the_whole_one(tmp_path):
    """Within an epoch, while a file is written, and again."""
    source = write_folder(tmp_path / "pets", {"a": 20, "b": 20, "c": 20}, (9, 8))
    assert len(source) == 60
    recipe = tmp_path / "recipe.json"
    recipe.write_text(TINY.replace(epochs=4, image_size=8).to_json())
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    where = f"folder:{tmp_path / 'pets'}"
    subprocess.run(
        kills.train_command(recipe, where, whole), check=True, capture_output=True
    )
    command = kills.train_command(recipe, where, parts)
    moments = [kills.written(parts), kills.mid_write(parts)]
    places = kills.survive(command, moments, parts)
    assert len(places) == 2
    assert places[0] < places[1]
    assert kills.differences(whole, parts) == []


MEMORY = """
import sys
from pathlib import Path
from keras_resnet import training
recipe, source, folder, memory = sys.argv[1:]
# Where it was killed, it goes on with as much as there is.
killed = Path(folder, "checkpoint").exists()
training.train(
    training.Recipe.from_json(Path(recipe).read_text()), data=source, folder=folder,
    memory=2**30 if killed else int(memory), checkpoint_minutes=0, export=False,
)
"""


@pytest.mark.slow
def test_damaged_files_and_free_memory_change_nothing(tmp_path):
    """Streamed, killed and resumed in memory, it ends as in memory from the start."""
    write_folder(tmp_path / "pets", {"a": 20, "b": 20, "c": 20}, (9, 8), form="jpg")
    for i, photo in enumerate(sorted(tmp_path.glob("pets/*/*[05].jpg"))):
        content = photo.read_bytes()
        photo.write_bytes((content[: len(content) // 2], b"", b"no photo")[i % 3])
    recipe = tmp_path / "recipe.json"
    recipe.write_text(TINY.replace(epochs=2, image_size=8).to_json())
    source = f"folder:{tmp_path / 'pets'}"

    def command(folder, memory):
        arguments = map(str, (recipe, source, folder, memory))
        return [sys.executable, "-c", MEMORY, *arguments]

    whole, parts = tmp_path / "whole", tmp_path / "parts"
    subprocess.run(command(whole, 2**30), check=True, capture_output=True)
    places = kills.survive(command(parts, 0), [kills.written(parts)], parts)
    assert len(places) == 1
    assert kills.differences(whole, parts) == []
    described = json.loads((parts / "data.json").read_text())
    assert len(described["unreadable"]) == 12
    assert sum(described["counts"].values()) == 48


@pytest.mark.slow
def test_sigterm_ends_the_command_by_a_line(tmp_path):
    recipe = tmp_path / "recipe.json"
    recipe.write_text(get_recipe("digits").replace(epochs=300).to_json())
    folder = tmp_path / "run"
    command = kills.train_command(recipe, "digits", folder)
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    started = kills.written(folder)
    while not started():
        assert process.poll() is None
        time.sleep(0.05)
    # Another process is kept out meanwhile.
    with (
        pytest.raises(RunFolderError, match="another process trains in"),
        Run(folder).lock(),
    ):
        pass
    process.send_signal(signal.SIGTERM)
    out, _ = process.communicate(timeout=120)
    assert process.returncode == 143
    assert out.splitlines()[-1] == (
        f"stopped; the same command with --folder {folder} goes on"
    )
    refused = subprocess.run(
        [*command, "--no-resume"], capture_output=True, text=True, check=False
    )
    assert refused.returncode == 2
    assert "holds an unfinished run; name a new folder" in refused.stderr
