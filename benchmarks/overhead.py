"""What search and tracking cost beside the training of the same networks.

    python -m benchmarks.overhead --epochs 10 --repeats 3

The same three networks are trained in each way, in a process of its own: by `fit`
alone, in run folders, by a search, by a search that logs to MLflow; and the first under
strategies. Seconds are from the start of the first training to the end of the last one,
with all that search and tracker do at their beginning and end. The ways take turns.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import click

from benchmarks import harness, options, report
from benchmarks.search import CASES, write_images
from keras_resnet import runtime
from keras_resnet.tracking import MLflowTracker
from keras_resnet.training.devices import distribution
from tuning import Space

EQUAL = CASES["equal"]  # images and network
DEPTHS = (8, 14, 20)
PLAIN, FOLDERS = "fit alone", "fit in run folders"


class Way(NamedTuple):
    """How the networks are trained, and what it is compared with."""

    by: str  # "fit", "folders", "search", "tracked"
    strategy: str = "one"
    devices: int = 1  # logical ones


WAYS = {
    PLAIN: Way("fit"),
    FOLDERS: Way("folders"),
    "search": Way("search"),
    "search, MLflow": Way("tracked"),
    "fit alone, strategy auto": Way("fit", "auto"),
    "fit alone, mirrored over 2 logical devices": Way("fit", "mirrored", 2),
}
COLUMNS = {
    "way": ("peer", ""),
    "s": ("seconds", ".1f"),
    "s a trial": ("a_trial", ".1f"),
    "over fit alone": ("over", "+.1%"),
    "over fit in run folders": ("over_folders", "+.1%"),
}


def measure(way: Way, images: str, epochs: int) -> float:
    """Trains the networks; the seconds that it took."""
    runtime.prepare()
    import tensorflow as tf

    if way.devices > 1:
        cpu = tf.config.list_physical_devices("CPU")[0]
        logical = [tf.config.LogicalDeviceConfiguration()] * way.devices
        tf.config.set_logical_device_configuration(cpu, logical)
    import keras_tuner

    from tuning import ResidualHyperModel, search

    strategy = distribution.make_strategy(way.strategy)
    space = Space(name="overhead", depth=DEPTHS)
    recipe = EQUAL.recipe(epochs).replace(name="overhead")
    began = time.perf_counter()
    if way.by in ("search", "tracked"):
        tracker = MLflowTracker("overhead") if way.by == "tracked" else None
        search(
            space, recipe, data=images, tuner="grid", trials=len(DEPTHS),
            folder="search", strategy=strategy, tracker=tracker,
        )  # fmt: skip
        return time.perf_counter() - began
    model = ResidualHyperModel(space, recipe, images)
    for depth in DEPTHS:
        sample = keras_tuner.HyperParameters()
        sample.values["depth"] = depth
        with distribution.scope(strategy):
            network = model.build(sample)
        folder = Path(f"run-{depth}") if way.by == "folders" else None
        model.fit(sample, network, folder=folder)
    return time.perf_counter() - began


def measured(name: str, images: Path, epochs: int) -> float:
    """As `measure`, in a process and a folder of its own."""
    code = (
        "import json, sys; from benchmarks.overhead import WAYS, measure;"
        "name, images, epochs = json.loads(sys.argv[1]);"
        "print(measure(WAYS[name], images, epochs))"
    )
    root = str(Path(__file__).parents[1])
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(
            [sys.executable, "-c", code, json.dumps([name, str(images), epochs])],
            cwd=folder,
            env=os.environ | {"PYTHONPATH": root},
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )
    return float(done.stdout.splitlines()[-1])


@click.command()
@click.option("--epochs", default=10, show_default=True, help="Of a trial.")
@options.repeats(1)
@click.option("--images", default="runs/equal.npz", show_default=True)
@options.out()
def main(epochs: int, repeats: int, images: str, out: Path) -> None:
    """Measures the ways in turns."""
    runtime.prepare()
    path = Path(write_images(Path(images), EQUAL.side)).resolve()
    calls = {name: partial(measured, name, path, epochs) for name in WAYS}
    seconds = harness.in_turns("overhead", calls, repeats)
    middles = {name: statistics.median(times) for name, times in seconds.items()}
    rows: list[dict[str, Any]] = []
    for name, way in WAYS.items():
        middle = middles[name]
        rows.append(
            {
                "case": "strategies" if way.strategy != "one" else "search",
                "peer": name,
                "seconds": middle,
                "a_trial": middle / len(DEPTHS),
                "over": middle / middles[PLAIN] - 1,
                "over_folders": middle / middles[FOLDERS] - 1,
                "all_seconds": seconds[name],
            }
        )
    note = f"ResNets of {', '.join(map(str, DEPTHS))} layers, {epochs} epochs each"
    report.publish(out, "Overhead of search and tracking", COLUMNS, rows, note)


if __name__ == "__main__":
    main()
