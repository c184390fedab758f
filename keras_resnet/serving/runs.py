"""What an export takes from a run folder: see `run.Run`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from keras_resnet.run import Run


def load_judged(folder: Path) -> tuple[Any, dict[str, Any]]:
    """A run's best model at the size that it is tested at, and what its data are."""
    run = Run(folder)
    return run.load_model(at_test_size=True), run.data


def describe_run(folder: Path) -> dict[str, Any]:
    """Which run a model came from, and its metrics as far as they are known."""
    return Run(folder).describe()
