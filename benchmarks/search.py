"""A search over depth, width and cardinality at equal cost, and its winner judged.

    python -m benchmarks.search

On 10,000 images of Fashion-MNIST of 14x14 pixels, a tenth of them for validation; the
default is ResNet-20, and every candidate costs its multiply-adds. About half an hour on
2 cores: 18 minutes of trials, then winner and default over 5 seeds, judged on the
10,000 test images. The same command goes on where it was stopped.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click
import numpy as np
from rich.console import Console

from benchmarks import options, report
from keras_resnet import cifar_resnet, data, files, runtime, training
from keras_resnet.tracking import MLflowTracker
from keras_resnet.units import in_units
from tuning import SearchResult, Space, search
from tuning.budget import TOLERANCE, macs_of
from tuning.retrain import Comparison, retrain
from tuning.trials import REPORT

DOCS = Path(__file__).parents[1] / "docs" / "results" / "search"
IMAGES, SIDE = 10_000, 14
DEFAULT = cifar_resnet(20, input_shape=(SIDE, SIDE, 1))
SPACE = Space(
    name="shapes",
    block=("basic", "bottleneck"),
    depth=(8, 14, 20, 32, 44),
    cardinality=(1, 2, 4, 8),
)


@click.command()
@click.option("--folder", default="runs/shapes", show_default=True)
@click.option("--minutes", default=18.0, show_default=True, help="Of trials.")
@click.option("--epochs", default=10, show_default=True, help="Of every training.")
@click.option("--seeds", default=5, show_default=True, help="That judge the winner.")
@options.out(DOCS)
def main(folder: str, minutes: float, epochs: int, seeds: int, out: Path) -> None:
    """Searches, compares, writes what came of it."""
    runtime.prepare()
    console = Console(highlight=False, markup=False)
    images = write_images(Path(f"{folder}.npz"))
    recipe = training.get_recipe("fashion_mnist").over(epochs)
    recipe = recipe.replace(model=DEFAULT, name="shapes")
    tracker = MLflowTracker("shapes", console)
    found = search(
        SPACE,
        recipe,
        data=images,
        budget=f"{macs_of(DEFAULT)}MAC,{minutes}min",
        mode="iso",
        trials=100,
        folder=folder,
        tracker=tracker,
        console=console,
    )
    compared = retrain(
        found,
        recipe,
        images,
        seeds=range(1, 1 + seeds),
        tracker=tracker,
        console=console,
    )
    report.write(out, records(found, compared))
    for path in (found.folder / REPORT).glob("[!.]*"):
        shutil.copy(path, out)
    page = out / "README.md"
    body = page.read_text().removeprefix("# Search\n\n")
    files.write_text(page, heading(minutes, epochs, seeds) + body)
    console.print(f"\n{compared.verdict}\n{out} written", soft_wrap=True)


def write_images(path: Path) -> str:
    """The first 10,000 training images in a seeded order, and all test images."""
    if not path.exists():
        splits = data.load("fashion_mnist", batch_size=1000, image_size=SIDE)
        parts = {"train": splits.train.take(IMAGES // 1000), "test": splits.test}
        write_arrays(path, parts)
    return str(path)


def write_arrays(path: Path, parts: Mapping[str, Any]) -> None:
    """Batches of (images, labels) as the `.npz` file that `data.load` reads."""
    arrays = {}
    for name, batches in parts.items():
        pixels, labels = zip(*batches.as_numpy_iterator(), strict=True)
        arrays[f"x_{name}"] = np.concatenate(pixels)
        arrays[f"y_{name}"] = np.concatenate(labels)
    path.parent.mkdir(parents=True, exist_ok=True)
    with files.replacing(path) as temporary:
        np.savez_compressed(temporary, **arrays)


def records(found: SearchResult, compared: Comparison) -> list[dict[str, Any]]:
    """A record a trial and a seed, and one of the test."""
    trials = [
        {
            "case": "trials",
            "trial": trial.id,
            "status": trial.status,
            "reason": trial.reason,
            **trial.hyperparameters,
            **trial.metrics,
        }
        for trial in found.trials
    ]
    pairs = zip(compared.seeds, compared.best, compared.default, strict=True)
    seeds = [
        {"case": "test images", "seed": seed, "winner": winner, "default": default}
        for seed, winner, default in pairs
    ]
    keys = ("trial", "difference", "low", "high", "p_value", "verdict")
    test = {key: getattr(compared, key) for key in keys}
    return [*trials, *seeds, {"case": "paired t-test", **test}]


def heading(minutes: float, epochs: int, seeds: int) -> str:
    """What was searched, how, and on what."""
    facts = report.machine()
    versions = ", ".join(f"{name} {v}" for name, v in facts["versions"].items() if v)
    macs = in_units(macs_of(DEFAULT), "")
    return f"""# A search at equal cost

`python -m benchmarks.search --minutes {minutes:g} --epochs {epochs} --seeds {seeds}`
on {facts["cpu"]}, {facts["cores"]} cores; {versions}.

{IMAGES:,} images of Fashion-MNIST of {SIDE}x{SIDE} pixels, a tenth of them for
validation; {epochs} epochs of the recipe `fashion_mnist`. The default is ResNet-20, and
every network gets the widths at which it costs its {macs} multiply-adds, within
{TOLERANCE:.0%}. `search.json` has all figures.

"""


if __name__ == "__main__":
    main()
