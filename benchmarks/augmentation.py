"""What the input pipeline costs of a training step, by augmentation.

    python -m benchmarks.augmentation [--case NAME] [--repeats N] [--steps N]

Epochs of `fit` over batches of ResNet-20's size, in turns; the least mean of an epoch's
steps after the first, beside that of one constant batch.
"""

from __future__ import annotations

import time
import warnings
from pathlib import Path
from typing import Any

import click
import numpy as np

from benchmarks import options, report
from benchmarks.report import Bars
from keras_resnet import runtime
from keras_resnet.data import Augment

runtime.prepare()
import keras
import tensorflow as tf

from keras_resnet import build, data

CLASSES, SIDE = 10, 32
CONSTANT = "constant batch"
CASES = {
    CONSTANT: None,
    "shuffled": Augment(),
    "pad-crop-flip": Augment(pad=4, flip=True),
    "reflect-crop-flip": Augment(pad=4, pad_mode="reflect", flip=True),
    "scale and aspect": Augment(scale=(0.08, 1), flip=True),
    "color and lighting": Augment(color=0.4, lighting=0.1),
    "erase": Augment(erase=0.5),
    "mixup": Augment(mixup=0.2),
    "cutmix": Augment(cutmix=1),
    "TrivialAugment": Augment(policy="trivial"),
    "RandAugment": Augment(policy="rand"),
}
COLUMNS = {
    "augmentation": ("peer", ""),
    "ms a step": ("milliseconds", ".1f"),
    "pipeline's share": ("share", ".1%"),
    "ms a batch alone": ("alone", ".1f"),
}


class Clock(keras.callbacks.Callback):
    """Seconds of a step, without the first: it starts the pipeline."""

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        now = time.perf_counter()
        if batch == 0:
            self.started = now
        else:
            self.seconds = (now - self.started) / batch


def batches(augment: Augment | None, batch: int, steps: int) -> Any:
    """An epoch of `steps` batches."""
    random = np.random.default_rng(0)
    count = batch * steps
    images = random.integers(0, 256, (count, SIDE, SIDE, 3), np.uint8)
    labels = np.arange(count) % CLASSES
    if augment is None:
        constant = tf.data.Dataset.from_tensors((images[:batch], labels[:batch]))
        return constant.repeat(steps)
    few = (images[:CLASSES], labels[:CLASSES])
    parts = {"train": (images, labels), "val": few, "test": few}
    with warnings.catch_warnings(action="ignore"):  # duplicates, which don't matter
        return data.load(parts, batch_size=batch, augment=augment).train


def trainer(mixes: bool) -> keras.Model:
    model = build("cifar_resnet20", pixel_stats=((127.0,) * 3, (64.0,) * 3))
    losses = keras.losses
    kind = (
        losses.CategoricalCrossentropy
        if mixes
        else losses.SparseCategoricalCrossentropy
    )
    model.compile(keras.optimizers.SGD(0.01, momentum=0.9), kind(from_logits=True))
    return model


@click.command()
@options.cases(CASES)
@options.count("--batch", 128)
@options.repeats(5)
@click.option("--steps", type=click.IntRange(2), default=30, show_default=True)
@options.out()
def main(
    cases: tuple[str, ...], batch: int, repeats: int, steps: int, out: Path
) -> None:
    """Compare a training step by the augmentation of its images."""
    names = list(dict.fromkeys([CONSTANT, *(cases or CASES)]))
    feeds = {name: batches(CASES[name], batch, steps) for name in names}
    models = {mixes: trainer(mixes) for mixes in {_mixes(name) for name in names}}
    seconds: dict[str, list[float]] = {name: [] for name in names}
    alone: dict[str, list[float]] = {name: [] for name in names}
    for turn in range(repeats + 1):  # the first one traces
        for name, feed in feeds.items():
            clock = Clock()
            model = models[_mixes(name)]
            model.fit(feed, verbose=0, shuffle=False, callbacks=[clock])
            if turn:
                seconds[name].append(clock.seconds)
                alone[name].append(_alone(feed))
                milliseconds = clock.seconds * 1e3
                click.echo(f"{name}, {turn}: {milliseconds:.1f} ms a step", err=True)
    title = f"cifar_resnet20, batch {batch}"
    least = min(seconds[CONSTANT])
    records = [
        {
            "case": title,
            "peer": name,
            "milliseconds": min(seconds[name]) * 1e3,
            "share": 1 - least / min(seconds[name]) if name != CONSTANT else None,
            "alone": min(alone[name]) * 1e3 if name != CONSTANT else None,
        }
        for name in names
    ]
    note = f"Least mean of {repeats} epochs of {steps} steps, in turns."
    bars = Bars("milliseconds", "milliseconds", "{milliseconds:.0f} ms")
    title = "A training step by the augmentation of its images"
    report.publish(out, title, COLUMNS, records, note, bars=bars)


def _mixes(name: str) -> bool:
    augment = CASES[name]
    return augment is not None and augment.mixes


def _alone(feed: Any) -> float:
    """Seconds of a batch when nothing else runs, without the first."""
    iterator = iter(feed)
    next(iterator)
    started = time.perf_counter()
    count = sum(1 for _ in iterator)
    return (time.perf_counter() - started) / count


if __name__ == "__main__":
    main()
