"""Hyperparameter search over depth, width factor k and cardinality."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from keras_resnet.errors import BudgetError
    from tuning.budget import Budget
    from tuning.decode import recipe_from_hp, spec_from_hp
    from tuning.hypermodel import ResidualHyperModel
    from tuning.objective import SearchError
    from tuning.searching import search
    from tuning.space import Range, Space, SpaceError
    from tuning.spaces import SPACES, get_space
    from tuning.trials import SearchResult

_HOMES = {
    "SPACES": "spaces",
    "Budget": "budget",
    "BudgetError": "budget",
    "Range": "space",
    "ResidualHyperModel": "hypermodel",
    "SearchError": "objective",
    "SearchResult": "trials",
    "Space": "space",
    "SpaceError": "space",
    "get_space": "spaces",
    "recipe_from_hp": "decode",
    "search": "searching",
    "spec_from_hp": "decode",
}

__all__ = [
    "SPACES",
    "Budget",
    "BudgetError",
    "Range",
    "ResidualHyperModel",
    "SearchError",
    "SearchResult",
    "Space",
    "SpaceError",
    "get_space",
    "recipe_from_hp",
    "search",
    "spec_from_hp",
]


def __getattr__(name: str) -> Any:
    # KerasTuner and TensorFlow are imported by what trains.
    if name in _HOMES:
        return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
