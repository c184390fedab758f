"""A search over depth, width and cardinality at equal cost, and its winner judged.

    python -m benchmarks.search --folder runs/shapes

On 10,000 images of Fashion-MNIST of 14x14 pixels, a tenth of them for validation; the
default is ResNet-20, and every candidate costs its multiply-adds. About half an hour on
2 cores: 18 minutes of trials, then winner and default over 5 seeds, judged on the
10,000 test images. The same command goes on where it was stopped.

"Beside the epochs" is what search, tuner, tracking, building and saving took, as a
share of the epochs' own time.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
from rich.console import Console

from keras_resnet import cifar_resnet, data, runfolder, runtime, training
from tuning import Space, search
from tuning.budget import quick_cost
from tuning.report import write_report
from tuning.retrain import retrain

IMAGES, SIDE = 10_000, 14
SPACE = Space(
    name="shapes",
    block=("basic", "bottleneck"),
    depth=(8, 14, 20, 32, 44),
    cardinality=(1, 2, 4, 8),
)


def main() -> None:
    """Searches, compares, prints."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, default=Path("runs/shapes"))
    parser.add_argument("--minutes", type=float, default=18)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--seeds", type=int, default=5)
    arguments = parser.parse_args()
    runtime.prepare()
    from keras_resnet.tracking import MLflowTracker

    images = arguments.folder.with_suffix(".npz")
    if not images.exists():
        _write_images(images)
    recipe = training.get_recipe("fashion_mnist").over(arguments.epochs)
    model = cifar_resnet(20, input_shape=(SIDE, SIDE, 1))
    recipe = recipe.replace(model=model, name="shapes")
    console = Console(highlight=False, markup=False)
    began = time.monotonic()
    result = search(
        SPACE,
        recipe,
        data=str(images),
        budget=f"{quick_cost(model).macs}MAC,{arguments.minutes}min",
        mode="iso",
        trials=100,
        folder=arguments.folder,
        tracker=MLflowTracker("shapes", console),
        console=console,
    )
    took = time.monotonic() - began
    done = [row for row in result.rows if row.status == "COMPLETED"]
    epochs = sum(
        row["seconds"]
        for trial in done
        for row in runfolder.read_lines(trial.run / runfolder.HISTORY)
    )
    write_report(arguments.folder, "accuracy", model)
    compared = retrain(
        arguments.folder,
        result.recipe,
        recipe,
        str(images),
        seeds=range(1, 1 + arguments.seeds),
    )
    print(f"\n{len(done)} trials; beside the epochs {took / epochs - 1:.1%}")
    print(f"winner: trial {result.best.trial}, {result.best.values}")
    print(compared.verdict)
    print("seeds  winner  default")
    for seed, pair in enumerate(zip(compared.best, compared.default, strict=True), 1):
        print(f"{seed:5}  {pair[0]:6.2%}  {pair[1]:7.2%}")


def _write_images(path: Path) -> None:
    """The first 10,000 training images in a seeded order, and all test images."""
    splits = data.load("fashion_mnist", batch_size=1000, image_size=SIDE)
    parts = {"train": splits.train.take(IMAGES // 1000), "test": splits.test}
    arrays = {}
    for name, batches in parts.items():
        images, labels = zip(*batches.as_numpy_iterator(), strict=True)
        arrays[f"x_{name}"] = np.concatenate(images)
        arrays[f"y_{name}"] = np.concatenate(labels)
    path.parent.mkdir(parents=True, exist_ok=True)
    with runfolder.replacing(path) as temporary:
        np.savez_compressed(temporary, **arrays)


if __name__ == "__main__":
    main()
