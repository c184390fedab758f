"""What networks cost, how they respond, and how they compare."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from keras_resnet.analysis.ablation import lesions
    from keras_resnet.analysis.activation import class_activation, feature_maps
    from keras_resnet.analysis.diagrams import draw_plan
    from keras_resnet.analysis.measuring import Measurement, measure
    from keras_resnet.analysis.profiler import Profile, profile
    from keras_resnet.analysis.reference import build_reference
    from keras_resnet.analysis.responses import (
        gate_openness,
        gradient_norms,
        layer_responses,
        shortcut_shares,
    )

_HOMES = {
    "Measurement": "measuring",
    "Profile": "profiler",
    "build_reference": "reference",
    "class_activation": "activation",
    "draw_plan": "diagrams",
    "feature_maps": "activation",
    "gate_openness": "responses",
    "gradient_norms": "responses",
    "layer_responses": "responses",
    "lesions": "ablation",
    "measure": "measuring",
    "profile": "profiler",
    "shortcut_shares": "responses",
}

__all__ = [
    "Measurement",
    "Profile",
    "build_reference",
    "class_activation",
    "draw_plan",
    "feature_maps",
    "gate_openness",
    "gradient_norms",
    "layer_responses",
    "lesions",
    "measure",
    "profile",
    "shortcut_shares",
]


def __getattr__(name: str) -> Any:
    # Published results and their charts need no TensorFlow.
    if name in _HOMES:
        return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
