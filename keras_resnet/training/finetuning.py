"""Fine-tuning: old weights under a new head, frozen stages, rates by stage.

A stage is what layers are named after: conv1 (the stem), conv2 ... conv5, as
keras.applications has them; a pre-activation network's last batch norm goes with its
last stage. All other layers are the head. So keras.applications' own models and models
with a head of yours are taken too.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, get_args

import keras
import numpy as np

from keras_resnet import files, weights
from keras_resnet.errors import UserError, one_line
from keras_resnet.network import PixelStats, build, pixel_stats_of
from keras_resnet.plan import LAST, stage_of
from keras_resnet.presets import get_spec
from keras_resnet.recipe import ALL_STAGES, BatchNormMode, Recipe
from keras_resnet.run import BEST, Run
from keras_resnet.spec import ResNetSpec

NAMED = 3  # layers in a message


class FinetuningError(UserError):
    """Stages or weights that a model doesn't have."""


def freeze(
    model: keras.Model,
    until: str | None = None,
    batch_norm: BatchNormMode = "frozen",
) -> None:
    """Keeps the first stages of a network as they are; the rest trains.

    Call it before the model is compiled, and again, with other arguments, to thaw.
    Frozen batch norms normalize by their moving statistics in training too, and leave
    them. Dropout and stochastic depth of frozen stages go on.

    Args:
        model: a network, with a head of any kind.
        until: the last stage that is frozen, such as "conv4" (inclusive: conv1 to
            conv4 stay, conv5 and the head train); "all": all stages, so that the head
            alone trains, a linear probe; None: none.
        batch_norm: what batch norms of all stages do. "frozen": none trains, whatever
            stage it is in, as detectors have it (small batches spoil statistics).
            "follow": they are frozen with their stage. "train": all train, so that
            frozen convolutions meet statistics of the new images.

    Raises:
        FinetuningError: no such stage, or nothing is left to train.
    """
    stages = _stages(model)
    names = list(stages)
    if until not in (None, ALL_STAGES, *names):
        raise FinetuningError(
            f"freeze: {until!r} is not a stage of {model.name}; it has "
            f"{', '.join(names) or 'none'}"
            + f", and {ALL_STAGES!r} is all"
            * bool(names)
        )
    modes = get_args(BatchNormMode)
    if batch_norm not in modes:
        raise FinetuningError(
            f"batch_norm: {batch_norm!r} is not one of {', '.join(map(repr, modes))}"
        )
    frozen = {None: 0, ALL_STAGES: len(names)}.get(until)
    if frozen is None:
        frozen = names.index(str(until)) + 1
    before = [(layer, layer.trainable) for part in stages.values() for layer in part]
    for i, part in enumerate(stages.values()):
        for layer in part:
            is_norm = isinstance(layer, keras.layers.BatchNormalization)
            if is_norm and batch_norm != "follow":
                layer.trainable = batch_norm == "train"
            else:
                layer.trainable = i >= frozen
    if not model.trainable_variables:
        for layer, trainable in before:
            layer.trainable = trainable
        raise FinetuningError(
            f"freeze: nothing of {model.name} is left to train; freeze fewer stages or "
            "put a head on it"
        )


def check(recipe: Recipe, source: Path | str | None) -> None:
    """Refuses to keep layers as they were drawn.

    Raises:
        FinetuningError: the recipe freezes, and there are no weights.
    """
    if recipe.freezes and source is None:
        what = recipe.freeze or "batch norms"
        raise FinetuningError(
            f"freeze: {what} would stay as drawn at random; give the weights to start "
            "from (--weights)"
        )


def apply(recipe: Recipe, model: keras.Model) -> None:
    """Freezes what the recipe says; a recipe that freezes nothing leaves the model."""
    if recipe.freezes:
        freeze(model, recipe.freeze, recipe.batch_norm)


def rate_factors(model: keras.Model, decay: float) -> dict[str, float]:
    """Factors of the learning rate by stage, for `optimizers.SGD`.

    The head has the whole rate, the last stage `decay` of it, the one before that
    decay**2 (discriminative fine-tuning: Howard 2018, 1801.06146, section 3.2).

    Raises:
        FinetuningError: the model has no stages.
    """
    names = list(_stages(model))
    if not names:
        raise FinetuningError(
            f"stage_decay: {model.name} has no stages, layers named conv1_..., "
            "conv2_..., that rates could differ by"
        )
    factors = {
        f"{name}_": decay**distance
        for distance, name in enumerate(reversed(names), start=1)
    }
    return {**factors, f"{LAST}_": decay}


class Source(NamedTuple):
    """Weights to start from, and the network that they are in.

    Attributes:
        model: the network, with its own head.
        file: where the weights were.
        sha256: of the file, in hexadecimal.
    """

    model: keras.Model
    file: Path
    sha256: str

    @property
    def name(self) -> str:
        """What a run folder keeps of it."""
        return f"{self.file} sha256:{self.sha256}"

    @property
    def size(self) -> tuple[int, int] | None:
        """Height and width of its images, if they are fixed."""
        _, *sides, _ = self.model.input_shape
        return None if None in sides or len(sides) != 2 else (sides[0], sides[1])

    def pixel_stats(self, channels: int) -> PixelStats | None:
        """Its normalization of pixels, for images of so many channels."""
        stats = pixel_stats_of(self.model)
        return stats and adapted(stats, channels)


def adapted(stats: PixelStats, channels: int) -> PixelStats:
    """A normalization of pixels for another number of channels: all get the mean."""
    if len(stats[0]) == channels:
        return stats
    mean, std = ([float(np.mean(numbers))] * channels for numbers in stats)
    return mean, std


def spec_of_source(source: Path | str) -> ResNetSpec | None:
    """The network that weights are of, if that is known: a run's or a published one."""
    if row := weights.PUBLISHED.get(str(source)):
        return get_spec(row.preset)
    folder = _run_of(Path(source))
    if folder is None:
        return None
    run = Run(folder)
    run.check_trained()
    return run.recipe.model


def follow(recipe: Recipe, source: Path | str) -> Recipe:
    """The recipe for the network of the weights; as it is where that isn't known."""
    spec = spec_of_source(source)
    return recipe.replace(model=spec) if spec else recipe


def read_source(source: Path | str, spec: ResNetSpec) -> Source:
    """Weights to start from.

    Args:
        source: a run folder, a `.keras` file, a published name, or another file that
            `weights.load` takes.
        spec: the network of such another file.

    Raises:
        UserError: there is none, or it doesn't fit the spec.
    """
    row = weights.PUBLISHED.get(str(source))
    folder = _run_of(Path(source))
    if folder:
        Run(folder).check_trained()
    file = row.fetch() if row else folder / BEST if folder else Path(source)
    if not file.is_file():
        raise FinetuningError(
            f"weights: {source} is no file, run folder or published name"
        )
    if row:
        model = weights.pretrained(str(source))
    elif file.suffix == ".keras":
        try:
            model = keras.models.load_model(file, compile=False)
        except files.DAMAGES as error:
            reason = one_line(error)
            raise FinetuningError(f"weights: can't load {file}: {reason}") from None
    else:
        # No file of others' has stochastic depth; the network to be trained may.
        model = build(spec, survival=1.0)
        weights.load(model, file, head=False)
    with file.open("rb") as content:
        digest = hashlib.file_digest(content, "sha256").hexdigest()
    return Source(model, file.absolute(), digest)


def transplant(old: keras.Model, new: keras.Model) -> None:
    """Copies the weights of all stages by the names of layers; heads stay.

    The first convolution fits itself to the images' channels: from gray to colors its
    kernel is shared out, from colors to gray summed, so that gray images in colors give
    the same as before.

    Args:
        old: where the weights are from.
        new: a network of the same stages, with any head.

    Raises:
        FinetuningError: layers that the other lacks or has in another shape; nothing
            is copied then.
    """
    sources, targets = _weighted(old), _weighted(new)
    missing = [name for name in targets if name not in sources]
    extra = [name for name in sources if name not in targets]
    values, misshapen = {}, []
    for name in targets.keys() & sources.keys():
        shapes = [weight.shape for weight in targets[name].weights]
        value = _with_channels(sources[name].get_weights(), shapes, name)
        values[name] = value
        if [weight.shape for weight in value] != shapes:
            misshapen.append(name)
    problems = [
        f"{_some(names)} {what}"
        for names, what in (
            (missing, "it lacks"),
            (extra, "it has besides"),
            (sorted(misshapen), "has another shape"),
        )
        if names
    ]
    if problems or not values:
        raise FinetuningError(
            f"weights: those of {old.name} are of another network than {new.name}: "
            + ("; ".join(problems) or "it has no stages")
        )
    for name, value in values.items():
        targets[name].set_weights(value)


def _run_of(source: Path) -> Path | None:
    """The run folder that a source is or whose best model it is."""
    if source.is_dir():
        return source
    run = source.name == BEST and Run(source.parent).exists
    return source.parent if run else None


def _stages(model: keras.Model) -> dict[str, list[Any]]:
    """Layers of each stage, in order."""
    stages: dict[str, list[Any]] = {}
    last: list[Any] = []
    for layer, stage in _staged(model):
        part = last if stage == LAST else stages.setdefault(stage, [])
        part.append(layer)
    stages = {name: stages[name] for name in sorted(stages, key=_number)}
    if stages:
        [*stages.values()][-1].extend(last)
    return stages


def _staged(model: keras.Model) -> Iterator[tuple[Any, str]]:
    """Layers that belong to a stage and its name, those of nested models too."""
    for layer in model.layers:
        if stage := stage_of(layer.name):
            yield layer, stage
        elif isinstance(layer, keras.Model):
            yield from _staged(layer)


def _number(stage: str) -> int:
    return int(stage.removeprefix("conv"))


def _weighted(model: keras.Model) -> dict[str, Any]:
    layers = (layer for part in _stages(model).values() for layer in part)
    return {layer.name: layer for layer in layers if layer.weights}


def _with_channels(
    values: list[np.ndarray], shapes: Sequence[tuple[int, ...]], name: str
) -> list[np.ndarray]:
    """A stem's kernel for other channels, from or to one; else what it was."""
    kernel, wanted = values[0], shapes[0]
    if name == "conv1_conv" and kernel.ndim == len(wanted) == 4:
        old, new = kernel.shape[2], wanted[2]
        if old != new and 1 in (old, new):
            kernel = kernel.sum(axis=2, keepdims=True).repeat(new, axis=2) / new
    return [kernel, *values[1:]]


def _some(names: Sequence[str]) -> str:
    more = len(names) - NAMED
    return ", ".join(names[:NAMED]) + (f" and {more} more" if more > 0 else "")
