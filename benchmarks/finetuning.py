"""Fine-tuning against training from scratch, on classes that the weights never saw.

    python -m benchmarks.finetuning [--data NAME] [--steps N] [--seeds N]

A small ResNet learns the first five classes. Then each way of training gets a few
images of each of the other five and the same number of steps, and is tested on images
of these that it did not see. Seeds draw images, order and initial weights anew.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import click
import numpy as np

from benchmarks import options, report
from keras_resnet import runtime

runtime.prepare()
import keras

from keras_resnet import build, cifar_resnet, training
from keras_resnet.data.images import Images
from keras_resnet.data.options import Options
from keras_resnet.data.sources import read

SOURCES = ("digits", "fashion_mnist")
CLASSES = 5
PER_CLASS = (10, 25, 100)
BATCH, RATE = 25, 0.05  # the same for all: they differ in start and in what trains
OLD_STEPS, OLD_BATCH = 500, 32
TESTED = 2500  # at most

STATS = ((80.0,), (85.0,))  # about those of both sources

HALVED = {"stage_decay": 0.5}
# Name -> changes of the recipe; whether it starts from the old weights.
WAYS: dict[str, tuple[dict[str, Any], bool]] = {
    "from scratch": ({}, False),
    "all stages, one rate": ({}, True),
    "all stages, rate halved by stage": (HALVED, True),
    "the same, batch norms frozen": ({**HALVED, "batch_norm": "frozen"}, True),
    "frozen until conv3": ({**HALVED, "freeze": "conv3"}, True),
    "linear probe": ({"freeze": "all"}, True),
}
COLUMNS = {
    "way": ("peer", ""),
    **{f"{n} a class": (f"text_{n}", "") for n in PER_CLASS},
}


class Half(NamedTuple):
    """Images of five classes, labelled 0 to 4."""

    images: np.ndarray
    labels: np.ndarray

    def take(self, index: np.ndarray) -> Half:
        return Half(self.images[index], self.labels[index])

    def draw(self, random: np.random.Generator, per_class: int) -> np.ndarray:
        """Indices of so many images of each class."""
        classes = (np.flatnonzero(self.labels == label) for label in range(CLASSES))
        return np.concatenate(
            [random.choice(one, per_class, replace=False) for one in classes]
        )


def network(shape: tuple[int, ...]) -> keras.Model:
    return build(cifar_resnet(8), input_shape=shape, classes=CLASSES, pixel_stats=STATS)


class Learner:
    """A compiled network that is trained again and again from other weights."""

    def __init__(self, shape: tuple[int, ...], steps: int, **changes: Any) -> None:
        recipe = training.get_recipe("finetune").over(1)
        recipe = recipe.replace(learning_rate=RATE, **changes)
        self.model = network(shape)
        training.freeze(self.model, recipe.freeze, recipe.batch_norm)
        self.model.compile(**recipe.compile_args(self.model, steps))

    def train(self, half: Half, seed: int, steps: int, batch: int) -> None:
        """So many steps, in as many passes as they take."""
        random, count = np.random.default_rng(seed), len(half.labels)
        passes = -(-steps * batch // count)
        order = np.concatenate([random.permutation(count) for _ in range(passes)])
        images, labels = half.take(order[: steps * batch])
        if self.model.optimizer.built:
            for variable in self.model.optimizer.variables:
                variable.assign(keras.ops.zeros_like(variable))
        self.model.fit(images, labels, batch_size=batch, shuffle=False, verbose=0)

    def accuracy(self, half: Half) -> float:
        logits = self.model.predict(half.images, batch_size=250, verbose=0)
        return float(np.mean(logits.argmax(-1) == half.labels))


def halves(source: str) -> tuple[Half, Half, Half | None]:
    """Old classes, new classes, and test images of these if there are separate ones."""
    found = read(source, Options())

    def half(images: Images, first: int) -> Half:
        chosen = (images.labels >= first) & (images.labels < first + CLASSES)
        return Half(images.pixels[chosen], images.labels[chosen] - first)

    test = half(found.test, CLASSES) if found.test else None
    return half(found.train, 0), half(found.train, CLASSES), test


def measure(source: str, steps: int, seeds: int) -> list[dict[str, Any]]:
    old, new, test = halves(source)
    shape = old.images.shape[1:]
    teacher = Learner(shape, OLD_STEPS)
    learners = {name: Learner(shape, steps, **c) for name, (c, _) in WAYS.items()}
    found: dict[str, dict[int, list[float]]] = {
        name: {n: [] for n in PER_CLASS} for name in WAYS
    }
    for seed in range(seeds):
        keras.utils.set_random_seed(seed)
        start = network(shape).get_weights()
        teacher.model.set_weights(start)
        teacher.train(old, seed, OLD_STEPS, OLD_BATCH)
        *taught, _, _ = teacher.model.get_weights()
        taught += start[-2:]  # a new head
        for n in PER_CLASS:
            random = np.random.default_rng((seed, n))
            index = new.draw(random, n)
            rest = np.setdiff1d(np.arange(len(new.labels)), index)
            tested = test or new.take(rest)
            tested = tested.take(random.permutation(len(tested.labels))[:TESTED])
            for name, learner in learners.items():
                learner.model.set_weights(taught if WAYS[name][1] else start)
                learner.train(new.take(index), seed, steps, BATCH)
                found[name][n].append(learner.accuracy(tested))
            click.echo(f"{source}, {steps} steps, seed {seed}, {n} a class", err=True)
    return [
        _record(f"{source}, {steps} steps", name, runs) for name, runs in found.items()
    ]


def _record(case: str, name: str, runs: Mapping[int, list[float]]) -> dict[str, Any]:
    record: dict[str, Any] = {"case": case, "peer": name}
    for n, values in runs.items():
        record[f"accuracies_{n}"] = values
        spread = np.std(values, ddof=1) if len(values) > 1 else 0.0
        record[f"text_{n}"] = f"{np.mean(values):.1%} +- {spread:.1%}"
    return record


@click.command()
@options.several("--data", "sources", SOURCES, SOURCES)
@click.option(
    "--steps",
    "lengths",
    multiple=True,
    type=click.IntRange(1),
    default=[40, 150],
    show_default=True,
)
@options.count("--seeds", 3)
@options.out()
def main(
    sources: tuple[str, ...], lengths: tuple[int, ...], seeds: int, out: Path
) -> None:
    """Compare ways of fine-tuning with training from scratch."""
    records: list[dict[str, Any]] = []
    for source in sources:
        for steps in lengths:
            records += measure(source, steps, seeds)
            report.write(out, records)
    note = (
        f"Test accuracy, mean and standard deviation of {seeds} seeds; steps of "
        f"{BATCH} images."
    )
    report.show("Five new classes after five others", COLUMNS, records, note)


if __name__ == "__main__":
    main()
