"""Accuracy by minutes on Fashion-MNIST: our fast recipe, its levers, and torch.

    python -m benchmarks.time_to_accuracy [--case NAME] [--seeds N] [--folder FOLDER]

Runs are kept in the folder, one for each case and seed: those that have ended are not
run again, and ours that were stopped go on, so the command also gathers what is there.
A case's epoch takes as long as the fastest that it had, so that other work on the
machine makes no difference while some epoch had none beside it. Cases that are left
out keep what was last measured of them. Nothing is chosen by the test images.
"""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean, stdev
from typing import Any, NamedTuple

import click

from benchmarks import options, report
from benchmarks.accuracy import run_of
from benchmarks.harness import ROOT
from benchmarks.peers import KEEP_MEMORY
from keras_resnet import files
from keras_resnet.recipes import get_recipe

DATA = "fashion_mnist"
FAST = "fashion_mnist_fast"
MARKS = (2, 4, 6)  # minutes
SPAN = 85, 95  # percent, of the chart


class Case(NamedTuple):
    """A recipe, what is changed of it, as `--set` has it, and the precision."""

    changes: Sequence[str] = ()
    recipe: str = FAST
    precision: str = "mixed_bfloat16"


# A row a lever of the fast recipe, which is set back.
OURS = {
    FAST: Case(),
    "in float32": Case(("epochs=10",), precision="float32"),  # as many minutes
    "ResNet-20": Case(("epochs=16",), "fashion_mnist"),
    "no flips": Case(("augment.flip=false",)),
    "no shifts": Case(("augment.pad=0",)),
    "plain labels": Case(("label_smoothing=0",)),
    "random erasing": Case(("augment.erase=0.25",)),
}
TORCH = "torch, ResNet-9"
COLUMNS = {
    "case": ("case", ""),
    "seeds": ("seeds", ""),
    "test accuracy": ("mean", ".2%"),
    "deviation": ("deviation", ".2%"),
    "epochs": ("epochs", ""),
    "an epoch, s": ("epoch_seconds", ".1f"),
    "training, min": ("minutes", ".1f"),
    **{f"validation at {m} min": (f"val_{m}", ".2%") for m in MARKS},
    "at the end": ("val", ".2%"),
}


def measure(case: str, seed: int, folder: Path) -> dict[str, Any]:
    """Seconds and validation accuracy of each epoch, and the test accuracy."""
    if case == TORCH:
        return _of_torch(seed, folder / f"resnet9-{seed}.json")
    changes, name, precision = OURS[case]
    recipe = get_recipe(name).set(changes)
    run = run_of(recipe, DATA, seed, folder / f"{case}-{seed}", precision)
    return {
        "seconds": [row["seconds"] for row in run.history],
        "val": [row["val_accuracy"] for row in run.history],
        "test": run.result["test_accuracy"],
    }


def _of_torch(seed: int, path: Path) -> dict[str, Any]:
    """What the peer came to, in a process that keeps its memory."""
    if not path.exists():
        job = [sys.executable, "-m", "benchmarks.resnet9", str(seed)]
        environment = os.environ | KEEP_MEMORY
        told = subprocess.check_output(job, text=True, cwd=ROOT, env=environment)
        files.write_text(path, told)
    found: dict[str, Any] = json.loads(path.read_text())
    return found


def record_of(case: str, runs: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """A row of the table: a case over its seeds."""
    tests = [run["test"] for run in runs]
    epoch = min(itertools.chain(*(run["seconds"] for run in runs)))
    val = [fmean(each) for each in zip(*(run["val"] for run in runs), strict=True)]
    return {
        "case": case,
        "seeds": len(runs),
        "tests": tests,
        "mean": fmean(tests),
        "deviation": stdev(tests) if len(tests) > 1 else None,
        "epochs": len(val),
        "epoch_seconds": epoch,
        "minutes": len(val) * epoch / 60,
        "val": val[-1],
        "val_by_epoch": val,
        **{f"val_{m}": _at(m, epoch, val) for m in MARKS},
    }


def _at(minutes: float, epoch: float, val: Sequence[float]) -> float | None:
    """The accuracy of the last epoch that has ended after so many minutes."""
    done = int(minutes * 60 / epoch)
    return val[done - 1] if 0 < done <= len(val) else None


@click.command()
@options.cases((*OURS, TORCH), (FAST, TORCH))
@options.count("--seeds", 3, "Of each case.")
@click.option(
    "--folder", type=click.Path(path_type=Path), default=Path("runs/accuracy")
)
@options.out()
def main(cases: tuple[str, ...], seeds: int, folder: Path, out: Path) -> None:
    """Train cases with several seeds and report accuracy by minutes."""
    from keras_resnet import runtime

    runtime.prepare()
    folder.mkdir(parents=True, exist_ok=True)
    found = {record["case"]: record for record in report.last(out)}
    for case in cases:
        runs = [measure(case, seed, folder) for seed in range(seeds)]
        found[case] = record_of(case, runs)
    records = [found[case] for case in (*OURS, TORCH) if case in found]
    title = "Fashion-MNIST: accuracy by minutes"
    report.publish(out, title, COLUMNS, records)
    lines = {
        record["case"]: [
            ((epoch + 1) * record["epoch_seconds"] / 60, 100 * accuracy)
            for epoch, accuracy in enumerate(record["val_by_epoch"])
        ]
        for record in records
        if record["case"] in (FAST, TORCH)
    }
    axis = "validation accuracy, %"
    report.draw_lines(out, title, axis, {("", "minutes"): lines}, SPAN)


if __name__ == "__main__":
    main()
