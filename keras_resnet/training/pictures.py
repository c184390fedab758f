"""The pictures a run leaves."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from keras_resnet import runfolder


def draw_curves(history: Sequence[dict[str, Any]], path: Path) -> None:
    """Loss and error by epoch, of training and validation."""
    from matplotlib.figure import Figure

    epochs = [row["epoch"] for row in history]
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    loss, error = figure.subplots(1, 2)
    # Dashed for training and bold for validation, as He 2015 draws its Figure 6.
    for prefix, label, style in (
        ("", "training", {"linestyle": "--", "color": "tab:blue"}),
        ("val_", "validation", {"linewidth": 2, "color": "tab:orange"}),
    ):
        if f"{prefix}loss" not in history[0]:
            continue
        loss.plot(
            epochs, [row[f"{prefix}loss"] for row in history], label=label, **style
        )
        errors = [100 * (1 - row[f"{prefix}accuracy"]) for row in history]
        error.plot(epochs, errors, label=label, **style)
    for axes, name in ((loss, "cross-entropy"), (error, "error (%)")):
        axes.set(xlabel="epoch", ylabel=name)
        axes.grid(alpha=0.3)
        axes.legend()
    loss.set_ylim(bottom=0)
    error.set_ylim(0, max(2.0, *(min(100, 1.1 * e) for e in _later_errors(history))))
    _save(figure, path)


def _later_errors(history: Sequence[dict[str, Any]]) -> list[float]:
    """Errors (%) after the first tenth: the first epochs would flatten the rest."""
    later = history[min(len(history) // 10 + 1, len(history) - 1) :]
    return [
        100 * (1 - row[name])
        for row in later
        for name in ("accuracy", "val_accuracy")
        if name in row
    ] + [0.0]


def draw_confusion(
    labels: np.ndarray, predictions: np.ndarray, class_names: Sequence[str], path: Path
) -> None:
    """Counts of true against predicted class."""
    from matplotlib.figure import Figure
    from sklearn.metrics import ConfusionMatrixDisplay

    side = max(4.5, 0.5 * len(class_names))
    figure = Figure(figsize=(side, side), layout="constrained")
    axes = figure.subplots()
    ConfusionMatrixDisplay.from_predictions(
        labels,
        predictions,
        labels=range(len(class_names)),
        display_labels=class_names,
        ax=axes,
        cmap="Blues",
        colorbar=False,
    )
    axes.set_title(
        f"{np.mean(labels == predictions):.2%} of {len(labels)} test images right"
    )
    _save(figure, path)


def _save(figure: Any, path: Path) -> None:
    with runfolder.replacing(path) as temporary:
        figure.savefig(temporary, dpi=150)
