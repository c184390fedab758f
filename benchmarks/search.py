"""Two searches on Fashion-MNIST, and their winners judged on test images.

    python -m benchmarks.search equal
    python -m benchmarks.search cheapest

Of 10,000 images, a tenth for validation; the default is ResNet-20. `equal`: depth
and cardinality at 14x14 pixels, where every candidate costs the default's
multiply-adds. `cheapest`: at 28x28, the network of least multiply-adds that is as
accurate within half a point. Each takes about an hour on 2 cores; the same command goes
on where it was stopped.
"""

from __future__ import annotations

import shutil
import statistics
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import click
import numpy as np
from rich.console import Console

from benchmarks import options, report
from keras_resnet import build, cifar_resnet, data, files, runtime, serving, training
from keras_resnet.recipe import Recipe
from keras_resnet.spec import ResNetSpec
from keras_resnet.tracking import MLflowTracker
from keras_resnet.units import in_units
from tuning import SearchResult, Space, search
from tuning.budget import TOLERANCE, macs_of
from tuning.latency import Export, median_time
from tuning.retrain import Comparison, retrain
from tuning.trials import REPORT

DOCS = Path(__file__).parents[1] / "docs" / "results" / "search"
IMAGES = 10_000
ROUNDS = 5  # of latency, of both networks in turn
EXPORTS = {
    "SavedModel": Export(),
    "OpenVINO": Export("openvino"),
    "OpenVINO, int8": Export("openvino", "int8"),
}


class Case(NamedTuple):
    """A search.

    Attributes:
        side: of the images, pixels.
        epochs: of every training.
        trials: at most.
        final: how many of the best trials are judged.
        arguments: others of `search`.
        told: what every network is, in the words of the report.
    """

    side: int
    epochs: int
    trials: int
    final: int
    arguments: dict[str, Any]
    told: str

    def recipe(self, epochs: int) -> Recipe:
        """How all are trained; its network is the default."""
        shape = (self.side, self.side, 1)
        recipe = training.get_recipe("fashion_mnist").over(epochs)
        return recipe.replace(model=recipe.model.replace(input_shape=shape))


_EQUAL = macs_of(cifar_resnet(20, input_shape=(14, 14, 1)))
CASES = {
    "equal": Case(
        14, 10, 100, 1,
        {
            "space": Space(
                name="shapes",
                block=("basic", "bottleneck"),
                depth=(8, 14, 20, 32, 44),
                cardinality=(1, 2, 4, 8),
            ),
            "budget": f"{_EQUAL}MAC,18min",
            "mode": "iso",
        },
        f"every network gets the widths at which it costs its {in_units(_EQUAL, '')} "
        f"multiply-adds, within {TOLERANCE:.0%}, in 18 minutes of trials",
    ),
    "cheapest": Case(
        28, 8, 15, 2,
        {"space": "small", "objective": "cheapest", "within": 0.5},
        "the network of least multiply-adds is sought that loses at most 0.5 points",
    ),
}  # fmt: skip


@click.command()
@click.argument("name", type=click.Choice([*CASES]))
@click.option("--folder", help="Of the search; by default runs/NAME.")
@options.count("--trials", None, "At most.")
@options.count("--epochs", None, "Of every training.")
@options.count("--final", None, "Trials that are judged.")
@options.count("--seeds", 5, "That judge the winner.")
@options.out(DOCS)
def main(
    name: str,
    folder: str | None,
    trials: int | None,
    epochs: int | None,
    final: int | None,
    seeds: int,
    out: Path,
) -> None:
    """Searches, compares, writes what came of it."""
    runtime.prepare()
    console = Console(highlight=False, markup=False)
    case = CASES[name]
    asked = case._replace(
        trials=trials or case.trials,
        epochs=epochs or case.epochs,
        final=final or case.final,
    )
    folder = folder or f"runs/{name}"
    images = write_images(Path(f"{folder}.npz"), case.side)
    recipe = asked.recipe(asked.epochs)
    tracker = MLflowTracker(name, console)
    found = search(
        recipe=recipe, data=images, trials=asked.trials, folder=folder,
        tracker=tracker, console=console, **case.arguments,
    )  # fmt: skip
    compared = retrain(
        found, recipe, images, seeds=range(1, 1 + seeds), final=asked.final,
        tracker=tracker, console=console,
    )  # fmt: skip
    winner = next(t for t in found.trials if t.id == compared.trial).recipe.model
    times = latencies({"winner": winner, "default": recipe.model})
    place = out / name
    report.write(place, [*records(found, compared), *times])
    for path in (found.folder / REPORT).glob("[!.]*"):
        shutil.copy(path, place)
    page = place / "README.md"
    body = page.read_text().removeprefix("# Search\n\n")
    files.write_text(page, heading(name, asked, seeds) + body + latency_table(times))
    console.print(f"\n{compared.verdict}\n{place} written", soft_wrap=True)


def write_images(path: Path, side: int) -> str:
    """The first 10,000 training images in a seeded order, and all test images."""
    if not path.exists():
        splits = data.load("fashion_mnist", batch_size=1000, image_size=side)
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


def latencies(networks: Mapping[str, ResNetSpec]) -> list[dict[str, Any]]:
    """A record an export and a network: seconds for one image, of turns in between."""
    images = np.random.default_rng(0).integers(
        0, 256, (32, *next(iter(networks.values())).input_shape), "uint8"
    )
    rows = []
    for kind, export in EXPORTS.items():
        with tempfile.TemporaryDirectory() as folder:
            served = {
                name: serving.load(
                    serving.export(
                        build(spec), Path(folder) / name, format=export.format,
                        quantize=export.quantize, images=images, force=True,
                        check=False,
                    )
                ).predict
                for name, spec in networks.items()
            }  # fmt: skip
            times: dict[str, list[float]] = {name: [] for name in served}
            for _ in range(ROUNDS):
                for name, predict in served.items():
                    times[name].append(median_time(predict, images[:1]))
        rows += [
            {
                "case": "latency", "export": kind, "network": name,
                "seconds": statistics.median(each), "rounds": each,
            }
            for name, each in times.items()
        ]  # fmt: skip
    return rows


def latency_table(rows: list[dict[str, Any]]) -> str:
    """The latencies, side by side."""
    found = {(row["export"], row["network"]): 1e3 * row["seconds"] for row in rows}
    lines = [
        f"| {kind} | {found[kind, 'winner']:.2f} ms | {found[kind, 'default']:.2f} ms "
        f"| {found[kind, 'winner'] / found[kind, 'default']:.0%} |"
        for kind in EXPORTS
    ]
    return "\n".join(
        [
            "",
            "## For one image",
            "",
            f"Medians, of {ROUNDS} rounds of both in turn.",
            "",
            "| export | winner | default | |",
            "|---|---|---|---|",
            *lines,
            "",
        ]
    )


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
    finalists = [
        {"case": "final", **finalist._asdict()} for finalist in compared.finalists
    ]
    keys = ("trial", "difference", "low", "high", "least", "p_value", "share",
            "verdict")  # fmt: skip
    test = {key: getattr(compared, key) for key in keys}
    return [*trials, *seeds, *finalists, {"case": "paired t-test", **test}]


def heading(name: str, case: Case, seeds: int) -> str:
    """What was searched, how, and on what."""
    facts = report.machine()
    versions = ", ".join(f"{name} {v}" for name, v in facts["versions"].items() if v)
    command = (
        f"python -m benchmarks.search {name} --trials {case.trials} --epochs "
        f"{case.epochs} --final {case.final} --seeds {seeds}"
    )
    return f"""# A search for the {name}

`{command}`
on {facts["cpu"]}, {facts["cores"]} cores; {versions}.

{IMAGES:,} images of Fashion-MNIST of {case.side}x{case.side} pixels, a tenth for
validation; {case.epochs} epochs of `fashion_mnist`. The default is ResNet-20;
{case.told}. `search.json` has all figures.

"""


if __name__ == "__main__":
    main()
