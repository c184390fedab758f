"""What experiments measure of a run besides its errors, a function each."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import mean
from typing import NamedTuple

import keras

from keras_resnet.analysis import gradient_norms, layer_responses
from keras_resnet.data import Splits
from keras_resnet.network import build
from keras_resnet.resnext import to_form
from keras_resnet.run import Run
from keras_resnet.spec import ResNetSpec

BATCHES = 8  # of the validation images
REPEATS = 5
STEPS = 10  # of a repeat


class Probed(NamedTuple):
    """A probe's result.

    Attributes:
        measures: name -> number.
        rows: (layer, value) in network order, where a figure draws them.
    """

    measures: dict[str, float]
    rows: Sequence[tuple[str, float]] = ()


def responses(run: Path, spec: ResNetSpec, data: Splits, seed: int) -> Probed:
    """Standard deviations of the layers' responses (He 2015, Figure 7) and their mean.

    Of the best model, on validation images.
    """
    model = Run(run).load_model()
    found = layer_responses(model, data.val.take(BATCHES))
    return Probed(
        {"response": mean(row.std for row in found)},
        [(row.layer, row.std) for row in found],
    )


def gradients(run: Path, spec: ResNetSpec, data: Splits, seed: int) -> Probed:
    """Gradients by depth before training, as the run's network started.

    The spread is how many powers of ten lie between the greatest and the least
    gradient norm of a convolution, each over its kernel's norm.
    """
    keras.utils.set_random_seed(seed)
    model = build(spec, pixel_stats=data.pixel_stats)
    data.start(0)
    images, labels = next(iter(data.train))
    found = gradient_norms(model, images, labels)[:-1]  # but the classifier
    relative = [row.relative for row in found]
    spread = math.log10(max(relative) / max(min(relative), 1e-30))
    return Probed(
        {"gradient_spread": spread}, [(row.layer, row.relative) for row in found]
    )


def steps(run: Path, spec: ResNetSpec, data: Splits, seed: int) -> Probed:
    """Seconds of a training step: the least mean of some repeats of ten steps.

    Means, since stochastic depth drops other units in each step; the least, since
    others use the machine too. Without the input pipeline.
    """
    keras.utils.set_random_seed(seed)
    recipe = Run(run).recipe
    model = build(spec, pixel_stats=data.pixel_stats)
    counts = data.class_counts.get("train", ())
    model.compile(**recipe.compile_args(model, data.steps, counts))
    images, labels = next(iter(data.train))
    model.train_on_batch(images, labels)  # traces
    means = []
    for _ in range(REPEATS):
        began = time.perf_counter()
        for _ in range(STEPS):
            model.train_on_batch(images, labels)
        means.append((time.perf_counter() - began) / STEPS)
    return Probed({"step_seconds": min(means)})


def forms(run: Path, spec: ResNetSpec, data: Splits, seed: int) -> Probed:
    """Seconds a batch of the three equivalent forms (Xie 2016, Figure 3), in inference.

    The least of some interleaved repeats; none of a network without groups.
    """
    if spec.cardinality == 1 or spec.merge == "none":
        return Probed({})
    model = Run(run).load_model()
    images = next(iter(data.val))[0]
    models = {
        "a": to_form(model, "a", spec=spec),
        "b": to_form(model, "b", spec=spec),
        "c": model,
    }
    seconds = {form: math.inf for form in models}
    for repeat in range(REPEATS + 1):  # the first one traces
        for form, formed in models.items():
            began = time.perf_counter()
            formed.predict_on_batch(images)
            if repeat:
                took = time.perf_counter() - began
                seconds[form] = min(seconds[form], took)
    return Probed({f"form_{form}_seconds": value for form, value in seconds.items()})


PROBES: dict[str, Callable[[Path, ResNetSpec, Splits, int], Probed]] = {
    probe.__name__: probe for probe in (responses, gradients, steps, forms)
}
