"""Training by recipes: `fit` for a model, `train` for the whole job."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from keras_resnet.errors import RecipeError
from keras_resnet.recipe import Recipe
from keras_resnet.recipes import RECIPES, get_recipe

if TYPE_CHECKING:
    from keras_resnet.training.callbacks import callbacks_for
    from keras_resnet.training.compile import compile_args
    from keras_resnet.training.devices import distribution as distribution
    from keras_resnet.training.finetuning import follow, freeze, transplant
    from keras_resnet.training.loop import RunResult, evaluate, fit, train

__all__ = [
    "RECIPES",
    "Recipe",
    "RecipeError",
    "RunResult",
    "callbacks_for",
    "compile_args",
    "evaluate",
    "fit",
    "follow",
    "freeze",
    "get_recipe",
    "train",
    "transplant",
]

_HOMES = {
    "callbacks_for": "callbacks",
    "compile_args": "compile",
    **dict.fromkeys(("follow", "freeze", "transplant"), "finetuning"),
    **dict.fromkeys(("RunResult", "evaluate", "fit", "train"), "loop"),
}


def __getattr__(name: str) -> Any:
    # Recipes are read without TensorFlow; what trains imports it.
    if name in _HOMES:
        return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
    if name == "distribution":  # as docs/devices.md imports it
        return importlib.import_module(f"{__name__}.devices.distribution")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
