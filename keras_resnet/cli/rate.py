"""Learning rates to try first."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from keras_resnet import runtime
from keras_resnet.cli import options
from keras_resnet.cli.group import main
from keras_resnet.cli.output import warnings_as_lines
from keras_resnet.errors import UserError


@main.command()
@click.argument("run", type=options.PATH, required=False)
@options.gather(
    "training",
    options.Training,
    options.recipe,
    options.model,
    options.spec,
    options.data,
    options.assignments,
)
@options.gather("loading", dict, options.data_dir, options.download)
@click.option("--low", type=options.Finite(0, min_open=True), default=1e-5)
@click.option("--high", type=options.Finite(0, min_open=True), default=10.0)
@click.option("--steps", type=click.IntRange(20), default=100, show_default=True)
@click.option("--seed", default=0, type=click.IntRange(0, 2**32 - 1), show_default=True)
@click.option("--out", type=options.PATH, default=Path("rate.png"), show_default=True)
def rate(
    run: Path | None,
    training: options.Training,
    loading: dict[str, Any],
    low: float,
    high: float,
    steps: int,
    seed: int,
    out: Path,
) -> None:
    """Try growing learning rates for some steps, and draw the loss (a range test).

    Of RUN's recipe and data, or of --recipe and --data, from random weights. Where the
    loss falls fastest is a rate to try first; it proves nothing about a whole training.

    Example: keras-resnet rate --recipe folder --data folder:photos
    """
    from keras_resnet import files
    from keras_resnet.run import Run

    if not low < high:
        raise UserError(f"low: {low:g} is not below --high, {high:g}")
    if out.suffix != ".png":
        raise UserError(f"out: {out} is no .png file")
    files.check_folder(out.parent, "out")
    source: dict[str, Any]
    if run:
        own = {"recipe", "model", "spec_file", "data", "data_dir", "download"}
        if given := options.given() & own:
            raise UserError(
                f"{min(given).removesuffix('_file').replace('_', '-')}: {run} has its "
                "own; leave one of them out"
            )
        opened = Run(run)
        opened.check_exists()
        opened.check_data()
        recipe, source = opened.recipe, opened.data["arguments"]
        recipe = recipe.set(training.assignments)
    else:
        from keras_resnet.data import sources

        recipe, name = training.resolve()
        sources.look(name, recipe.task, **loading)
        options.check_size(recipe, name)
        source = {"source": name, "seed": seed, **loading}
        source |= {"image_size": recipe.image_size, "test_size": recipe.test_size}
    source = {**source, "task": recipe.task}
    runtime.prepare()
    import keras

    from keras_resnet import data
    from keras_resnet.network import build
    from keras_resnet.training import rate_range

    with warnings_as_lines():
        splits = data.load(
            **source,
            batch_size=recipe.batch_size,
            augment=recipe.augment,
            sampling=recipe.sampling,
        )
    keras.utils.set_random_seed(seed)
    model = build(
        recipe.model,
        input_shape=splits.image_shape,
        classes=splits.units,
        pixel_stats=splits.pixel_stats,
        target_stats=splits.target_stats,
    )
    found = rate_range.range_test(
        model, recipe, splits, low=low, high=high, steps=steps
    )
    rate_range.draw_rates(found, out, recipe.learning_rate)
    click.echo(
        f"the loss falls fastest at {found.suggestion:.2g}; the recipe has "
        f"{recipe.learning_rate:g}. A rate to try first, no proof: a whole training "
        "decides."
    )
    click.echo(f"curve  {out}")
