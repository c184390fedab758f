"""Training step of grouped convolutions: ours against stock Keras, side by side.

    python -m benchmarks.grouped_convolution [--repeats N]

Prints the least of several interleaved repeats, and their ratio. The layers are the
grouped 3x3 convolutions of ResNeXt-50 32x4d's last stages.
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
import tensorflow as tf

from benchmarks import report
from keras_resnet import layers

BATCH, GROUPS = 4, 32
CASES = [(14, 512), (7, 1024)]  # image side, channels
PEERS = {"ours": layers.Conv2D, "stock": keras.layers.Conv2D}
COLUMNS = {
    "image, channels": ("case", ""),
    "peer": ("peer", ""),
    "ms": ("milliseconds", ".1f"),
    "it / ours": ("it_over_ours", ".0f"),
}


def step_of(kind: type, side: int, channels: int) -> Callable[[], Any]:
    """A traced forward and backward pass."""
    layer = kind(channels, 3, padding="same", groups=GROUPS, use_bias=False)
    layer.build((None, side, side, channels))
    x = tf.random.stateless_normal((BATCH, side, side, channels), (0, 0))

    @tf.function(autograph=False)
    def step():
        with tf.GradientTape() as tape:
            tape.watch(x)
            loss = tf.reduce_sum(layer(x) ** 2)
        return tape.gradient(loss, [x, layer.kernel.value])

    step()
    return step


def seconds(step: Callable[[], Any]) -> float:
    started = time.perf_counter()
    step()[0].numpy()
    return time.perf_counter() - started


@click.command()
@click.option("--repeats", type=click.IntRange(1), default=5, show_default=True)
@report.out_option
def main(repeats: int, out: Path) -> None:
    """Compare a training step of grouped convolutions."""
    records = []
    for side, channels in CASES:
        steps = {peer: step_of(kind, side, channels) for peer, kind in PEERS.items()}
        rounds = [
            {peer: seconds(step) for peer, step in steps.items()}
            for _ in range(repeats)
        ]
        least = {peer: min(times[peer] for times in rounds) for peer in PEERS}
        records += [
            {
                "case": f"{side}x{side}, {channels}",
                "peer": peer,
                "milliseconds": least[peer] * 1e3,
                "it_over_ours": least[peer] / least["ours"],
            }
            for peer in PEERS
        ]
    title = (
        f"One training step of a grouped convolution, batch {BATCH}, {GROUPS} groups"
    )
    report.show(title, COLUMNS, records, f"Least of {repeats} interleaved repeats.")
    report.write(out, "grouped_convolution", records)
    report.bars(
        out,
        "grouped_convolution",
        title,
        "milliseconds",
        records,
        "milliseconds",
        "{milliseconds:.1f} ms",
    )


if __name__ == "__main__":
    main()
