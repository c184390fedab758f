"""The one training path: `fit` trains a model, `train` does the whole job."""

from __future__ import annotations

import contextlib
import re
import shutil
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import keras
import numpy as np
from PIL import Image
from rich.console import Console

from keras_resnet import data as data_module
from keras_resnet import files, serving
from keras_resnet.data import Splits
from keras_resnet.errors import RecipeError, RunFolderError
from keras_resnet.network import build, under_policy
from keras_resnet.recipe import Recipe
from keras_resnet.recipes import get_recipe
from keras_resnet.run import (
    CURVES,
    DATA,
    ENVIRONMENT,
    EXPORT,
    HISTORY,
    RESULT,
    SAMPLES,
    Run,
    new_folder,
)
from keras_resnet.tracking import Tracker
from keras_resnet.training import checkpoints, finetuning, logging, report, stopping
from keras_resnet.training.devices import distribution, replicas
from keras_resnet.training.environment import describe_environment
from keras_resnet.training.plots import draw_curves
from keras_resnet.training.progress import ProgressBar
from keras_resnet.training.resume import MINUTES

SHOWN = 10  # test images written beside the run
PRECISIONS = ("float32", "mixed_bfloat16", "mixed_float16")


class RunResult(NamedTuple):
    """What a run came to.

    Attributes:
        folder: the run folder.
        export: the SavedModel's folder, version included; None if none was asked for.
        metrics: of the best epoch's model on the test images.
        history: a row of metrics for each epoch.
        run_id: the tracker's, if it has one.
    """

    folder: Path
    export: Path | None
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
    checkpoint_minutes: float = MINUTES,
) -> keras.callbacks.History:
    """Compiles and trains a model by a recipe.

    Args:
        model: from the data's image shape to logits of its classes.
        recipe: optimizer, schedule, epochs.
        data: what to train on and choose by.
        folder: where history, best model and resume state are kept, if anywhere.
        tracker: is told each epoch's metrics.
        callbacks: others.
        strategy: the `tf.distribute` strategy that the model was built under. Its
            replicas share each of the recipe's batches.
        console: where progress is shown; none if None.
        checkpoint_minutes: between two checkpoints within an epoch.

    Raises:
        Stopped: by Ctrl-C or SIGTERM, after a checkpoint. A `KeyboardInterrupt`.
        TrainingError: it diverged.
        RecipeError: the model does not put out logits.
        RunFolderError: the folder holds something else.
        DistributionError: Keras can't train so under this strategy.
    """
    distribution.check_strategy(
        strategy,
        steps_per_execution=recipe.steps_per_execution,
        clip_norm=recipe.clip_norm,
    )
    finetuning.apply(recipe, model)
    with distribution.scope(strategy):
        model.compile(**recipe.compile_args(model, data.steps))
    bar = None
    if console:
        bar = ProgressBar(console, recipe.name, recipe.epochs, recipe.batch_size)
    # Workers are told of a stop by the one that ends.
    hear = folder and not distribution.is_multiworker(strategy)
    try:
        with stopping.heard() if hear else contextlib.nullcontext():
            return model.fit(
                replicas.for_replicas(data.train, strategy, training=True),
                validation_data=replicas.for_replicas(
                    data.val, strategy, training=False
                ),
                epochs=recipe.epochs,
                shuffle=False,  # the data set shuffles
                verbose=0,
                callbacks=replicas.with_shared_state(
                    [
                        *recipe.callbacks(
                            folder, data, checkpoint_minutes=checkpoint_minutes
                        ),
                        *(
                            [logging.Tracking(tracker, recipe, folder)]
                            if tracker
                            else []
                        ),
                        *([bar] if bar else []),
                        *callbacks,
                    ],
                    strategy,
                ),
            )
    finally:
        if bar:
            bar.stop()


def train(
    recipe: Recipe | str,
    *,
    data: Any = "digits",
    model: keras.Model | None = None,
    weights: Path | str | None = None,
    folder: Path | str | None = None,
    seed: int = 0,
    strategy: Any = None,
    tracker: Tracker | None = None,
    console: Console | None = None,
    precision: str | None = None,
    sync_batch_norm: bool = False,
    recompute: bool = False,
    steps: int | None = None,
    export: bool = True,
    resume: bool = True,
    checkpoint_minutes: float = MINUTES,
    **loading: Any,
) -> RunResult:
    """Builds, trains, tests, draws, tracks and exports: a whole run in one folder.

    An unfinished run of the same recipe in `folder` is continued from its last
    checkpoint, and ends as if it had not been stopped.
    Of several workers, all of which call this, the chief alone writes and tests.

    Args:
        recipe: a recipe or the name of one.
        data: a source for `data.load`, or splits that it made.
        model: of the recipe's network for this data, instead of a fresh one: what
            `surgery.deepen` made, for example.
        weights: what to start from, under a new head: a run folder, a published name
            or a file, of the recipe's network (`training.follow` sets it). Pixels are
            normalized as they were for it, and images have its size unless the recipe
            has one. A run that is continued starts from its own checkpoint.
        folder: the run folder; a new one under `runs/` if None.
        seed: fixes splits, initial weights, order and augmentation.
        strategy: a `tf.distribute` strategy to train under.
        tracker: is told everything; see `tracking.MLflowTracker`.
        console: where progress is shown; none if None.
        precision: one of `PRECISIONS`; Keras' current policy if None.
        sync_batch_norm: whether batch norms take statistics over all replicas.
        recompute: as `build` has it: less memory, more time.
        steps: at most so many batches of each split, to try a run out.
        export: whether a SavedModel is made.
        resume: whether an unfinished run in `folder` is continued, or refused.
        checkpoint_minutes: between two checkpoints within an epoch.
        **loading: other arguments of `data.load`, such as `data_dir`.

    Raises:
        UserError: recipe, data or folder don't fit; nothing is written then.
        DistributionError: Keras can't train so under this strategy, or another worker
            failed or was lost.
        TrainingError: it diverged; the folder keeps what was written before.
        Stopped: by Ctrl-C or SIGTERM; the folder holds a checkpoint, from which the
            same call goes on. A `KeyboardInterrupt`.
    """
    recipe = get_recipe(recipe) if isinstance(recipe, str) else recipe
    if precision not in (None, *PRECISIONS):
        raise RecipeError(
            f"precision: {precision!r} is not one of {', '.join(map(repr, PRECISIONS))}"
        )
    finetuning.check(recipe, weights)
    old = finetuning.read_source(weights, recipe.model) if weights else None
    keras.utils.set_random_seed(seed)
    with distribution.cooperating(strategy):
        if not isinstance(data, Splits):
            data = data_module.load(
                data,
                batch_size=recipe.batch_size,
                augment=recipe.augment,
                seed=seed,
                image_size=recipe.image_size or (old and old.size),
                test_size=recipe.test_size,
                **loading,
            )
        if steps:
            data = data.take(steps)
        recipe = recipe.replace(
            model=recipe.model.replace(
                input_shape=data.image_shape, classes=data.classes
            )
        )
        # A network that is judged at another size takes any.
        channels = data.image_shape[-1]
        if old and (stats := old.pixel_stats(channels)):
            data = data._replace(pixel_stats=stats)
        with under_policy(precision), distribution.scope(strategy):
            model = model or build(
                recipe.model,
                input_shape=(None, None, channels) if recipe.test_size else None,
                pixel_stats=data.pixel_stats,
                recompute=recompute,
            )
            environment = describe_environment() | {
                "seed": seed,
                "replicas": distribution.replicas_of(strategy),
                "sync_batch_norm": sync_batch_norm,
            }
        if old:
            finetuning.transplant(old.model, model)
        finetuning.apply(recipe, model)
        if sync_batch_norm:
            replicas.synchronize_batch_norm(model)
        folder = Path(folder) if folder else new_folder(recipe.name)
        if not distribution.is_chief(strategy):
            history = fit(model, recipe, data, strategy=strategy)
            return RunResult(folder, None, {}, [history.history], None)
        described = _describe_data(data, seed) | {"weights": old and old.name}
        if Run(folder).open(recipe) and not resume:
            raise RunFolderError(
                f"folder: {folder} holds an unfinished run; name a new folder, or let "
                "it be resumed"
            )
        with Run(folder).lock():
            for name, told in (
                (DATA, described),
                (ENVIRONMENT, environment),
            ):
                if (folder / name).exists():
                    _check_same(folder, name, told)
            files.write_json(folder / ENVIRONMENT, environment)
            files.write_json(folder / DATA, described)
            with logging.tracked(tracker, folder, recipe, environment | described):
                result = _run(
                    model,
                    recipe,
                    data,
                    folder,
                    tracker,
                    export=export,
                    strategy=strategy,
                    console=console,
                    checkpoint_minutes=checkpoint_minutes,
                )
            return result._replace(run_id=tracker.run_id if tracker else None)


def evaluate(folder: Path | str, **moved: Any) -> dict[str, float]:
    """Metrics of a run's best model on the test images of its data.

    Args:
        folder: the run's.
        **moved: where the data is now, as for `Run.load_splits`.

    Raises:
        RunFolderError: not a run, one without a model, or `Run.load_splits`'.
    """
    run = Run(folder)
    return _judge(run.load_model(), run.load_splits(**moved)).metrics


def _run(
    model: keras.Model,
    recipe: Recipe,
    data: Splits,
    folder: Path,
    tracker: Tracker | None,
    *,
    export: bool,
    **fitting: Any,
) -> RunResult:
    """Trains, and makes what a run leaves."""
    fit(model, recipe, data, folder=folder, tracker=tracker, **fitting)
    best = Run(folder).load_model(at_test_size=True)
    judged = _judge(best, data)
    history = files.read_lines(folder / HISTORY)
    draw_curves(history, folder / CURVES)
    report.write(judged, report.pick(data.test, judged.worst), folder)
    samples = _write_samples(data, folder / SAMPLES)
    if (folder / EXPORT).exists():
        shutil.rmtree(folder / EXPORT)  # of a run killed after it
    exported = None
    if export:
        exported = serving.export(
            best,
            folder / EXPORT,
            class_names=data.class_names,
            about=Run(folder).describe() | {"metrics": judged.metrics},
            samples=samples,
        )
    result = {f"test_{name}": value for name, value in judged.metrics.items()}
    result |= {"train_seconds": sum(row["seconds"] for row in history)}
    if tracker:
        logging.tell_result(tracker, folder, recipe, result, best, samples)
    # Last: a folder with a result is a finished run.
    files.write_json(folder / RESULT, result)
    return RunResult(folder, exported, judged.metrics, history, None)


# What makes an unfinished run another one, if it changes: test images would come into
# the training, or no run would have ended so.
_SAME = {
    DATA: ("seed", "image_shape", "steps", "fingerprint", "weights"),
    ENVIRONMENT: ("replicas", "sync_batch_norm", "precision", "onednn"),
}
# What changes last digits only.
_ALIKE = ("processor", "instruction_sets", "threads", "versions")


def _check_same(folder: Path, name: str, told: dict[str, Any]) -> None:
    """Refuses to go on with another run; warns where it can't be exact."""
    before = files.read_json(folder / name)
    for key in _SAME[name]:
        if _identity(before.get(key)) != _identity(told[key]):
            raise RunFolderError(
                f"folder: {folder} holds an unfinished run with {key} "
                f"{before.get(key)!r}, not {told[key]!r}; name a new folder"
            )
    other = [key for key in _ALIKE if key in before and before[key] != told.get(key)]
    if other:
        warnings.warn(
            f"folder: {folder} goes on with other {', '.join(other)} than it began "
            "with: the last digits may differ",
            checkpoints.CheckpointWarning,
            stacklevel=3,
        )


def _identity(value: Any) -> Any:
    """A file's hash instead of its path, which may be another on another machine."""
    return value.rpartition(" sha256:")[2] if isinstance(value, str) else value


def _describe_data(data: Splits, seed: int) -> dict[str, Any]:
    """What is kept of the data: enough to load it again, and to know it again."""
    return {
        "source": data.arguments["source"] if data.arguments else "given",
        "seed": seed,
        "arguments": data.arguments,
        "classes": data.classes,
        "class_names": list(data.class_names),
        "image_shape": list(data.test_shape),
        "pixel_stats": [list(numbers) for numbers in data.pixel_stats],
        "counts": dict(data.counts),
        "steps": data.steps,
        "fingerprint": data.fingerprint,
        "duplicates": dict(data.duplicates),
        "unreadable": list(data.unreadable),
    }


def _judge(model: keras.Model, data: Splits) -> report.Report:
    """What is to be said of a model on the test images, which are read once."""
    batches = [
        (model.predict_on_batch(images), labels)
        for images, labels in data.test.as_numpy_iterator()
    ]
    logits, labels = (np.concatenate(parts) for parts in zip(*batches, strict=True))
    return report.judge(logits, labels, data.class_names)


def _write_samples(data: Splits, folder: Path) -> np.ndarray:
    """Writes some test images as PNG, named by their class; returns them.

    Of other channels than 1 or 3 no file can be made that `predict` takes.
    """
    images, labels = next(data.test.unbatch().batch(SHOWN).as_numpy_iterator())
    if images.shape[-1] not in (1, 3):
        return np.asarray(images)
    folder.mkdir(exist_ok=True)
    for i, (image, label) in enumerate(zip(images, labels, strict=True)):
        name = re.sub(r"[^\w.-]+", "-", data.class_names[label])
        path = folder / f"{i}-is-{name}.png"
        with files.replacing(path) as temporary:
            Image.fromarray(image.squeeze(-1) if image.shape[-1] == 1 else image).save(
                temporary
            )
    return np.asarray(images)
