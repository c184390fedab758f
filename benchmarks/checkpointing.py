"""What checkpoints cost: the seconds that they take beside those of the training.

    python -m benchmarks.checkpointing [--images 2560] [--epochs 3]

ResNet-20 on images of CIFAR's size. The callback's own seconds are counted, so that
both are of one run on one machine: a checkpoint at each epoch's end and the best model
where it is one, and what a checkpoint within an epoch takes every ten minutes.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

CIFAR = 45_000  # training images an epoch


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--images", type=int, default=2560)
    parser.add_argument("--epochs", type=int, default=3)
    given = parser.parse_args()

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
    images = random.integers(0, 256, (given.images + 640, 32, 32, 3), np.uint8)
    labels = np.arange(len(images)) % 10
    cut = given.images
    splits = data.load(
        {"train": (images[:cut], labels[:cut]), "test": (images[cut:], labels[cut:])}
    )
    recipe = get_recipe("digits").replace(
        model=cifar_resnet(20), epochs=given.epochs, warmup_epochs=0
    )
    model = build(recipe.model, pixel_stats=splits.pixel_stats)
    begun = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        fit(model, recipe, splits, folder=Path(folder))
    seconds = time.perf_counter() - begun
    epoch = (seconds - sum(spent["end"])) / given.epochs
    epoch *= CIFAR / splits.counts["train"]
    end, within = (float(np.mean(spent[kind][1:])) for kind in ("end", "within"))
    print(f"ResNet-20, an epoch of {CIFAR:,} images: {epoch:.1f} s")
    print(f"an epoch's end: {end:.3f} s, {end / epoch:.2%}")
    share = within / (60 * MINUTES)
    print(f"within an epoch: {within:.3f} s every {MINUTES:g} minutes, {share:.3%}")


if __name__ == "__main__":
    main()
