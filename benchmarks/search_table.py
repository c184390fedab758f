"""Every network of a small space, trained: what searches can be replayed on.

    python -m benchmarks.search_table --minutes 600

As NAS-Bench has it (Ying 2019): 57 networks of three costs, each with three seeds, on
4,000 images of Fashion-MNIST of 14x14 pixels, with the accuracy on 1,000 validation
images after every epoch and on 5,000 test images at the end. A line is added for each
training; those that are there are not run again, so the table grows by the same
command. Seconds are of the processor, so that other work on the machine does not count:
about 15 a training. What is committed is 29 networks of 0.5 and 1 million multiply-adds
with two seeds, and 8 more with one.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import click
import keras
import numpy as np

from benchmarks.options import RESULTS
from benchmarks.search import write_arrays
from keras_resnet import build, cifar_resnet, data, files, runtime, training
from keras_resnet.errors import BudgetError
from keras_resnet.recipe import Recipe
from keras_resnet.spec import ResNetSpec
from tuning import Space, spec_from_hp
from tuning.budget import at_cost

TABLE = RESULTS / "search_table.jsonl"
SIDE = 14
TRAIN, VAL, TEST = 4000, 1000, 5000  # images
EPOCHS = 9
SEEDS = 3
BASE = cifar_resnet(20, input_shape=(SIDE, SIDE, 1))
COSTS = (0.5e6, 1e6, 2e6)  # multiply-adds
DEPTHS = {"basic": (8, 14, 20, 26), "bottleneck": (11, 20, 29, 38)}
GROUPS = (1, 2, 4, 8)


class Point(NamedTuple):
    """A network of the table."""

    block: str
    depth: int
    cardinality: int
    macs: float

    def spec(self) -> ResNetSpec:
        """The network: its shape, with the widths at which it has this cost."""
        values = self._asdict()
        del values["macs"]
        if self.block == "basic":
            del values["cardinality"]
        space = Space(**{name: (value,) for name, value in values.items()})
        return at_cost(spec_from_hp(_Values(values), space, BASE), self.macs)


class _Values(NamedTuple):
    values: dict[str, Any]


def points() -> Iterator[Point]:
    """All networks of the table: shapes that have widths of each cost."""
    for macs, (block, depths) in itertools.product(COSTS, DEPTHS.items()):
        groups = GROUPS if block == "bottleneck" else (1,)
        for depth, cardinality in itertools.product(depths, groups):
            point = Point(block, depth, cardinality, macs)
            with contextlib.suppress(BudgetError):
                point.spec()
                yield point


def main_recipe() -> Recipe:
    """How all are trained."""
    return training.get_recipe("fashion_mnist").over(EPOCHS)


def write_images(path: Path, data_dir: Path | None) -> str:
    """Some training images for training and validation, and some test images."""
    if not path.exists():
        splits = data.load(
            "fashion_mnist", batch_size=1000, image_size=SIDE, data_dir=data_dir
        )
        taken = {
            "train": splits.train.take(TRAIN // 1000),
            "val": splits.val.take(VAL // 1000),
            "test": splits.test.take(TEST // 1000),
        }
        write_arrays(path, taken)
    return str(path)


def train(point: Point, seed: int, images: str) -> dict[str, Any]:
    """A line of the table: accuracies by epoch, and processor seconds."""
    keras.backend.clear_session()
    began = time.process_time()
    spec = point.spec()
    recipe = main_recipe().replace(model=spec)
    splits = data.load(
        images, batch_size=recipe.batch_size, augment=recipe.augment, seed=seed
    )
    keras.utils.set_random_seed(seed)
    model = build(spec, pixel_stats=splits.pixel_stats)
    clock = _Clock()
    fitted = training.fit(model, recipe, splits, callbacks=[clock])
    seconds = np.diff([began, *clock.times])
    tested = model.evaluate(splits.test, verbose=0, return_dict=True)
    return {
        **point._asdict(),
        "seed": seed,
        "val": [round(value, 4) for value in fitted.history["val_accuracy"]],
        "test": round(float(tested["accuracy"]), 4),
        "seconds": [round(float(value), 2) for value in seconds],
    }


class _Clock(keras.callbacks.Callback):  # type: ignore[misc]  # untyped
    """The processor's time at the end of each epoch."""

    def __init__(self) -> None:
        super().__init__()
        self.times: list[float] = []

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Reads the clock."""
        self.times.append(time.process_time())


@click.command()
@click.option("--minutes", default=600.0, show_default=True, help="Stop after so many.")
@click.option("--images", default="runs/search_table.npz", show_default=True)
@click.option("--data-dir", type=click.Path(path_type=Path), help="Of Fashion-MNIST.")
@click.option("--table", default=TABLE, type=click.Path(path_type=Path))
def main(minutes: float, images: str, data_dir: Path | None, table: Path) -> None:
    """Trains what is not in the table yet."""
    runtime.prepare()
    path = write_images(Path(images), data_dir)
    rows = files.read_lines(table) if table.exists() else []
    done = {(*(row[f] for f in Point._fields), row["seed"]) for row in rows}
    until = time.monotonic() + 60 * minutes
    jobs = [*itertools.product(range(SEEDS), points())]
    # Where time runs out, the cheaper networks have all seeds.
    jobs.sort(key=lambda job: (job[1].macs == max(COSTS), job[0]))
    for seed, point in jobs:
        if (*point, seed) in done:
            continue
        if time.monotonic() > until:
            break
        row = train(point, seed, path)
        with table.open("a") as file:
            file.write(json.dumps(row) + "\n")
        click.echo(f"{point} seed {seed}: {row['val'][-1]:.1%}, {row['test']:.1%}, "
                   f"{sum(row['seconds']):.0f} s")  # fmt: skip


if __name__ == "__main__":
    main()
