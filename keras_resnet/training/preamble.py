"""What a run is about to do, before it does it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from rich.console import Console

from keras_resnet import runtime
from keras_resnet.cost import estimate_cost
from keras_resnet.data import Splits
from keras_resnet.data.summary import summary
from keras_resnet.losses import balanced_weights
from keras_resnet.plan import make_plan
from keras_resnet.recipe import Recipe
from keras_resnet.run import Run
from keras_resnet.training import checkpoints
from keras_resnet.units import count, in_units


def show(
    console: Console | None,
    run: Run,
    recipe: Recipe,
    data: Splits,
    facts: Mapping[str, Any],
) -> None:
    """Prints the images by class, then a line each of what is done with them.

    Args:
        console: nothing is printed if None.
        run: the run, opened.
        recipe: with the network for this data.
        data: to train on.
        facts: what `data.json` and `environment.json` hold.
    """
    if console is None:
        return
    # Paths are to be copied: no line is folded.
    console.print(summary(data, _balance(recipe, data)), soft_wrap=True)
    for label, text in _lines(run, recipe, data, facts):
        console.print(f"{label:<10}{text}", soft_wrap=True)


def _balance(recipe: Recipe, data: Splits) -> dict[str, tuple[float, ...]]:
    """How much each class counts, where the recipe balances them."""
    asked = {
        "weight in the loss": recipe.class_weight == "balanced",
        "times an epoch": recipe.sampling == "balanced",
    }
    return {
        title: balanced_weights(data.class_counts.get("train", ()))
        for title, is_asked in asked.items()
        if is_asked
    }


def _lines(
    run: Run, recipe: Recipe, data: Splits, facts: Mapping[str, Any]
) -> Iterator[tuple[str, str]]:
    yield "data", str(facts["source"])
    spec, cost = recipe.model, estimate_cost(recipe.model)
    height, width, _ = data.image_shape
    macs = f", {in_units(cost.macs, 'MAC')} an image" if cost.macs else ""
    yield (
        "network",
        f"{spec.name}: {make_plan(spec).depth} layers deep, "
        f"{in_units(cost.params, 'param')}{macs}; images of {height}x{width}",
    )
    yield "start", _start(run, recipe, facts)
    stop = f", or {recipe.early_stopping} without a better one"
    yield (
        "training",
        f"recipe {recipe.name}: {count(recipe.epochs, 'epoch')}"
        + stop * bool(recipe.early_stopping)
        + f", each {count(data.steps, 'step')} of {count(recipe.batch_size, 'image')}",
    )
    replicas = f" x {facts['replicas']}" if facts["replicas"] > 1 else ""
    devices = ", ".join(name.rpartition("device:")[2] for name in facts["devices"])
    threads = f", {facts['threads']} threads" if "GPU" not in devices else ""
    # A run that goes on keeps its precision.
    asked = facts["precision"] == "float32" and not checkpoints.position(run.folder)
    advice = f"; {told}" if asked and (told := runtime.bfloat16_advice()) else ""
    yield "device", f"{devices}{replicas}{threads}, {facts['precision']}{advice}"


def _start(run: Run, recipe: Recipe, facts: Mapping[str, Any]) -> str:
    """What the weights are at the first step of this process."""
    at = checkpoints.position(run.folder)
    if at:
        within = f", after its step {at[1]}" if at[1] else ""
        if at[0] >= recipe.epochs:
            epochs = count(recipe.epochs, "epoch")
            return f"the run in {run.folder} has had its {epochs}; its test is left"
        epoch = f"epoch {at[0] + 1} of {recipe.epochs}"
        return f"the run in {run.folder} goes on at {epoch}{within}"
    if not facts["weights"]:
        return f"random weights, seed {facts['seed']}"
    file = facts["weights"].rpartition(" sha256:")[0]
    arguments = facts["arguments"] or {}
    split = "; its split is kept" if "split_seed" in arguments else ""
    return f"weights of {file}, with a new head{split}"
