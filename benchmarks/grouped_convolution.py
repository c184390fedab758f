"""Training step of grouped convolutions: ours against stock Keras, side by side.

    python benchmarks/grouped_convolution.py [--repeats N]

Prints the least of several interleaved repeats, and their ratio. The layers are the
grouped 3x3 convolutions of ResNeXt-50 32x4d's last stages.
"""

from __future__ import annotations

import argparse
import os
import platform
import time

os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import tensorflow as tf
from rich.console import Console
from rich.table import Table

from keras_resnet import layers

BATCH, GROUPS = 4, 32
CASES = [(14, 512), (7, 1024)]  # image side, channels


def step_of(kind: type, side: int, channels: int):
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


def seconds(step) -> float:
    started = time.perf_counter()
    step()[0].numpy()
    return time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=5)
    repeats = parser.parse_args().repeats
    table = Table(
        title=f"one training step, batch {BATCH}, {GROUPS} groups; least of {repeats}",
        caption=f"TensorFlow {tf.__version__}, Keras {keras.__version__}, "
        f"{os.cpu_count()} cores, {platform.machine()}",
    )
    for column in ("image", "channels", "ours", "stock Keras", "stock / ours"):
        table.add_column(column, justify="right")
    for side, channels in CASES:
        ours, stock = (
            step_of(kind, side, channels)
            for kind in (layers.Conv2D, keras.layers.Conv2D)
        )
        pairs = [(seconds(ours), seconds(stock)) for _ in range(repeats)]
        best, base = (min(times) for times in zip(*pairs, strict=True))
        table.add_row(
            f"{side}x{side}",
            str(channels),
            f"{best * 1e3:.1f} ms",
            f"{base * 1e3:.1f} ms",
            f"{base / best:.0f}",
        )
    Console(width=90).print(table)


if __name__ == "__main__":
    main()
