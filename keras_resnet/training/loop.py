"""The one training path: `fit` trains a model, `train` does the whole job."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import keras
import numpy as np
from PIL import Image
from rich.console import Console

from keras_resnet import data as data_module
from keras_resnet import runfolder
from keras_resnet.cost import estimate_cost
from keras_resnet.data import Splits
from keras_resnet.network import build
from keras_resnet.runfolder import RunFolderError
from keras_resnet.serving import export
from keras_resnet.surgery import to_stock
from keras_resnet.tracking import Tracker
from keras_resnet.training.callbacks import ProgressBar, Tracking
from keras_resnet.training.environment import describe_environment
from keras_resnet.training.pictures import draw_confusion, draw_curves
from keras_resnet.training.recipe_table import get_recipe
from keras_resnet.training.recipes import Recipe

SAMPLES = 10  # test images written beside the run


class RunResult(NamedTuple):
    """What a run came to.

    Attributes:
        folder: the run folder.
        export: the SavedModel's folder, version included.
        metrics: of the best epoch's model on the test images.
        history: a row of metrics for each epoch.
        run_id: the tracker's, if it has one.
    """

    folder: Path
    export: Path
    metrics: dict[str, float]
    history: list[dict[str, Any]]
    run_id: str | None


def fit(
    model: keras.Model,
    recipe: Recipe,
    data: Splits,
    *,
    folder: Path | str | None = None,
    tracker: Tracker | None = None,
    callbacks: Sequence[keras.callbacks.Callback] = (),
    strategy: Any = None,
    console: Console | None = None,
) -> keras.callbacks.History:
    """Compiles and trains a model by a recipe.

    Args:
        model: from the data's image shape to logits of its classes.
        recipe: optimizer, schedule, epochs.
        data: what to train on and choose by.
        folder: where history, best model and resume state are kept, if anywhere.
        tracker: is told each epoch's metrics.
        callbacks: others.
        strategy: the `tf.distribute` strategy that the model was built under.
        console: where progress is shown; none if None.

    Raises:
        RecipeError: the model does not put out logits.
        RunFolderError: the folder holds something else.
    """
    with _scope(strategy):
        model.compile(**recipe.compile_args(model, data.steps))
    bar = ProgressBar(console, recipe.name, recipe.epochs) if console else None
    try:
        return model.fit(
            data.train,
            validation_data=data.val,
            epochs=recipe.epochs,
            shuffle=False,  # the data set shuffles
            verbose=0,
            callbacks=[
                *(recipe.callbacks(folder) if folder is not None else []),
                *([Tracking(tracker)] if tracker else []),
                *([bar] if bar else []),
                *callbacks,
            ],
        )
    finally:
        if bar:
            bar.stop()


def _scope(strategy: Any) -> contextlib.AbstractContextManager[Any]:
    """The scope of a `tf.distribute` strategy, if there is one."""
    return strategy.scope() if strategy else contextlib.nullcontext()


def train(
    recipe: Recipe | str,
    *,
    data: Splits | str = "digits",
    folder: Path | str | None = None,
    seed: int = 0,
    strategy: Any = None,
    tracker: Tracker | None = None,
    console: Console | None = None,
) -> RunResult:
    """Builds, trains, tests, draws, tracks and exports: a whole run in one folder.

    An unfinished run of the same recipe in `folder` is continued from its last epoch.

    Args:
        recipe: a recipe or the name of one.
        data: a source for `data.load`, or splits that it made.
        folder: the run folder; a new one under `runs/` if None.
        seed: fixes splits, initial weights, order and augmentation.
        strategy: a `tf.distribute` strategy to train under.
        tracker: is told everything; see `tracking.MLflowTracker`.
        console: where progress is shown; none if None.

    Raises:
        UserError: recipe, data or folder don't fit; nothing is written then.
    """
    recipe = get_recipe(recipe) if isinstance(recipe, str) else recipe
    source = data if isinstance(data, str) else "given"
    keras.utils.set_random_seed(seed)
    if isinstance(data, str):
        data = data_module.load(
            data, batch_size=recipe.batch_size, augment=recipe.augment, seed=seed
        )
    spec = recipe.model.replace(input_shape=data.image_shape, classes=data.classes)
    recipe = recipe.replace(model=spec)
    with _scope(strategy):
        model = build(spec, pixel_stats=data.pixel_stats)
    folder = Path(folder) if folder else runfolder.new_name(recipe.name)
    resumed = runfolder.prepare(folder, recipe.to_json())
    described = _describe_data(source, seed, data)
    with runfolder.locked(folder):
        if resumed and (folder / runfolder.DATA).exists():
            _check_same_data(folder, described)
        environment = describe_environment() | {"seed": seed}
        runfolder.write_json(folder / runfolder.ENVIRONMENT, environment)
        runfolder.write_json(folder / runfolder.DATA, described)
        with _tracked(tracker, folder, recipe, environment):
            return _run(model, recipe, data, folder, tracker, strategy, console)


def evaluate(folder: Path | str) -> dict[str, float]:
    """Metrics of a run's best model on the test images of its data.

    Raises:
        RunFolderError: not a run, one without a model, or one on data that was given
            as arrays.
    """
    folder = Path(folder)
    model, described = runfolder.load_best(folder)
    if described["source"] == "given":
        raise RunFolderError(f"run: {folder} was trained on data that is not by name")
    data = data_module.load(described["source"], seed=described["seed"])
    metrics, _, _ = _judge(model, data.test)
    return metrics


def _run(
    model: keras.Model,
    recipe: Recipe,
    data: Splits,
    folder: Path,
    tracker: Tracker | None,
    strategy: Any,
    console: Console | None,
) -> RunResult:
    """Trains, and makes what a run leaves."""
    fit(
        model,
        recipe,
        data,
        folder=folder,
        tracker=tracker,
        strategy=strategy,
        console=console,
    )
    best, _ = runfolder.load_best(folder)
    metrics, labels, predictions = _judge(best, data.test)
    history = runfolder.read_lines(folder / runfolder.HISTORY)
    draw_curves(history, folder / runfolder.CURVES)
    draw_confusion(labels, predictions, data.class_names, folder / runfolder.CONFUSION)
    samples = _write_samples(data, folder / runfolder.SAMPLES)
    if (folder / runfolder.EXPORT).exists():
        shutil.rmtree(folder / runfolder.EXPORT)  # of a run killed after it
    exported = export(best, folder / runfolder.EXPORT, class_names=data.class_names)
    result = {f"test_{name}": value for name, value in metrics.items()}
    result |= {"train_seconds": sum(row["seconds"] for row in history)}
    if tracker:
        tracker.log_metrics(result, recipe.epochs)
        tracker.log_files([folder / name for name in _TRACKED_FILES])
        tracker.log_model(to_stock(best), samples.astype("float32"))
    # Last: a folder with a result is a finished run.
    runfolder.write_json(folder / runfolder.RESULT, result)
    run_id = getattr(tracker, "run_id", None)
    return RunResult(folder, exported, metrics, history, run_id)


_TRACKED_FILES = (
    runfolder.RECIPE,
    runfolder.DATA,
    runfolder.ENVIRONMENT,
    runfolder.HISTORY,
    runfolder.CURVES,
    runfolder.CONFUSION,
)


def _check_same_data(folder: Path, described: dict[str, Any]) -> None:
    """Other data or another seed would mix test images into the training."""
    before = runfolder.read_json(folder / runfolder.DATA)
    for key in ("source", "seed", "pixel_stats"):
        if before.get(key) != described[key]:
            raise RunFolderError(
                f"folder: {folder} holds an unfinished run with {key} "
                f"{before.get(key)!r}, not {described[key]!r}; name a new folder"
            )


@contextlib.contextmanager
def _tracked(
    tracker: Tracker | None, folder: Path, recipe: Recipe, environment: dict[str, Any]
) -> Iterator[None]:
    """Opens a tracked run and closes it as what it was."""
    if tracker is None:
        yield
        return
    tracker.start(folder.name, _parameters(recipe, environment))
    try:
        yield
    except KeyboardInterrupt:
        tracker.finish("KILLED")
        raise
    except BaseException:
        tracker.finish("FAILED")
        raise
    tracker.finish("FINISHED")


def _parameters(recipe: Recipe, environment: dict[str, Any]) -> dict[str, Any]:
    """What a table of runs is sorted by."""
    spec = recipe.model
    cost = estimate_cost(spec)
    fields = vars(recipe) | {
        "augment": vars(recipe.augment),
        "drops": list(recipe.drops),
        "model": spec.name,
    }
    chosen = ("block", "depths", "widths", "k", "cardinality", "order", "shortcut")
    return {
        **fields,
        **{f"spec.{name}": getattr(spec, name) for name in chosen},
        "params": cost.params,
        "macs": cost.macs,
        "seed": environment["seed"],
        "onednn": environment["onednn"],
    }


def _describe_data(source: str, seed: int, data: Splits) -> dict[str, Any]:
    return {
        "source": source,
        "seed": seed,
        "classes": data.classes,
        "class_names": list(data.class_names),
        "image_shape": list(data.image_shape),
        "pixel_stats": [list(numbers) for numbers in data.pixel_stats],
    }


def _judge(
    model: keras.Model, dataset: Any
) -> tuple[dict[str, float], np.ndarray, np.ndarray]:
    """Metrics, true labels and predicted ones."""
    labels = np.concatenate([batch[1] for batch in dataset.as_numpy_iterator()])
    logits = model.predict(dataset, verbose=0)
    predictions = logits.argmax(axis=-1)
    shifted = logits - logits.max(axis=-1, keepdims=True)
    log_probabilities = shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
    metrics = {
        "loss": float(-log_probabilities[np.arange(len(labels)), labels].mean()),
        "accuracy": float((predictions == labels).mean()),
        "images": len(labels),
    }
    return metrics, labels, predictions


def _write_samples(data: Splits, folder: Path) -> np.ndarray:
    """Writes some test images as PNG, named by their class; returns them."""
    images, labels = next(data.test.unbatch().batch(SAMPLES).as_numpy_iterator())
    folder.mkdir(exist_ok=True)
    for i, (image, label) in enumerate(zip(images, labels, strict=True)):
        path = folder / f"{i}-is-{data.class_names[label]}.png"
        with runfolder.replacing(path) as temporary:
            Image.fromarray(image.squeeze(-1) if image.shape[-1] == 1 else image).save(
                temporary
            )
    return np.asarray(images)
