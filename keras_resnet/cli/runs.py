"""Recipes and runs: recipes, train, evaluate, predict."""

from __future__ import annotations

import json
import os
from fnmatch import fnmatchcase
from pathlib import Path

import click

from keras_resnet import runtime
from keras_resnet.cli.group import main
from keras_resnet.cli.output import (
    print_table,
    recipe_and_data,
    spec_from,
    table_of,
    warnings_as_lines,
)
from keras_resnet.errors import UserError


@main.command()
@click.argument("pattern", default="*")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def recipes(pattern: str, as_json: bool) -> None:
    """Show the recipes that networks can be trained by.

    PATTERN is a shell pattern.

    Example: keras-resnet recipes '*cifar*'
    """
    from keras_resnet.recipe import RecipeError
    from keras_resnet.recipes import ROWS

    rows = [row for row in ROWS if fnmatchcase(row.recipe.name, pattern)]
    if not rows:
        raise RecipeError(f"pattern: no recipe matches {pattern!r}")
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
        click.echo(json.dumps(fields, indent=2))
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
@click.option(
    "--recipe", default="digits", help="Name or JSON file.", show_default=True
)
@click.option("--model", help="A preset instead of the recipe's network.")
@click.option("--spec", "spec_file", type=click.Path(path_type=Path), help="Its JSON.")
@click.option(
    "--weights",
    help="Start from them, under a new head: a run folder, a file or a published "
    "name. The network is theirs where it is known.",
)
@click.option(
    "--freeze", help="Last stage to keep as it is, such as conv4; all: train the head."
)
@click.option(
    "--data",
    help="digits, fashion_mnist, tfds:NAME[:CONFIG], folder:PATH or FILE.npz; by "
    "default what the recipe is for.",
)
@click.option(
    "--data-dir",
    type=click.Path(path_type=Path),
    help="Folder of IDX files, or of what TFDS has prepared.",
)
@click.option("--download", is_flag=True, help="Let TFDS fetch what isn't prepared.")
@click.option("--strict", is_flag=True, help="An unreadable image is an error.")
@click.option(
    "--train-images", type=click.IntRange(1), help="Learn from so many of the images."
)
@click.option("--folder", type=click.Path(path_type=Path), help="Run folder.")
@click.option("--seed", default=0, type=click.IntRange(0, 2**32 - 1), show_default=True)
@click.option("--epochs", type=click.IntRange(1), help="Instead of the recipe's.")
@click.option(
    "--batch-size",
    type=click.IntRange(1),
    help="Instead of the recipe's, over all devices; the learning rate stays.",
)
@click.option("--learning-rate", type=float, help="Instead of the recipe's.")
@click.option("--image-size", type=click.IntRange(1), help="Instead of the recipe's.")
@click.option(
    "--smoke", is_flag=True, help="Try it out: a small network and few steps."
)
@click.option(
    "--strategy",
    default="auto",
    type=click.Choice(["auto", "one", "mirrored", "multiworker"]),
    show_default=True,
    help="One device, the GPUs of this machine, or the workers of TF_CONFIG.",
)
@click.option(
    "--precision",
    default="auto",
    type=click.Choice(["auto", "float32", "mixed_bfloat16", "mixed_float16"]),
    show_default=True,
    help="auto: mixed on GPUs with tensor cores.",
)
@click.option(
    "--sync-batch-norm", is_flag=True, help="Batch statistics over all devices."
)
@click.option("--recompute", is_flag=True, help="Less memory for a third more time.")
@click.option(
    "--resume/--no-resume",
    default=True,
    help="Go on with an unfinished run in --folder (the default), or refuse it.",
)
@click.option(
    "--checkpoint-minutes",
    type=click.FloatRange(0),
    default=10.0,
    show_default=True,
    help="Between two checkpoints within an epoch.",
)
@click.option("--track/--no-track", default=True, help="Log to MLflow.")
@click.option(
    "--experiment", default="keras_resnet", show_default=True, help="MLflow's."
)
@click.option("--register", help="Make the model a version of NAME, as NAME@ALIAS.")
@click.option(
    "--tag", "tags", multiple=True, help="KEY=VALUE for MLflow; may be repeated."
)
def train(
    recipe: str,
    model: str | None,
    spec_file: Path | None,
    weights: str | None,
    freeze: str | None,
    data: str | None,
    data_dir: Path | None,
    download: bool,
    strict: bool,
    train_images: int | None,
    folder: Path | None,
    seed: int,
    epochs: int | None,
    batch_size: int | None,
    learning_rate: float | None,
    image_size: int | None,
    smoke: bool,
    strategy: str,
    precision: str,
    sync_batch_norm: bool,
    recompute: bool,
    resume: bool,
    checkpoint_minutes: float,
    track: bool,
    experiment: str,
    register: str | None,
    tags: tuple[str, ...],
) -> None:
    """Train a network, test it, log it to MLflow and export it.

    With no arguments: a small residual network on scikit-learn's digits, in about a
    minute. An unfinished run named by --folder is continued.

    Example: keras-resnet train --recipe folder --data folder:photos

    Example: keras-resnet train --recipe finetune --weights runs/demo --freeze conv3
    --data folder:photos
    """
    labels = _tags(tags)
    if not track and (register or tags):
        option = "register" if register else "tag"
        raise UserError(f"{option}: with --no-track there is no MLflow; leave one out")
    chosen, data = recipe_and_data(recipe, data)
    spec = spec_from(model, spec_file)
    chosen = chosen.over(epochs or chosen.epochs)
    changes = {
        "model": spec,
        "freeze": freeze,
        "batch_size": batch_size,
        "learning_rate": learning_rate,
        "image_size": image_size,
    }
    chosen = chosen.replace(**{k: v for k, v in changes.items() if v is not None})
    network = chosen.model
    chosen = chosen.smoke() if smoke else chosen
    if strategy == "multiworker":
        # TensorFlow would print a page on a lost worker, where we print a line.
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    runtime.prepare()
    from keras_resnet.training import follow
    from keras_resnet.training.devices import distribution

    if weights:
        chosen = chosen.replace(model=network)
        chosen = chosen if spec else follow(chosen, weights)
    devices = distribution.make_strategy(strategy)
    chief = distribution.is_chief(devices)
    from rich.console import Console

    from keras_resnet import runfolder
    from keras_resnet.recipe import SMOKE_STEPS
    from keras_resnet.tracking import MLflowTracker
    from keras_resnet.tracking.address import ui_command
    from keras_resnet.training import train as run_training

    console = Console(highlight=False, markup=False)
    tracker = None
    if track and chief:
        tracker = MLflowTracker(experiment, console, register=register, tags=labels)
    folder = folder or runfolder.new_name(chosen.name)
    with warnings_as_lines():
        try:
            result = run_training(
                chosen,
                data=data,
                weights=weights,
                folder=folder,
                seed=seed,
                strategy=devices,
                tracker=tracker,
                console=console if chief else None,
                precision=distribution.precision()
                if precision == "auto"
                else precision,
                sync_batch_norm=sync_batch_norm,
                recompute=recompute,
                steps=SMOKE_STEPS if smoke else None,
                resume=resume,
                checkpoint_minutes=checkpoint_minutes,
                data_dir=data_dir,
                download=download,
                strict=strict,
                train_images=train_images,
            )
        except KeyboardInterrupt as stop:
            click.echo(f"\nstopped; the same command with --folder {folder} goes on")
            raise SystemExit(getattr(stop, "code", 130)) from None
    if not chief:
        return
    click.echo(f"\n{_verdict(result.metrics)}; best epoch by validation loss")
    click.echo(f"run folder  {result.folder}")
    click.echo(f"SavedModel  {result.export}")
    if result.run_id:
        click.echo(f"MLflow run  {result.run_id}")
    click.echo("\nnext:")
    click.echo(f"  keras-resnet evaluate {result.folder}")
    if (result.folder / "samples").exists():
        click.echo(
            f"  keras-resnet predict {result.folder} {result.folder}/samples/*.png"
        )
    if tracker and result.run_id:
        click.echo(f"  {ui_command(tracker.store)}")


def _tags(pairs: tuple[str, ...]) -> dict[str, str]:
    """What --tag gives."""
    for pair in pairs:
        if "=" not in pair.lstrip("="):
            raise UserError(f"tag: {pair!r} is not KEY=VALUE")
    return dict(pair.split("=", 1) for pair in pairs)


def _verdict(metrics: dict[str, float]) -> str:
    """Test metrics on one line."""
    right = round(metrics["accuracy"] * metrics["images"])
    parts = [
        f"test accuracy {metrics['accuracy']:.2%} ({right} of "
        f"{metrics['images']:.0f} images)",
        f"cross-entropy {metrics['loss']:.4f}",
        f"calibration error {metrics['calibration_error']:.2%}",
    ]
    if "top5_accuracy" in metrics:
        parts.insert(1, f"top-5 {metrics['top5_accuracy']:.2%}")
    return ", ".join(parts)


@main.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.option("--data", help="The same images, where they are elsewhere now.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def evaluate(run: Path, data: str | None, as_json: bool) -> None:
    """Test a run's best model on the test images of its data.

    Example: keras-resnet evaluate runs/demo
    """
    from keras_resnet import runfolder

    runfolder.check_trained(run)
    runtime.prepare()
    from keras_resnet.training import evaluate as run_evaluation

    with warnings_as_lines():
        metrics = run_evaluation(run, **({"source": data} if data else {}))
    if as_json:
        click.echo(json.dumps(metrics))
    else:
        click.echo(_verdict(metrics))


@main.command()
@click.argument("model", type=click.Path(path_type=Path))
@click.argument("images", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--top", default=3, type=click.IntRange(1), show_default=True)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def predict(model: Path, images: tuple[Path, ...], top: int, as_json: bool) -> None:
    """Name the classes of image files with their probabilities.

    MODEL is a run folder or a SavedModel's version folder. Images are read as the
    model's channels and resized to its size.

    Example: keras-resnet predict runs/demo runs/demo/samples/*.png
    """
    from keras_resnet import runfolder, serving

    if not serving.is_saved_model(model):
        runfolder.check_trained(model)
    runtime.prepare()
    from keras_resnet.prediction import predict_files

    predictions = predict_files(model, images)
    if as_json:
        click.echo(
            json.dumps(
                [
                    {"image": str(path), "classes": dict(ranked[:top])}
                    for path, ranked in predictions
                ],
                indent=2,
            )
        )
        return
    for path, ranked in predictions:
        guesses = "  ".join(f"{name} {share:.1%}" for name, share in ranked[:top])
        click.echo(f"{path}: {guesses}")
