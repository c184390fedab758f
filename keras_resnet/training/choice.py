"""What to train on a folder of images where nothing else is said.

By the number of images, their size, the devices, and the published weights that are
already here. The choice is a recipe like any other: it is printed as a command, kept
in the run, and taken up again by a run that is resumed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from keras_resnet.cost import estimate_cost
from keras_resnet.data.dataset import absolute
from keras_resnet.data.images import Found, Images
from keras_resnet.data.options import Options
from keras_resnet.data.sources import read
from keras_resnet.presets import get_spec
from keras_resnet.recipe import Recipe
from keras_resnet.recipes import get_recipe
from keras_resnet.run import Run
from keras_resnet.spec import ResNetSpec
from keras_resnet.units import count
from keras_resnet.weights import PUBLISHED, download

HOURS = 1.0  # that a training should take at most
SPEED = {"CPU": 2e10, "GPU": 3e12}  # multiply-adds a second: of a core, of a GPU
STEPS = 2000  # that few images are trained for
MOST_EPOCHS = 100
LOOKED_AT = 100  # images whose sizes are read
SMALL = 48  # side in pixels up to which images go through a CIFAR network

# Networks and sides for larger images, the costliest first.
LADDER = (("resnet34", 224), ("resnet18", 160), ("resnet18", 96), ("resnet18", 64))
# Weights that are taken if they are here, the best first.
WEIGHTS = (
    "torchvision/resnet50.IMAGENET1K_V2",
    "torchvision/resnet50.IMAGENET1K_V1",
    "torchvision/resnet18.IMAGENET1K_V1",
)


class Choice(NamedTuple):
    """What was chosen, and why.

    Attributes:
        recipe: to train by.
        weights: to start from, if any.
        reasons: three lines.
        options: of the command line, with their values, that say the same; none of a
            run that is resumed.
    """

    recipe: Recipe
    weights: str | None
    reasons: tuple[str, ...]
    options: Mapping[str, Any]


def choose(
    source: str,
    *,
    weights: str | None = None,
    devices: tuple[str, int] = ("CPU", 1),
    folder: Path | None = None,
    change: Callable[[Recipe], Recipe] = lambda recipe: recipe,
    **loading: Any,
) -> Choice:
    """A recipe, a network, a size and weights for a folder of images.

    Args:
        source: "folder:PATH".
        weights: to start from; None: what is found here.
        devices: "CPU" and its cores, or "GPU" and their number.
        folder: of an unfinished run, whose choice is taken.
        change: makes what else was asked for of a recipe.
        **loading: arguments of `data.load`.

    Raises:
        UserError: the folder can't be read.
    """
    if folder and (kept := _of_run(Run(folder), source)):
        return kept._replace(recipe=change(kept.recipe))
    options = Options(**{k: v for k, v in loading.items() if v is not None})
    found = read(source, options)
    parts = [part for part in (found.train, found.val, found.test) if part]
    images = sum(part.count for part in parts)
    kind, cores = devices
    speed = SPEED[kind] * cores
    start = weights or _cached(found)
    size = f"{found.size[0]}x{found.size[1]}" if found.size else "several sizes"
    here = f"{count(images, 'image')} of {size}, {len(found.class_names)} classes"
    if start:
        recipe = get_recipe("finetune")
        changes: dict[str, Any] = {}
        why = "weights named" if weights else "published weights that are here"
        first = f"starts from {start}: {why}; few images teach a head"
    else:
        first = "starts from random weights: no published ones are here (--weights)"
        recipe, changes = get_recipe("folder"), _network(found, images, speed)
    if start:
        same = {"recipe": recipe.name, "weights": start}
    else:
        changes["epochs"] = _epochs(images, recipe)
        same = {"recipe": recipe.name, **changes}
        recipe = recipe.over(changes.pop("epochs"))
        augment = changes.pop("assignments", [])
        recipe = recipe.set([f"{k}={v}" for k, v in changes.items()] + augment)
    recipe = change(recipe)
    steps = images * recipe.epochs
    minutes = _training_macs(recipe.model, recipe.image_size) * steps / speed / 60
    reasons = (
        f"{here}, on {count(cores, kind)}",
        first,
        f"recipe {recipe.name}, {recipe.model.name} at {recipe.image_size or 'its'} "
        f"pixels, {count(recipe.epochs, 'epoch')}: roughly {minutes:,.0f} min, chosen "
        f"for {HOURS:g} h at most",
    )
    return Choice(recipe, start, reasons, same)


def _of_run(run: Run, source: str) -> Choice | None:
    """The choice that an unfinished run on the same images was begun with."""
    if not run.exists or run.is_finished:
        return None
    data = run.data
    if data.get("source") != absolute(source):
        return None
    start = (data.get("weights") or "").rpartition(" sha256:")[0] or None
    for name in WEIGHTS:  # of a publisher's file, its name
        if start and start == str(_file(name)):
            start = name
    reason = f"as the run in {run.folder} was begun"
    return Choice(run.recipe, start, (reason,), {})


def _cached(found: Found) -> str | None:
    """Published weights that are on this machine and fit the images."""
    if found.channels == 1 or _side(found) <= SMALL:
        return None
    for name in WEIGHTS:
        if _file(name).is_file():
            return name
    return None


def _file(name: str) -> Path:
    """Where published weights are once they have been fetched."""
    return download.cache_folder() / PUBLISHED[name].url.rsplit("/", 1)[1]


def _network(found: Found, images: int, speed: float) -> dict[str, Any]:
    """Fields of a recipe: network and side, the costliest that can be afforded."""
    side = _side(found)
    if side <= SMALL:
        return {
            "model": "cifar_resnet20",
            "image_size": side,
            "assignments": ['augment={"pad": 2, "flip": true}'],
        }
    recipe = get_recipe("folder")
    epochs = _epochs(images, recipe)
    for name, wanted in LADDER:
        smaller = min(wanted, side)
        macs = _training_macs(get_spec(name), smaller)
        if macs * images * epochs / speed <= HOURS * 3600:
            break
    return {"model": name, "image_size": smaller}


def _side(found: Found) -> int:
    """The usual length of the images' shorter side, by some of them."""
    if found.size:
        return min(found.size)
    assert isinstance(found.train, Images)  # noqa: S101  # a folder is no stream
    paths = found.train.pixels
    sides = []
    for i in range(0, len(paths), max(len(paths) // LOOKED_AT, 1)):
        with Image.open(paths[i]) as image:
            sides.append(min(image.size))
    return int(np.median(sides))


def _training_macs(spec: ResNetSpec, side: int | None) -> int:
    """Multiply-adds of a step for an image: backward takes twice forward's."""
    return 3 * (
        estimate_cost(spec.replace(input_shape=spec.image_shape(side))).macs or 0
    )


def _epochs(images: int, recipe: Recipe) -> int:
    """The recipe's, or more where images are few."""
    wanted = -(-STEPS * recipe.batch_size // max(images, 1))
    return min(max(recipe.epochs, wanted), MOST_EPOCHS)
