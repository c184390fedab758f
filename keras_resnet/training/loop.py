"""The one training path: `fit` trains a model, `train` does the whole job."""

from __future__ import annotations

import contextlib
import shutil
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import keras
from rich.console import Console

from keras_resnet import data as data_module
from keras_resnet import files, serving
from keras_resnet.data import DataWarning, Splits
from keras_resnet.data.images import LeftOutWarning
from keras_resnet.data.labelled import load_labelled
from keras_resnet.data.pipeline import errors_in_one_line
from keras_resnet.errors import RecipeError
from keras_resnet.graphs import check_loadable, walkable
from keras_resnet.network import build, under_policy
from keras_resnet.recipe import Recipe, check_weights
from keras_resnet.recipes import get_recipe
from keras_resnet.run import (
    AUGMENTED,
    CURVES,
    DATA,
    ENVIRONMENT,
    EXPORT,
    RESULT,
    SAMPLES,
    Run,
    new_folder,
)
from keras_resnet.tasks import TASKS
from keras_resnet.tracking import Tracker
from keras_resnet.training import (
    finetuning,
    leaks,
    logging,
    page,
    preamble,
    progress,
    report,
    stopping,
)
from keras_resnet.training.callbacks import callbacks_for
from keras_resnet.training.compile import compile_args
from keras_resnet.training.devices import replicas
from keras_resnet.training.devices import strategy as devices
from keras_resnet.training.devices.distribution import cooperating
from keras_resnet.training.environment import describe_data, describe_environment
from keras_resnet.training.evaluation import pick
from keras_resnet.training.judging import evaluate_model
from keras_resnet.training.plots import draw_curves
from keras_resnet.training.resume import MINUTES, check_same
from keras_resnet.training.schedules import rates_by_epoch
from keras_resnet.units import count

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
    initial_epoch: int = 0,
    epochs: int | None = None,
) -> keras.callbacks.History:
    """Compiles and trains a model by a recipe.

    Args:
        model: from the data's image shape to logits of its classes.
        recipe: optimizer, schedule, epochs.
        data: what to train on and choose by.
        folder: where history, best model and resume state are kept, if anywhere.
        tracker: each epoch's metrics are logged to it.
        callbacks: others.
        strategy: the `tf.distribute` strategy that the model was built under. Its
            replicas share each of the recipe's batches.
        console: where progress is shown; none if None.
        checkpoint_minutes: between two checkpoints within an epoch.
        initial_epoch: epochs of the recipe that the model has had; a checkpoint in
            `folder` knows better.
        epochs: the epoch to stop after, if not the recipe's last; the schedule does
            not change.

    Raises:
        Stopped: by Ctrl-C or SIGTERM, after a checkpoint. A `KeyboardInterrupt`.
        TrainingError: it diverged.
        RecipeError: the model does not put out logits.
        RunFolderError: the folder holds something else.
        DistributionError: Keras can't train so under this strategy.
    """
    _compile(model, recipe, data, strategy)
    if initial_epoch:
        model.optimizer.iterations.assign(initial_epoch * data.steps)
    return _fit(
        model,
        recipe,
        data,
        range(initial_epoch, epochs or recipe.epochs),
        folder=folder,
        tracker=tracker,
        callbacks=callbacks,
        strategy=strategy,
        console=console,
        checkpoint_minutes=checkpoint_minutes,
    )


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
    announcement: str | None = None,
    **loading: Any,
) -> RunResult:
    """Builds, trains, tests, draws, logs and exports: a whole run in one folder.

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
        tracker: everything is logged to it; see `tracking.MLflowTracker`.
        console: where progress is shown; none if None.
        precision: one of `PRECISIONS`; Keras' current policy if None.
        sync_batch_norm: whether batch norms take statistics over all replicas.
        recompute: as `build` has it: less memory, more time.
        steps: at most so many batches of each split, to try a run out.
        export: whether a SavedModel is made.
        resume: whether an unfinished run in `folder` is continued, or refused.
        checkpoint_minutes: between two checkpoints within an epoch.
        announcement: a line that is shown in place of all that is about to be done.
        **loading: other arguments of `data.load`, such as `data_dir`.

    Raises:
        UserError: recipe, data, model or folder don't fit; nothing is written then.
        DistributionError: Keras can't train so under this strategy, or another worker
            failed or was lost.
        TrainingError: it diverged; the folder keeps what was written before.
        Stopped: by Ctrl-C or SIGTERM; the folder holds a checkpoint, from which the
            same call resumes. A `KeyboardInterrupt`.
    """
    recipe = get_recipe(recipe) if isinstance(recipe, str) else recipe
    if precision not in (None, *PRECISIONS):
        raise RecipeError(
            f"precision: {precision!r} is not one of {', '.join(map(repr, PRECISIONS))}"
        )
    check_weights(recipe, weights)
    if model is not None:
        _check_end(model, export or tracker is not None)
    source = finetuning.read_source(weights, recipe.model) if weights else None
    keras.utils.set_random_seed(seed)
    with cooperating(strategy):
        loading = {"console": console} | loading
        splits = _load(data, recipe, source, seed, loading)
        splits = splits.take(steps) if steps else splits
        recipe = recipe.replace(
            model=recipe.model.replace(
                input_shape=splits.image_shape, classes=splits.units
            )
        )
        with under_policy(precision), devices.scope(strategy):
            model = model or _build(recipe, splits, recompute)
            environment = describe_environment() | {
                "seed": seed,
                "replicas": devices.replicas_of(strategy),
                "sync_batch_norm": sync_batch_norm,
            }
        if source:
            finetuning.transplant(source.model, model)
        if sync_batch_norm:
            replicas.synchronize_batch_norm(model)
        _compile(model, recipe, splits, strategy)
        run = Run(folder or new_folder(recipe.name))
        epochs = range(recipe.epochs)
        if not devices.is_chief(strategy):
            history = _fit(model, recipe, splits, epochs, strategy=strategy)
            return RunResult(run.folder, None, {}, [history.history], None)
        described = describe_data(splits, seed) | {"weights": source and source.name}
        with (
            _opened(run, recipe, described, environment, resume),
            logging.tracked(tracker, run.folder, recipe, environment | described),
        ):
            if announcement is None:
                preamble.show(console, run, recipe, splits, environment | described)
            elif console:
                console.print(announcement, soft_wrap=True)
            report.write_augmented(splits, run.folder / AUGMENTED)
            leaks.write_trained_on(splits, run, source.run if source else None)
            _fit(
                model,
                recipe,
                splits,
                epochs,
                folder=run,
                tracker=tracker,
                strategy=strategy,
                console=console,
                checkpoint_minutes=checkpoint_minutes,
            )
            result = _finish(run, recipe, splits, tracker, export)
        return result._replace(run_id=tracker.run_id if tracker else None)


def _check_end(model: keras.Model, passed_on: bool) -> None:
    """Refuses before training a model that couldn't be tested or passed on after it."""
    if passed_on:
        walkable(model)
    check_loadable(model)


def evaluate(
    folder: Path | str, *, other: Any = None, **moved: Any
) -> dict[str, float]:
    """Metrics of a run's best model on the test images of its data, or on others.

    Args:
        folder: the run's.
        other: a source of other images with classes of the same names; those that the
            run was trained on are left out, with a warning.
        **moved: where the data is now, as for `Run.load_splits`.

    Raises:
        RunFolderError: not a run, one without a model, or `Run.load_splits`'.
        DataError: the other images have classes that the model doesn't know.
    """
    run = Run(folder)
    model, task = run.load_model(at_test_size=other is not None), run.recipe.task
    if other is None:
        data = run.load_splits(**moved)
        run.warn_unfinished()
        return evaluate_model(model, data.test, data.class_names, task).metrics
    names = tuple(run.data["class_names"])
    seen = run.trained_on()
    found = load_labelled(
        other,
        names,
        tuple(run.data["image_shape"]),
        trained_on=seen,
        task=task,
        label_columns=(run.data["arguments"] or {}).get("label_columns"),
        **moved,
    )
    run.warn_unfinished()
    if found.known or seen is None:
        left_out = count(found.known, "image")
        known = f"{left_out} left out: {run.folder} was trained on them"
        unknown = f"on which images {run.folder} was trained isn't known"
        warnings.warn(
            f"data: {unknown if seen is None else known}", DataWarning, stacklevel=2
        )
    return evaluate_model(model, found.batches, names, task).metrics


def _load(
    data: Any,
    recipe: Recipe,
    source: finetuning.Source | None,
    seed: int,
    loading: dict[str, Any],
) -> Splits:
    """The splits: of a run that weights are of, by its split and as it normalizes."""
    splits: Splits
    start = source.run if source else None
    if isinstance(data, Splits):
        splits = data
        if splits.task != recipe.task:
            raise RecipeError(
                f"task: the recipe's is {recipe.task!r}, but the data were loaded for "
                f"{splits.task!r}; load(..., task={recipe.task!r})"
            )
    else:
        if start and loading.get("split_seed") is None:
            kept = leaks.split_of(start, data, loading.get("data_dir"))
            loading = loading | {"split_seed": None if kept == seed else kept}
        load = data_module.load if loading["console"] is None else _load_unsaid
        splits = load(
            data,
            batch_size=recipe.batch_size,
            augment=recipe.augment,
            sampling=recipe.sampling,
            seed=seed,
            image_size=recipe.image_size or (source and source.size),
            test_size=recipe.test_size,
            task=recipe.task,
            **loading,
        )
    if source and (stats := source.pixel_stats(splits.image_shape[-1])):
        mean, std = stats
        splits = splits._replace(pixel_stats=(tuple(mean), tuple(std)))
    return leaks.check_test(splits, start) if start else splits


def _load_unsaid(*arguments: Any, **options: Any) -> Splits:
    """The splits, without warnings of what is left out: `preamble` tells it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", LeftOutWarning)
        return data_module.load(*arguments, **options)


def _build(recipe: Recipe, data: Splits, recompute: bool) -> keras.Model:
    """The recipe's network; one that is tested at another size takes any."""
    return build(
        recipe.model,
        input_shape=(None, None, data.image_shape[-1]) if recipe.test_size else None,
        pixel_stats=data.pixel_stats,
        target_stats=data.target_stats,
        recompute=recompute,
    )


def _compile(model: keras.Model, recipe: Recipe, data: Splits, strategy: Any) -> None:
    """Freezes and compiles: what can't be trained is refused before it starts."""
    devices.check_strategy(
        strategy,
        steps_per_execution=recipe.steps_per_execution,
        clip_norm=recipe.clip_norm,
    )
    finetuning.apply(recipe, model)
    with devices.scope(strategy):
        counts = data.class_counts.get("train", ())
        model.compile(**compile_args(recipe, model, data.steps, counts))


@contextlib.contextmanager
def _opened(
    run: Run,
    recipe: Recipe,
    described: dict[str, Any],
    environment: dict[str, Any],
    resume: bool,
) -> Iterator[None]:
    """The run's folder, locked, with its settings in it."""
    run.open(recipe, resume=resume)
    with run.lock():
        run.clear_leftovers()
        settings = {DATA: described, ENVIRONMENT: environment}
        for name, facts in settings.items():
            check_same(run, name, facts)
        for name, facts in settings.items():
            files.write_json(run.folder / name, facts)
        yield


def _fit(
    model: keras.Model,
    recipe: Recipe,
    data: Splits,
    epochs: range,
    *,
    folder: Run | Path | str | None = None,
    tracker: Tracker | None = None,
    callbacks: Sequence[keras.callbacks.Callback] = (),
    strategy: Any = None,
    console: Console | None = None,
    checkpoint_minutes: float = MINUTES,
) -> keras.callbacks.History:
    """`fit` of a compiled model, from one epoch to another."""
    own = callbacks_for(recipe, folder, data, checkpoint_minutes=checkpoint_minutes)
    if tracker:
        own.append(logging.LogEpochs(tracker, recipe, folder))
    # A worker is ended by the one that is stopped.
    alone = folder and not devices.is_multiworker(strategy)
    with (
        progress.shown(console, recipe.name, recipe.epochs, recipe.batch_size) as bar,
        stopping.deferred() if alone else contextlib.nullcontext(),
        errors_in_one_line(),
    ):
        return model.fit(
            replicas.for_replicas(data.train, strategy, training=True),
            validation_data=replicas.for_replicas(data.val, strategy, training=False),
            initial_epoch=epochs.start,
            epochs=epochs.stop,
            shuffle=False,  # the data set shuffles
            verbose=0,
            callbacks=replicas.with_shared_state([*own, *bar, *callbacks], strategy),
        )


def _finish(
    run: Run, recipe: Recipe, data: Splits, tracker: Tracker | None, export: bool
) -> RunResult:
    """Tests the best model, and makes what a run leaves."""
    folder = run.folder
    best = run.load_model(at_test_size=True)
    task = recipe.task
    evaluation = evaluate_model(best, data.test, data.class_names, task)
    history = run.history
    draw_curves(
        history, folder / CURVES, rates_by_epoch(recipe, data.steps), TASKS[task].score
    )
    count = data.duplicates.get(leaks.LEAKED)
    leaked = {"test_images_trained_on": count} if count else {}
    worst = pick(data.test, evaluation.worst)
    paths = data.files.get("test", ())
    report.write_report(evaluation, worst, folder, paths, leaked)
    samples = report.write_samples(data, folder / SAMPLES)
    if (folder / EXPORT).exists():
        shutil.rmtree(folder / EXPORT)  # of a run killed after it
    exported = None
    if export:
        exported = serving.export(
            best,
            folder / EXPORT,
            class_names=data.class_names,
            task=task,
            about=run.describe() | {"metrics": evaluation.metrics},
            samples=samples,
        )
    result = {f"test_{name}": value for name, value in evaluation.metrics.items()}
    result |= leaked | {"train_seconds": sum(row["seconds"] for row in history)}
    page.write_page(run, evaluation, worst, data)
    if tracker:
        logging.log_result(tracker, folder, recipe, result, best, samples)
    # Last: a folder with a result is a finished run.
    files.write_json(folder / RESULT, result)
    return RunResult(folder, exported, evaluation.metrics, history, None)
