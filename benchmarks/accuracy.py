"""Test accuracy of recipes, seed by seed: the table of the README.

    python -m benchmarks.accuracy [--recipe NAME] [--seeds N] [--folder FOLDER]

Runs are kept in the folder, one for each recipe and seed: those that have ended are not
run again, so the command also gathers what is there. Recipes that are left out keep
what was last measured of them.
"""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from statistics import mean, stdev

import click
from rich.console import Console

from benchmarks import options, report
from keras_resnet.recipe import Recipe
from keras_resnet.recipes import get_recipe
from keras_resnet.run import Run

# Recipe -> data, seeds, and the precision where it is not float32.
CASES: dict[str, tuple[str, int, str | None]] = {
    "digits": ("digits", 20, None),
    "fashion_mnist": ("fashion_mnist", 3, None),
    "fashion_mnist_fast": ("fashion_mnist", 3, "mixed_bfloat16"),
}
COLUMNS = {
    "recipe": ("case", ""),
    "seeds": ("seeds", ""),
    "test images": ("images", ""),
    "mean accuracy": ("mean", ".2%"),
    "deviation": ("deviation", ".2%"),
    "least": ("least", ".2%"),
    "greatest": ("greatest", ".2%"),
    "training, s": ("seconds", ".0f"),
    "date": ("date", ""),
    "processor": ("cpu", ""),
    "version": ("version", ""),
}


def run_of(
    recipe: Recipe, data: str, seed: int, folder: Path, precision: str | None = None
) -> Run:
    """A run that has ended; it is trained, or goes on, if it hasn't."""
    run = Run(folder)
    if not run.is_finished:
        from keras_resnet import training

        training.train(
            recipe,
            data=data,
            folder=folder,
            seed=seed,
            precision=precision,
            export=False,
            console=Console(stderr=True),
        )
    return run


@click.command()
@options.several("--recipe", "recipes", CASES, CASES)
@click.option(
    "--seeds", type=click.IntRange(2), help="Of each; 20 of the digits, 3 of others."
)
@click.option(
    "--folder", type=click.Path(path_type=Path), default=Path("runs/accuracy")
)
@options.out()
def main(recipes: tuple[str, ...], seeds: int | None, folder: Path, out: Path) -> None:
    """Train recipes with several seeds and report their test accuracy."""
    from keras_resnet import runtime

    runtime.prepare()
    records = {record["case"]: record for record in report.last(out)}
    facts = report.machine()
    for recipe in recipes:
        data, usual, precision = CASES[recipe]
        found = [
            run_of(
                get_recipe(recipe), data, seed, folder / f"{recipe}-{seed}", precision
            ).result
            for seed in range(seeds or usual)
        ]
        accuracies = [result["test_accuracy"] for result in found]
        records[recipe] = {
            "case": recipe,
            "precision": precision,
            "seeds": len(found),
            "images": int(found[0]["test_images"]),
            "accuracies": accuracies,
            "mean": mean(accuracies),
            "deviation": stdev(accuracies),
            "least": min(accuracies),
            "greatest": max(accuracies),
            "seconds": min(result["train_seconds"] for result in found),
            "date": datetime.now(UTC).date().isoformat(),
            "cpu": facts["cpu"],
            "version": facts["versions"]["keras-residual"],
        }
    known = [records[recipe] for recipe in CASES if recipe in records]
    report.publish(out, "Test accuracy", COLUMNS, known)


if __name__ == "__main__":
    main()
