"""Time of a training step under stochastic depth, against constant depth.

    python -m benchmarks.stochastic_depth [--repeats N] [--steps N]

Prints the least mean of several interleaved rounds of steps, beside the share of
multiply-adds that the surviving units have in expectation.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import click
import numpy as np

from benchmarks import harness, options, report
from benchmarks.report import Bars
from keras_resnet import cifar_resnet, make_plan, runtime
from keras_resnet.cost import cost_of

runtime.prepare()
import keras

from keras_resnet import build

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


def trainer(survival: float, steps: int) -> Callable[[], float]:
    """Seconds of a step, as the mean of so many."""
    x = np.random.default_rng(0).normal(size=(BATCH, 32, 32, 3)).astype("float32")
    y = np.arange(BATCH) % 10
    model = build(cifar_resnet(DEPTH, survival=survival))
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.SGD(0.01), loss)
    model.train_on_batch(x, y)

    def seconds() -> float:
        started = time.perf_counter()
        for _ in range(steps):
            model.train_on_batch(x, y)
        return (time.perf_counter() - started) / steps

    return seconds


@click.command()
@options.repeats(3)
@options.count("--steps", 10, "In a repeat.")
@options.out()
def main(repeats: int, steps: int, out: Path) -> None:
    """Compare a training step under stochastic depth with one of constant depth."""
    calls = {name: trainer(survival, steps) for name, survival in CASES.items()}
    means = harness.in_turns("stochastic depth", calls, repeats)
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
    note = f"Least mean of {repeats} interleaved repeats of {steps} steps."
    label = "{share:.2f} of constant depth, {expected:.2f} expected"
    bars = Bars("milliseconds", "milliseconds", label)
    title = "A training step under stochastic depth"
    report.publish(out, title, COLUMNS, records, note, bars=bars)


if __name__ == "__main__":
    main()
