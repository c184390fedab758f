"""A training step of one convolution: our layer against stock Keras', side by side.

    python -m benchmarks.convolution [--repeats N]

The 3x3 convolutions of Wide ResNet and ResNet-50 show where Winograd's method pays,
those with groups what Keras' compiled ones cost. One process, since one layer is
little; the same oneDNN setting for both.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import click

from benchmarks import harness, options, report
from benchmarks.report import Bars
from keras_resnet import runtime

runtime.prepare()
import keras
import tensorflow as tf

from keras_resnet import layers
from keras_resnet.convolution import Problem, path_of


class Case(NamedTuple):
    """Images of a step, their side, channels in and out, and groups."""

    batch: int
    side: int
    channels: int
    groups: int = 1

    def __str__(self) -> str:
        groups = f" in {self.groups} groups" if self.groups > 1 else ""
        return f"{self.batch} x {self.side}x{self.side}x{self.channels}{groups}"


CASES = [
    Case(16, 32, 160),
    Case(16, 16, 320),
    Case(16, 8, 640),
    Case(32, 28, 128),
    Case(32, 14, 256),
    Case(32, 7, 512),
    Case(64, 32, 64),
    Case(64, 16, 96),
    Case(4, 8, 640),
    Case(4, 14, 512, groups=32),
    Case(4, 7, 1024, groups=32),
]
PEERS = {"ours": layers.Conv2D, "stock": keras.layers.Conv2D}
COLUMNS = {
    "images": ("case", ""),
    "peer": ("peer", ""),
    "path": ("path", ""),
    "ms": ("milliseconds", ".1f"),
    "it / ours": ("it_over_ours", ".2f"),
}


def step_of(kind: type, case: Case) -> Callable[[], float]:
    """Seconds of a traced forward and backward pass."""
    layer = kind(case.channels, 3, padding="same", groups=case.groups, use_bias=False)
    shape = (case.batch, case.side, case.side, case.channels)
    layer.build(shape)
    x, above = (tf.random.stateless_normal(shape, (0, seed)) for seed in (0, 1))

    @tf.function(autograph=False)
    def step():
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = layer(x, training=True) if kind is layers.Conv2D else layer(x)
        return tape.gradient(y, [x, layer.kernel.value], above)

    def seconds() -> float:
        started = time.perf_counter()
        step()[0].numpy()
        return time.perf_counter() - started

    seconds()
    return seconds


@click.command()
@options.repeats(5)
@options.out()
def main(repeats: int, out: Path) -> None:
    """Compare a training step of 3x3 convolutions."""
    records = []
    for case in CASES:
        calls = {peer: step_of(kind, case) for peer, kind in PEERS.items()}
        found = harness.in_turns(str(case), calls, repeats)
        least = {peer: min(seconds) for peer, seconds in found.items()}
        channels = (case.channels, case.channels)
        problem = Problem(case.side, case.side, *channels, (3, 3), groups=case.groups)
        paths = {
            "ours": path_of(problem),
            "stock": "XLA" if case.groups > 1 else "native",
        }
        records += [
            {
                "case": str(case),
                "peer": peer,
                "path": paths[peer],
                "milliseconds": least[peer] * 1e3,
                "it_over_ours": least[peer] / least["ours"],
            }
            for peer in PEERS
        ]
    title = "One training step of a 3x3 convolution"
    note = f"Least of {repeats} interleaved repeats."
    report.publish(out, title, COLUMNS, records, note)
    bars = Bars("times as long as ours", "it_over_ours", "{milliseconds:.1f} ms")
    report.draw_bars(out, title, bars, [r for r in records if r["path"] != "XLA"])


if __name__ == "__main__":
    main()
