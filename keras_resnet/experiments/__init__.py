"""The papers' claims, tested on one's own data: experiments, runs, reports."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from keras_resnet.experiments.claims import Arm, Claim, Experiment, ExperimentError
from keras_resnet.experiments.scale import BUDGETS, Setting, setting_of
from keras_resnet.experiments.table import EXPERIMENTS, get_experiment

if TYPE_CHECKING:
    from keras_resnet.experiments.reporting import Report, report
    from keras_resnet.experiments.running import run

__all__ = [
    "BUDGETS",
    "EXPERIMENTS",
    "Arm",
    "Claim",
    "Experiment",
    "ExperimentError",
    "Report",
    "Setting",
    "get_experiment",
    "report",
    "run",
    "setting_of",
]

_HOMES = {"Report": "reporting", "report": "reporting", "run": "running"}


def __getattr__(name: str) -> Any:
    # The table is read without TensorFlow; what trains imports it.
    if name in _HOMES:
        return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
