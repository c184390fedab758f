"""Training by recipes: `fit` for a model, `train` for the whole job."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from keras_resnet.training.recipe_table import RECIPES, get_recipe
from keras_resnet.training.recipes import Recipe, RecipeError

if TYPE_CHECKING:
    from keras_resnet.training.loop import RunResult, evaluate, fit, train

__all__ = [
    "RECIPES",
    "Recipe",
    "RecipeError",
    "RunResult",
    "evaluate",
    "fit",
    "get_recipe",
    "train",
]

_LOOP = ("RunResult", "evaluate", "fit", "train")


def __getattr__(name: str) -> Any:
    # Recipes are read without TensorFlow; what trains imports it.
    if name in _LOOP:
        from keras_resnet.training import loop

        return getattr(loop, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
