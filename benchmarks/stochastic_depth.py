"""Time of a training step under stochastic depth, against constant depth.

    python -m benchmarks.stochastic_depth [--repeats N] [--steps N]

Prints the least mean of several interleaved rounds of steps, beside the share of
multiply-adds that the surviving units have in expectation.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import click
import keras
import numpy as np

from benchmarks import report
from keras_resnet import build, cifar_resnet, make_plan
from keras_resnet.cost import cost_of

DEPTH, BATCH = 56, 64
CASES = {"constant depth": 1.0, "p_L = 0.5": 0.5, "p_L = 0.2": 0.2}
COLUMNS = {
    "": ("peer", ""),
    "ms a step": ("milliseconds", ".0f"),
    "of constant depth": ("share", ".2f"),
    "expected of its units' MACs": ("expected", ".2f"),
}


def expected_share(survival: float) -> float:
    """Multiply-adds in expectation, as a share of constant depth's."""
    plan = make_plan(cifar_resnet(DEPTH, survival=survival))
    units = [(cost_of(unit.ops).macs, unit.merge.survival) for unit in plan.units]
    return sum(macs * p for macs, p in units) / sum(macs for macs, _ in units)


def trainer(survival: float, x: np.ndarray, y: np.ndarray) -> Callable[[], Any]:
    model = build(cifar_resnet(DEPTH, survival=survival))
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.SGD(0.01), loss)
    model.train_on_batch(x, y)
    return lambda: model.train_on_batch(x, y)


@click.command()
@click.option("--repeats", type=click.IntRange(1), default=3, show_default=True)
@click.option("--steps", type=click.IntRange(1), default=10, show_default=True)
@report.out_option
def main(repeats: int, steps: int, out: Path) -> None:
    """Compare a training step under stochastic depth with one of constant depth."""
    x = np.random.default_rng(0).normal(size=(BATCH, 32, 32, 3)).astype("float32")
    y = np.arange(BATCH) % 10
    trainers = {name: trainer(survival, x, y) for name, survival in CASES.items()}
    means: dict[str, list[float]] = {name: [] for name in CASES}
    for _ in range(repeats):
        for name, step in trainers.items():
            started = time.perf_counter()
            for _ in range(steps):
                step()
            means[name].append((time.perf_counter() - started) / steps)
    title = f"ResNet-{DEPTH}, batch {BATCH}"
    records = [
        {
            "case": title,
            "peer": name,
            "milliseconds": min(means[name]) * 1e3,
            "share": min(means[name]) / min(means["constant depth"]),
            "expected": expected_share(survival),
        }
        for name, survival in CASES.items()
    ]
    note = f"Least mean of {repeats} rounds of {steps} steps."
    report.show(f"Stochastic depth, {title}", COLUMNS, records, note)
    report.write(out, "stochastic_depth", records)
    report.bars(
        out,
        "stochastic_depth",
        "A training step under stochastic depth",
        "milliseconds",
        records,
        "milliseconds",
        "{share:.2f} of constant depth, {expected:.2f} expected",
    )


if __name__ == "__main__":
    main()
