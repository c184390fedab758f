"""Fine-tuning: old weights under a new head, frozen stages, rates by stage.

A stage is what layers are named after: conv1 (the stem), conv2 ... conv5, as
keras.applications has them; a pre-activation network's last batch norm goes with its
last stage. All other layers are the head. So keras.applications' own models and models
with a head of yours are taken too.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any, NamedTuple, get_args

import keras

from keras_resnet import files, weights
from keras_resnet.errors import UserError, WeightsError
from keras_resnet.network import PixelStats, build, pixel_stats_of
from keras_resnet.plan import LAST, stage_of
from keras_resnet.recipe import ALL_STAGES, BatchNormMode, Recipe
from keras_resnet.run import Run
from keras_resnet.spec import ResNetSpec
from keras_resnet.weights import fitting, origins
from keras_resnet.weights.channels import adapted_stats


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
        UserError: no such stage, or nothing is left to train.
    """
    stages = _stages(model)
    names = list(stages)
    if until not in (None, ALL_STAGES, *names):
        raise UserError(
            f"freeze: {until!r} is not a stage of {model.name}; it has "
            f"{', '.join(names) or 'none'}"
            + f", and {ALL_STAGES!r} is all"
            * bool(names)
        )
    modes = get_args(BatchNormMode)
    if batch_norm not in modes:
        raise UserError(
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
        raise UserError(
            f"freeze: nothing of {model.name} is left to train; freeze fewer stages or "
            "put a head on it"
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
        UserError: the model has no stages.
    """
    names = list(_stages(model))
    if not names:
        raise UserError(
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
        run: the run whose best model it is, if it is one's.
    """

    model: keras.Model
    file: Path
    sha256: str
    run: Run | None = None

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
        return stats and adapted_stats(stats, channels)


def follow(recipe: Recipe, source: Path | str) -> Recipe:
    """The recipe for the network of the weights; as it is where that isn't known."""
    spec = origins.find(source).spec
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
    found = origins.find(source)
    file = found.file
    if found.described:
        model = weights.pretrained(found.name)
    elif file.suffix == ".keras":
        try:
            model = files.load_keras(file, compile=False)
        except ValueError as error:
            raise WeightsError(f"weights: can't load {file}: {error}") from None
    else:
        # No file of others' has stochastic depth; the network to be trained may.
        stats = found.pixel_stats
        stats = stats and adapted_stats(stats, spec.input_shape[-1])
        model = build(spec, survival=1.0, pixel_stats=stats)
        weights.load(model, file, head=False)
    with file.open("rb") as content:
        digest = hashlib.file_digest(content, "sha256").hexdigest()
    return Source(model, file.absolute(), digest, found.run)


def transplant(old: keras.Model, new: keras.Model) -> None:
    """Copies the weights of all stages by the names of layers; heads stay.

    The first convolution fits itself to the images' channels; see `weights.channels`.

    Args:
        old: where the weights are from.
        new: a network of the same stages, with any head.

    Raises:
        WeightsError: layers that the other lacks or has in another shape; nothing is
            copied then.
    """
    weights.load(new, old, head=False, adapt_channels=True)


def _stages(model: keras.Model) -> dict[str, list[Any]]:
    """Layers of each stage, in order."""
    stages: dict[str, list[Any]] = {}
    last: list[Any] = []
    for layer in fitting.layers_of(model):
        if stage := stage_of(layer.name):
            part = last if stage == LAST else stages.setdefault(stage, [])
            part.append(layer)
    stages = {name: stages[name] for name in sorted(stages, key=_number)}
    if stages:
        [*stages.values()][-1].extend(last)
    return stages


def _number(stage: str) -> int:
    return int(stage.removeprefix("conv"))
