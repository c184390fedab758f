"""Test accuracy of recipes, seed by seed: the table of the README.

    python -m benchmarks.accuracy [--recipe NAME] [--seeds N] [--folder FOLDER]

Runs are kept in the folder, one for each recipe and seed: those that have ended are not
run again, so the command also gathers what is there.
"""

from __future__ import annotations

from pathlib import Path
from statistics import mean, stdev

import click
from rich.console import Console

from benchmarks import options, report
from keras_resnet.run import Run

SEEDS = {"digits": 8, "fashion_mnist": 3}
COLUMNS = {
    "recipe": ("case", ""),
    "seeds": ("seeds", ""),
    "test images": ("images", ""),
    "mean accuracy": ("mean", ".2%"),
    "deviation": ("deviation", ".2%"),
    "least": ("least", ".2%"),
    "greatest": ("greatest", ".2%"),
    "training, s": ("seconds", ".0f"),
}


def result_of(recipe: str, seed: int, folder: Path) -> dict:
    """A run's result; the run is trained if it isn't there."""
    run = Run(folder / f"{recipe}-{seed}")
    if not run.is_finished:
        from keras_resnet import training

        training.train(
            recipe,
            data=recipe,  # these two are named for their data
            folder=run.folder,
            seed=seed,
            export=False,
            console=Console(stderr=True),
        )
    return run.result


@click.command()
@options.several("--recipe", "recipes", SEEDS, SEEDS)
@click.option("--seeds", type=click.IntRange(2), help="Of each; 8 and 3.")
@click.option(
    "--folder", type=click.Path(path_type=Path), default=Path("runs/accuracy")
)
@options.out()
def main(recipes: tuple[str, ...], seeds: int | None, folder: Path, out: Path) -> None:
    """Train recipes with several seeds and report their test accuracy."""
    from keras_resnet import runtime

    runtime.prepare()
    records = []
    for recipe in recipes:
        found = [
            result_of(recipe, seed, folder) for seed in range(seeds or SEEDS[recipe])
        ]
        accuracies = [result["test_accuracy"] for result in found]
        records.append(
            {
                "case": recipe,
                "seeds": len(found),
                "images": int(found[0]["test_images"]),
                "accuracies": accuracies,
                "mean": mean(accuracies),
                "deviation": stdev(accuracies),
                "least": min(accuracies),
                "greatest": max(accuracies),
                "seconds": min(result["train_seconds"] for result in found),
            }
        )
    report.publish(out, "Test accuracy", COLUMNS, records)


if __name__ == "__main__":
    main()
