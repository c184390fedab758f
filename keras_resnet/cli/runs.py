"""Recipes and runs: recipes, train, evaluate, predict."""

from __future__ import annotations

import os
import shlex
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from keras_resnet import runtime
from keras_resnet.cli import options
from keras_resnet.cli.group import main, stoppable
from keras_resnet.cli.output import (
    print_classes,
    print_json,
    print_table,
    table_of,
    warnings_as_lines,
)
from keras_resnet.errors import UserError

if TYPE_CHECKING:
    from keras_resnet.recipe import Recipe
    from keras_resnet.tracking import MLflowTracker
    from keras_resnet.training import RunResult


@main.command()
@click.argument("pattern", default="*")
@options.as_json
def recipes(pattern: str, as_json: bool) -> None:
    """Show the recipes that networks can be trained by.

    PATTERN is a shell pattern. With --json, a recipe's own name gives the file that
    --recipe takes; any other pattern a list, with what is known of each.

    Example: keras-resnet recipes '*cifar*'
    """
    from keras_resnet.errors import RecipeError
    from keras_resnet.recipes import ROWS

    rows = [row for row in ROWS if fnmatchcase(row.recipe.name, pattern)]
    if not rows:
        raise RecipeError(f"pattern: no recipe matches {pattern!r}")
    if as_json and rows[0].recipe.name == pattern:
        print_json(rows[0].recipe.to_dict())
        return
    if as_json:
        fields = [
            {
                "name": row.recipe.name,
                "expected": row.expected,
                "hardware": row.hardware,
                "command": row.command,
                "recipe": row.recipe.to_dict(),
            }
            for row in rows
        ]
        print_json(fields)
        return
    table = table_of("recipe", "network", "epochs>", "batch>", "data", "source")
    for row in rows:
        recipe = row.recipe
        table.add_row(
            recipe.name,
            recipe.model.name,
            str(recipe.epochs),
            str(recipe.batch_size),
            row.data,
            recipe.source.split(". ")[0],
        )
    print_table(table)


@main.command()
@options.gather(
    "training",
    options.Training,
    options.recipe_or_choice,
    options.model,
    options.spec,
    options.data,
    options.epochs,
    click.option(
        "--batch-size",
        type=click.IntRange(1),
        help="Instead of the recipe's, over all devices; the learning rate stays.",
    ),
    click.option("--learning-rate", type=float, help="Instead of the recipe's."),
    click.option("--image-size", type=options.SIDE, help="Instead of the recipe's."),
    click.option(
        "--freeze",
        help="Last stage to keep as it is, such as conv4; all: train the head.",
    ),
    options.assignments,
)
@click.option(
    "--weights",
    help="Start from them, under a new head: a run folder, a file or a published "
    "name. The network is theirs where it is known.",
)
@click.option(
    "--smoke", is_flag=True, help="Try it out: a small network and few steps."
)
@options.gather(
    "loading",
    dict,
    options.data_dir,
    options.download,
    options.strict,
    options.subfolders,
    options.label_columns,
    options.train_images,
    options.split_seed,
    options.cache,
)
@options.folder
@click.option("--seed", default=0, type=click.IntRange(0, 2**32 - 1), show_default=True)
@options.gather(
    "device",
    options.Device,
    options.strategy("multiworker"),
    options.precision,
    options.sync_batch_norm,
    options.recompute,
)
@click.option(
    "--resume/--no-resume",
    default=True,
    help="Go on with an unfinished run in --folder (the default), or refuse it.",
)
@click.option(
    "--checkpoint-minutes",
    type=options.Finite(0),
    default=10.0,
    show_default=True,
    help="Between two checkpoints within an epoch.",
)
@options.gather(
    "tracking",
    options.Tracking,
    options.track,
    options.experiment,
    options.register,
    options.tag,
)
def train(
    training: options.Training,
    weights: str | None,
    smoke: bool,
    loading: dict[str, Any],
    folder: Path | None,
    seed: int,
    device: options.Device,
    resume: bool,
    checkpoint_minutes: float,
    tracking: options.Tracking,
) -> None:
    """Train a network, test it, log it to MLflow and export it.

    With no arguments: a small residual network on scikit-learn's digits, in about a
    minute. With --data folder:PATH alone, recipe, network, size and weights are chosen
    and said. An unfinished run named by --folder is continued.

    Example: keras-resnet train --data folder:photos

    Example: keras-resnet train --recipe folder --data folder:photos

    Example: keras-resnet train --recipe finetune --weights runs/demo --freeze conv3
    --data folder:photos
    """
    from keras_resnet import files
    from keras_resnet.data import sources
    from keras_resnet.recipe import check_weights
    from keras_resnet.run import Run, new_folder
    from keras_resnet.weights import origins

    recipe, data = training.resolve()
    sources.look(data, recipe.task, **loading)
    start = origins.find(weights).run if weights else None
    if start:
        start.check_trained()
    if folder:
        Run(folder).check_free(resume=resume)
        files.check_folder(folder, "folder")
    from rich.console import Console

    console = Console(highlight=False, markup=False)
    tracker = tracking.tracker(console)
    if training.leaves_choice:
        runtime.prepare()
        recipe, weights = _choose(training, weights, folder, loading)
    network = recipe.model
    recipe = recipe.smoke() if smoke else recipe
    check_weights(recipe, weights)
    if not weights or training.names_network:
        options.check_size(recipe, data)
    elif start:
        options.check_size(recipe.replace(model=start.recipe.model), data)
    if device.strategy == "multiworker":
        # TensorFlow would print a page on a lost worker, where we print a line.
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    runtime.prepare()
    from keras_resnet.training import follow
    from keras_resnet.training.devices import distribution

    if weights:
        recipe = recipe.replace(model=network)
        recipe = recipe if training.names_network else follow(recipe, weights)
    placed = device.keywords()
    chief = distribution.is_chief(placed["strategy"])
    from keras_resnet.recipe import SMOKE_STEPS
    from keras_resnet.training import train as run_training

    tracker = tracker if chief else None
    folder = folder or new_folder(recipe.name)
    with (
        warnings_as_lines(),
        stoppable(f"the same command with --folder {folder}"),
    ):
        result = run_training(
            recipe,
            data=data,
            weights=weights,
            folder=folder,
            seed=seed,
            tracker=tracker,
            console=console if chief else None,
            steps=SMOKE_STEPS if smoke else None,
            resume=resume,
            checkpoint_minutes=checkpoint_minutes,
            **placed,
            **loading,
        )
    if chief:
        _print_result(result, tracker)


def _choose(
    training: options.Training,
    weights: str | None,
    folder: Path | None,
    loading: dict[str, Any],
) -> tuple[Recipe, str | None]:
    """A recipe and weights for a folder of images; says what was chosen and why."""
    import tensorflow as tf

    from keras_resnet.training.choice import choose

    gpus = len(tf.config.list_physical_devices("GPU"))
    chosen = choose(
        str(training.data),
        weights=weights,
        devices=("GPU", gpus) if gpus else ("CPU", runtime.usable_cores()),
        folder=folder,
        data_dir=loading.get("data_dir"),
        subfolders=loading.get("subfolders"),
        change=lambda recipe: training.resolve(recipe)[0],
    )
    for reason in chosen.reasons:
        click.echo(f"chosen    {reason}")
    if chosen.options:
        click.echo(f"the same  {options.command_line(chosen.options)}")
    return chosen.recipe, chosen.weights


def _print_result(result: RunResult, tracker: MLflowTracker | None) -> None:
    """What came of a run, and what to do with it."""
    from keras_resnet.run import Run
    from keras_resnet.tasks import TASKS, verdict

    task = Run(result.folder).recipe.task
    monitor = TASKS[task].monitor
    by = "loss" if monitor.key == "loss" else monitor.name
    click.echo(f"\n{verdict(task, result.metrics)}; best epoch by validation {by}")
    click.echo(f"run folder  {result.folder}")
    click.echo(f"SavedModel  {result.export}")
    if result.run_id:
        click.echo(f"MLflow run  {result.run_id}")
    click.echo("\nnext:")
    folder = shlex.quote(str(result.folder))
    click.echo(f"  keras-resnet evaluate {folder}")
    if (result.folder / "samples").exists():
        click.echo(f"  keras-resnet predict {folder} {folder}/samples/*.png")
    if tracker and result.run_id:
        from keras_resnet.tracking.address import ui_command

        click.echo(f"  {ui_command(tracker.store)}")


@main.command()
@click.argument("run", type=options.PATH)
@click.option(
    "--data",
    help="Other labelled images, with classes of the same names; or the same images, "
    "where they are elsewhere now.",
)
@options.as_json
def evaluate(run: Path, data: str | None, as_json: bool) -> None:
    """Test a run's best model on the test images of its data, or on other ones.

    Of other data its test split counts or, where it has none, all of it; images that
    the run was trained on are left out.

    Example: keras-resnet evaluate runs/demo
    """
    from keras_resnet.run import Run
    from keras_resnet.tasks import verdict

    opened = Run(run)
    opened.check_trained()
    opened.check_data(data)
    runtime.prepare()
    from keras_resnet.training import evaluate as run_evaluation

    with warnings_as_lines():
        try:
            metrics = run_evaluation(run, **({"source": data} if data else {}))
        except UserError:
            if not data:
                raise
            metrics = run_evaluation(run, other=data)
            click.echo(f"{data} is other data than that of the run", err=True)
    if as_json:
        print_json(metrics, None)
    else:
        click.echo(verdict(Run(run).recipe.task, metrics))


@main.command()
@click.argument("model", type=options.PATH)
@click.argument("images", nargs=-1, required=True, type=options.PATH)
@click.option("--top", default=3, type=click.IntRange(1), show_default=True)
@options.as_json
def predict(model: Path, images: tuple[Path, ...], top: int, as_json: bool) -> None:
    """Name the classes of image files, folders or patterns with their probabilities.

    Or their labels, or the values of a regression, all of them whatever --top.

    MODEL is a run folder, an export's version folder, or a file .tflite, .onnx or
    .xml, which is run by its own runtime. Images are read as the model's channels and
    resized to its size. Those that can't be read are named, with exit code 1; the
    others have answers.

    Example: keras-resnet predict runs/demo runs/demo/samples/*.png
    """
    from keras_resnet.data.inputs import list_images, why_none
    from keras_resnet.run import Run
    from keras_resnet.serving import runtimes

    if runtimes.format_of(model) is None:
        runtimes.refuse_versions(model)
        Run(model).check_trained()
    runtimes.look(model)
    with warnings_as_lines():
        listed = list_images(images)
    if lost := why_none(listed):
        print_classes([], lost, as_json)
    runtime.prepare()
    from keras_resnet.prediction import open_model, predict_files

    failed: list[tuple[Path, UserError]] = []
    with warnings_as_lines():
        served = open_model(model)
        predictions = predict_files(served, listed, lambda *lost: failed.append(lost))
    most = None if served.task == "regression" else top
    answers = [(path, dict(ranked[:most])) for path, ranked in predictions]
    print_classes(answers, failed, as_json, served.task)
