"""Time of a training step under stochastic depth, against constant depth.

    python benchmarks/stochastic_depth.py [--repeats N] [--steps N]

Prints the least mean of several interleaved rounds of steps, beside the share of
multiply-adds that the surviving units have in expectation.
"""

from __future__ import annotations

import argparse
import os
import platform
import time

os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np
import tensorflow as tf
from rich.console import Console
from rich.table import Table

from keras_resnet import build, cifar_resnet, make_plan
from keras_resnet.cost import cost_of

DEPTH, BATCH = 56, 64
CASES = [("constant depth", 1.0), ("p_L = 0.5", 0.5), ("p_L = 0.2", 0.2)]


def expected_share(survival: float) -> float:
    """Multiply-adds in expectation, as a share of constant depth's."""
    plan = make_plan(cifar_resnet(DEPTH, survival=survival))
    units = [(cost_of(unit.ops).macs, unit.merge.survival) for unit in plan.units]
    return sum(macs * p for macs, p in units) / sum(macs for macs, _ in units)


def trainer(survival: float, x, y):
    model = build(cifar_resnet(DEPTH, survival=survival))
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.SGD(0.01), loss)
    model.train_on_batch(x, y)
    return lambda: model.train_on_batch(x, y)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--steps", type=int, default=10)
    arguments = parser.parse_args()
    x = np.random.default_rng(0).normal(size=(BATCH, 32, 32, 3)).astype("float32")
    y = np.arange(BATCH) % 10
    steps = {survival: trainer(survival, x, y) for _, survival in CASES}
    means: dict[float, list[float]] = {survival: [] for survival in steps}
    for _ in range(arguments.repeats):
        for survival, step in steps.items():
            started = time.perf_counter()
            for _ in range(arguments.steps):
                step()
            means[survival].append((time.perf_counter() - started) / arguments.steps)
    table = Table(
        title=f"ResNet-{DEPTH}, batch {BATCH}; least mean of {arguments.repeats} "
        f"rounds of {arguments.steps} steps",
        caption=f"TensorFlow {tf.__version__}, Keras {keras.__version__}, "
        f"{os.cpu_count()} cores, {platform.machine()}",
    )
    for column in ("", "a step", "of constant depth", "expected of its units' MACs"):
        table.add_column(column, justify="right")
    base = min(means[1.0])
    for name, survival in CASES:
        least = min(means[survival])
        table.add_row(
            name,
            f"{least * 1e3:.0f} ms",
            f"{least / base:.2f}",
            f"{expected_share(survival):.2f}",
        )
    Console(width=90).print(table)


if __name__ == "__main__":
    main()
