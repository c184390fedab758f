"""The search for networks: tune."""

from __future__ import annotations

import json
import os
import re
import sys
from pathlib import Path
from typing import Any

import click

from keras_resnet import runtime
from keras_resnet.cli.group import main
from keras_resnet.cli.options import read_text, recipe_and_data, spec_from
from keras_resnet.cli.output import warnings_as_lines
from keras_resnet.errors import UserError


@main.command()
@click.option(
    "--space",
    default="wide",
    help="depth, wide, resnext, all, or a JSON file.",
    show_default=True,
)
@click.option(
    "--recipe", default="digits", help="The base: a name or a JSON file.",
    show_default=True,
)  # fmt: skip
@click.option("--model", help="A preset instead of the recipe's network.")
@click.option("--spec", "spec_file", type=click.Path(path_type=Path), help="Its JSON.")
@click.option("--data", help="As for train; by default what the recipe is for.")
@click.option("--data-dir", type=click.Path(path_type=Path), help="As for train.")
@click.option("--download", is_flag=True, help="Let TFDS fetch what isn't prepared.")
@click.option("--epochs", type=click.IntRange(1), help="Of a trial.")
@click.option("--image-size", type=click.IntRange(1), help="Instead of the recipe's.")
@click.option(
    "--budget",
    help="Limits of a network and of the search: 4.1GMAC,2Mparam,500MB,5ms,2h.",
)
@click.option(
    "--over",
    "mode",
    type=click.Choice(["refuse", "repair", "iso"]),
    default="refuse",
    show_default=True,
    help="What becomes of networks over the budget: left out, made narrower; iso: all "
    "get the widths at which they cost the budget's multiply-adds.",
)
@click.option(
    "--objective",
    type=click.Choice(["accuracy", "pareto"]),
    default="accuracy",
    show_default=True,
    help="pareto: against multiply-adds.",
)
@click.option(
    "--tuner",
    type=click.Choice(["random", "bayesian", "hyperband", "grid"]),
    default="random",
    show_default=True,
)
@click.option(
    "--trials",
    type=click.IntRange(1),
    help="At most; 20 by default. Hyperband has its own number.",
)
@click.option("--folder", type=click.Path(path_type=Path), help="Of the search.")
@click.option("--seed", default=0, type=click.IntRange(0, 2**32 - 2), show_default=True)
@click.option(
    "--strategy",
    default="auto",
    type=click.Choice(["auto", "one", "mirrored"]),
    show_default=True,
    help="What each trial trains under.",
)
@click.option(
    "--workers",
    type=click.IntRange(1),
    help="Search by so many processes of this machine; those that die start again.",
)
@click.option(
    "--chief",
    help="HOST:PORT: be the chief of workers on other machines and listen there; or, "
    "with --worker, work for it. It has no authentication.",
)
@click.option("--worker", help="Be the worker of this name, which must be its own.")
@click.option(
    "--retrain",
    "seeds",
    type=click.IntRange(1),
    help="Train winner and default over so many seeds; compare them on test images.",
)
@click.option(
    "--retrain-epochs",
    type=click.IntRange(1),
    help="Of those; as a trial's if left out.",
)
@click.option("--track/--no-track", default=True, help="Log to MLflow.")
@click.option("--experiment", default="keras_resnet", show_default=True, help="Its.")
@click.option(
    "--register",
    help="Make the best model a version of NAME or NAME@ALIAS; by default of the "
    "folder's name, at best.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def tune(
    space: str,
    recipe: str,
    model: str | None,
    spec_file: Path | None,
    data: str | None,
    data_dir: Path | None,
    download: bool,
    epochs: int | None,
    image_size: int | None,
    budget: str | None,
    mode: Any,
    objective: Any,
    tuner: Any,
    trials: int | None,
    folder: Path | None,
    seed: int,
    strategy: str,
    workers: int | None,
    chief: str | None,
    worker: str | None,
    seeds: int | None,
    retrain_epochs: int | None,
    track: bool,
    experiment: str,
    register: str | None,
    as_json: bool,
) -> None:
    """Search depth, width and cardinality for a better network.

    Networks are costed before they are built. The same command with the same --folder
    goes on with a search that was interrupted or killed.

    Example: keras-resnet tune --space wide --budget 40MMAC --folder runs/search
    """
    from tuning import processes
    from tuning.space import Space
    from tuning.supervisor import supervise

    if tuner == "hyperband" and trials:
        raise UserError(
            "trials: hyperband has its own number, which follows from the epochs; "
            "leave --trials out"
        )
    if register and not track:
        raise UserError("register: with --no-track there is no registry; leave one out")
    if retrain_epochs and not seeds:
        raise UserError("retrain-epochs: says nothing without --retrain")
    if (workers or worker or chief) and not folder:
        raise UserError(
            "folder: several processes need --folder, which all of them see"
        )
    if workers and chief:
        raise UserError("workers: with --chief, whose workers are started one by one")
    if worker and not chief:
        raise UserError(f"worker: {worker!r} needs --chief HOST:PORT")
    if worker and ("chief" in worker or not re.fullmatch(r"\w[\w.-]*", worker)):
        raise UserError(
            f"worker: {worker!r} is no name of letters, digits and _ . -, without "
            "'chief', that is its own"
        )
    base, data = recipe_and_data(recipe, data)
    base = base.over(epochs or base.epochs)
    changes = {"model": spec_from(model, spec_file), "image_size": image_size}
    base = base.replace(**{k: v for k, v in changes.items() if v is not None})
    searched = (
        Space.from_json(read_text(Path(space))) if space.endswith(".json") else space
    )
    if chief:
        address = processes.parse_address(chief)
        os.environ.update(processes.variables(address, worker or "chief"))
        if worker:
            processes.wait_for_chief(address)
        else:
            processes.check_address(address)
    supervised = bool(workers and processes.own_address())
    if workers and not supervised:
        try:
            code = supervise(
                [sys.executable, "-m", "keras_resnet.cli", *sys.argv[1:]],
                workers,
                processes.free_address(),
                lambda line: click.echo(line, err=True),
            )
        except KeyboardInterrupt:
            click.echo("\nstopped; the same command goes on")
            raise SystemExit(130) from None
        if code:
            raise SystemExit(code)
    runtime.prepare()
    from rich.console import Console

    import tuning
    from keras_resnet.run import new_folder
    from keras_resnet.tracking import MLflowTracker
    from keras_resnet.training.devices import distribution
    from tuning.searching import read_result
    from tuning.trials import REPORT

    devices = distribution.make_strategy(strategy)
    console = Console(highlight=False, markup=False, stderr=as_json)
    folder = folder or new_folder("search")
    tracker = (
        MLflowTracker(
            experiment,
            console,
            register=register
            or re.sub("[@/:]", "-", folder.resolve().name) + "@best",
        )
        if track
        else None
    )  # fmt: skip
    loading = {"data_dir": data_dir, "download": download}
    with warnings_as_lines():
        try:
            if workers and not supervised:
                result = read_result(folder)
            else:
                result = tuning.search(
                    searched,
                    base,
                    data=data,
                    budget=budget,
                    mode=mode,
                    objective=objective,
                    tuner=tuner,
                    trials=trials or 20,
                    folder=folder,
                    seed=seed,
                    strategy=devices,
                    tracker=tracker,
                    console=console,
                    **loading,
                )
            if supervised:
                return  # the process that started this one goes on
            comparison = None
            if seeds:
                from tuning.retrain import retrain

                comparison = retrain(
                    result,
                    base,
                    data,
                    seeds=range(seed + 1, seed + 1 + seeds),
                    epochs=retrain_epochs,
                    strategy=devices,
                    tracker=tracker,
                    console=console,
                    **loading,
                )
        except KeyboardInterrupt:
            click.echo(f"\nstopped; the same command with --folder {folder} goes on")
            raise SystemExit(130) from None
    best = result.best
    if as_json:
        fields = {
            "folder": str(folder),
            "trial": best.trial,
            "hyperparameters": best.values,
            "metrics": best.metrics,
            "comparison": comparison._asdict() if comparison else None,
        }
        click.echo(json.dumps(fields, indent=2))
        return
    click.echo(
        f"\nbest of {len(result.rows)} trials: {best.trial}, validation accuracy "
        f"{best.metrics['val_accuracy']:.2%}"
    )
    if comparison:
        click.echo(comparison.verdict)
    click.echo(f"search  {folder}")
    click.echo(f"report  {folder / REPORT}")
    click.echo("\nnext:")
    click.echo(
        f"  keras-resnet train --recipe {folder}/best.json --data {data} --seed {seed}"
    )
