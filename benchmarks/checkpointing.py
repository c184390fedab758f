"""What checkpoints cost: the seconds that they take beside those of the training.

    python -m benchmarks.checkpointing [--images N] [--epochs N]

ResNet-20 on images of CIFAR's size. The callback's own seconds are counted, so that
both are of one run on one machine: a checkpoint at each epoch's end and the best model
where it is one, and what a checkpoint within an epoch takes every ten minutes.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Any

import click
import numpy as np

from benchmarks import options, report
from keras_resnet import runtime

CIFAR = 45_000  # training images an epoch
COLUMNS = {
    "network": ("case", ""),
    "s an epoch": ("epoch", ".1f"),
    "s at its end": ("end", ".3f"),
    "of the epoch": ("end_share", ".2%"),
    "s within it": ("within", ".3f"),
    "of the time": ("within_share", ".3%"),
}


@click.command()
@options.count("--images", 2560, "Of an epoch.")
@options.count("--epochs", 3)
@options.out()
def main(images: int, epochs: int, out: Path) -> None:
    """Compare the seconds of checkpoints with those of training."""
    runtime.prepare()
    from keras_resnet import build, cifar_resnet, data
    from keras_resnet.training import fit, get_recipe
    from keras_resnet.training.resume import MINUTES, RunState

    spent = {"within": [0.0], "end": [0.0]}

    def timed(name: str, kind: str) -> None:
        method = getattr(RunState, name)

        def run(*arguments: Any) -> None:
            begun = time.perf_counter()
            method(*arguments)
            spent[kind].append(time.perf_counter() - begun)

        setattr(RunState, name, run)

    timed("_write", "within")
    timed("on_epoch_end", "end")
    random = np.random.default_rng(0)
    pixels = random.integers(0, 256, (images + 640, 32, 32, 3), np.uint8)
    labels = np.arange(len(pixels)) % 10
    train = pixels[:images], labels[:images]
    test = pixels[images:], labels[images:]
    splits = data.load({"train": train, "test": test})
    recipe = get_recipe("digits").replace(
        model=cifar_resnet(20), epochs=epochs, warmup_epochs=0
    )
    model = build(recipe.model, pixel_stats=splits.pixel_stats)
    begun = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        fit(model, recipe, splits, folder=Path(folder))
    seconds = time.perf_counter() - begun
    epoch = (seconds - sum(spent["end"])) / epochs
    epoch *= CIFAR / splits.counts["train"]
    end, within = (float(np.mean(spent[kind][1:])) for kind in ("end", "within"))
    record = {
        "case": "ResNet-20",
        "epoch": epoch,
        "end": end,
        "end_share": end / epoch,
        "within": within,
        "within_share": within / (60 * MINUTES),
    }
    note = f"An epoch of {CIFAR:,} images; within it, one every {MINUTES:g} minutes."
    report.publish(out, "Checkpoints", COLUMNS, [record], note)


if __name__ == "__main__":
    main()
