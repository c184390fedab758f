"""The figures a run leaves: legible in print, and to the color-blind."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from keras_resnet.figures import (
    COLORS,
    OUTLINE,
    SMALL,
    TINY,
    integer_ticks,
    new_figure,
    percent_ticks,
    short_name,
    write_figure,
)
from keras_resnet.tasks import ACCURACY, Measure

if TYPE_CHECKING:
    from keras_resnet.training.evaluation import Bin, Mistake

WITH_NUMBERS = 20  # classes: a matrix of more has no counts in it
WITH_NAMES = 60  # of more, it has no names
AS_MATRIX = 200  # of more, the most confused pairs are shown instead
PAIRS = 30

WIDE = (
    50  # losses whose greatest is so many times the least are drawn by their logarithm
)


def draw_curves(
    history: Sequence[dict[str, Any]],
    path: Path,
    rates: Sequence[tuple[float, float]] = (),
    score: Measure = ACCURACY,
) -> None:
    """Loss, error and, where it is known, learning rate by epoch.

    Args:
        history: a row for each epoch.
        path: a PNG or SVG file.
        rates: (epochs that are done, learning rate), also within epochs; by default
            those that the epochs started with, from the history.
        score: that of the task; instead of accuracy, by its error, others as they are.
    """
    epochs = [row["epoch"] for row in history]
    drawn = "default" if rates else "steps-post"
    if not rates and "learning_rate" in history[0]:
        rates = [(row["epoch"] - 1, row["learning_rate"]) for row in history]
        rates.append((epochs[-1], rates[-1][1]))
    panels = 2 + bool(rates)
    figure, (loss, error, *rest) = new_figure(4.5 * panels, 3.6, columns=panels)
    # Dashed for training and bold for validation, as He 2015 draws its Figure 6.
    for prefix, label, style in (
        ("", "training", {"linestyle": "--", "color": COLORS[0]}),
        ("val_", "validation", {"linewidth": 2, "color": COLORS[1]}),
    ):
        if f"{prefix}loss" not in history[0]:
            continue
        style = {**style, "marker": "o" if len(history) == 1 else ""}
        loss.plot(
            epochs, [row[f"{prefix}loss"] for row in history], label=label, **style
        )
        scores = [row[f"{prefix}{score.key}"] for row in history]
        if score is ACCURACY:
            scores = [100 * (1 - each) for each in scores]
        error.plot(epochs, scores, label=label, **style)
    of_error = "error (%)" if score is ACCURACY else score.name
    for axes, name in ((loss, "loss"), (error, of_error)):
        axes.set(xlabel="epoch", ylabel=name)
        axes.legend()
    least, most = loss.dataLim.intervaly
    if 0 < WIDE * least < most:  # one epoch would hide all others
        loss.set_yscale("log")
    else:
        loss.set_ylim(bottom=0)
    # So that neither the first epochs nor the last ones are flattened.
    if score is ACCURACY:
        percent_ticks(error.yaxis)
        error.set_ylim(0, 1.1 * error.dataLim.ymax)
    else:  # of R2 there is no least
        error.set_ylim(max(-0.1, error.dataLim.ymin - 0.05), 1.02)
    for axes in rest:
        axes.plot(*zip(*rates, strict=True), color="black", drawstyle=drawn)
        axes.set(xlabel="epochs done", ylabel="learning rate")
        axes.set_ylim(bottom=0)
    for axes in figure.axes:
        integer_ticks(axes.xaxis)
    write_figure(path, figure)


def draw_confusion(
    labels: np.ndarray, predictions: np.ndarray, class_names: Sequence[str], path: Path
) -> None:
    """True against predicted class: a matrix, or of many classes the worst pairs.

    Up to `WITH_NUMBERS` classes it has counts; colors are shares of the true class.
    """
    from sklearn.metrics import confusion_matrix

    counts = confusion_matrix(labels, predictions, labels=range(len(class_names)))
    names = [short_name(name, 24) for name in class_names]
    title = f"{np.mean(labels == predictions):.2%} of {len(labels)} test images right"
    if len(names) > AS_MATRIX:
        figure, axes = new_figure(7.5, 8, grid="")
        _draw_pairs(axes, counts, names)
        title += f"; {len(names)} classes"
    else:
        side = min(max(4.5, 0.5 * len(names)), 11)
        figure, axes = new_figure(side + 1, side, grid="")
        _draw_matrix(axes, counts, names)
    figure.suptitle(title)
    write_figure(path, figure)


def _draw_matrix(axes: Any, counts: np.ndarray, names: Sequence[str]) -> None:
    from matplotlib.colors import PowerNorm

    shares = 100 * counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    # Roots, for what is confused is a few per cent beside the diagonal.
    scale = PowerNorm(0.5, vmin=0, vmax=100)
    image = axes.imshow(shares, cmap="Blues", norm=scale)
    axes.figure.colorbar(image, ax=axes, label="% of the true class", shrink=0.8)
    axes.set(xlabel="predicted class", ylabel="true class")
    if len(names) > WITH_NAMES:
        axes.set(xlabel="predicted class (index)", ylabel="true class (index)")
        return
    size = 10 if len(names) <= WITH_NUMBERS else TINY
    upright = max(map(len, names)) > 3
    axes.set_xticks(
        range(len(names)), names, rotation=90 if upright else 0, fontsize=size
    )
    axes.set_yticks(range(len(names)), names, fontsize=size)
    if len(names) > WITH_NUMBERS:
        return
    for (row, column), count in np.ndenumerate(counts):
        dark = scale(shares[row, column]) > 0.6
        axes.text(
            column,
            row,
            count or "",
            ha="center",
            va="center",
            color="white" if dark else "black",
            fontsize=9 if counts.max() < 1000 else TINY,
        )


def _draw_pairs(axes: Any, counts: np.ndarray, names: Sequence[str]) -> None:
    """The pairs of true and predicted class that are confused most often."""
    wrong = counts.copy()
    np.fill_diagonal(wrong, 0)
    order = np.argsort(-wrong, axis=None, kind="stable")[:PAIRS]
    pairs = [divmod(int(i), len(names)) for i in order if wrong.flat[i]]
    values = [wrong[pair] for pair in pairs]
    bars = axes.barh(range(len(pairs)), values, color=COLORS[0])
    axes.bar_label(bars, padding=2, fontsize=SMALL)
    axes.set_yticks(
        range(len(pairs)),
        [f"{names[true]} → {names[predicted]}" for true, predicted in pairs],
        fontsize=SMALL,
    )
    axes.invert_yaxis()
    axes.margins(x=0.08, y=0.01)
    axes.set(
        xlabel="test images", title="most confused: true → predicted class (images)"
    )
    integer_ticks(axes.xaxis)


SHOWN = 20  # images of a batch


def draw_mistakes(
    images: Sequence[np.ndarray], mistakes: Sequence[Mistake], path: Path
) -> None:
    """A grid of images with what they are and what they were taken for."""
    titles = [
        f"is {short_name(mistake.true, 20)}\ntaken for "
        f"{short_name(mistake.predicted, 20)}\n{short_name(mistake.text, 24)}"
        for mistake in mistakes
    ]
    figure = _grid(images, titles)
    figure.suptitle("worst mistakes" if mistakes else "no mistakes")
    write_figure(path, figure)


def draw_images(images: Sequence[np.ndarray], names: Sequence[str], path: Path) -> None:
    """A grid of training images, as they are changed at random, with their classes."""
    figure = _grid(images, [short_name(name, 20) for name in names])
    figure.suptitle("training images of the first epoch, as they are augmented")
    write_figure(path, figure)


def _grid(images: Sequence[np.ndarray], titles: Sequence[str]) -> Any:
    """Images (height, width, channels), five in a row, with their titles."""
    columns = 5
    rows = max(-(-len(images) // columns), 1)
    lines = 1 + max((title.count("\n") for title in titles), default=0)
    height = (2.2 + 0.15 * lines) * rows + 0.4
    figure, grid = new_figure(
        2.3 * columns, height, rows, columns, grid="", squeeze=False
    )
    for axes in grid.flat:
        axes.axis("off")
    for axes, image, title in zip(grid.flat, images, titles, strict=False):
        axes.imshow(
            image if image.shape[-1] in (3, 4) else image[..., 0],
            cmap="gray",
            vmin=0,
            vmax=255,
        )
        axes.set_title(title, fontsize=SMALL)
    return figure


def draw_calibration(
    bins: Sequence[Bin], error: float, path: Path, of: str = "images"
) -> None:
    """The reliability diagram (Guo 2017, Figure 1): accuracy by confidence."""
    figure, (upper, lower) = new_figure(
        4.8, 5.8, rows=2, sharex=True, height_ratios=[3, 1]
    )
    edges = np.arange(len(bins)) / len(bins)
    width = 1 / len(bins)
    outline = {"width": width, "align": "edge", **OUTLINE}
    upper.bar(edges, [b.accuracy for b in bins], color=COLORS[0], **outline)
    filled = [b for b in bins if b.images]
    upper.plot(
        [b.confidence for b in filled],
        [b.accuracy for b in filled],
        "D",
        color=COLORS[1],
        markeredgecolor="black",
        clip_on=False,
        label="mean confidence, accuracy",
    )
    upper.plot([0, 1], [0, 1], "--", color="black", label="perfectly calibrated")
    upper.set(xlim=(0, 1), ylim=(0, 1), ylabel="accuracy")
    figure.legend(loc="outside lower center", ncols=2, fontsize=SMALL)
    upper.set_title(f"expected calibration error {error:.2%}")
    lower.bar(edges, [b.images for b in bins], color="lightgray", **outline)
    lower.set_yscale("symlog", linthresh=1)
    lower.set(xlabel="confidence", ylabel=of)
    write_figure(path, figure)
