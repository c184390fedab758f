"""A trained network's responses, shortcuts, gates and lesions as figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import keras

from keras_resnet.analysis import responses
from keras_resnet.figures import (
    COLORS,
    SMALL,
    Chart,
    integer_ticks,
    new_figure,
    save,
    series,
)
from keras_resnet.layers import MergeGate


def responses_chart(
    networks: Mapping[str, Sequence[responses.LayerResponse]],
) -> Chart:
    """Figure 7 of He 2015: above in network order, below sorted.

    Args:
        networks: name -> `layer_responses` of it.
    """
    figure, (upper, lower) = new_figure(7.5, 5.5, rows=2)
    for i, (name, rows) in enumerate(networks.items()):
        stds = [row.std for row in rows]
        upper.plot(range(1, len(stds) + 1), stds, marker=".", **series(i, name))
        lower.plot(
            range(1, len(stds) + 1), sorted(stds, reverse=True), **series(i, name)
        )
    upper.set(xlabel="layer, in network order", ylabel="standard deviation")
    lower.set(xlabel="layer, sorted", ylabel="standard deviation")
    figure.legend(*upper.get_legend_handles_labels(), loc="outside upper center",
                  ncols=5, fontsize=SMALL)  # fmt: skip
    highest = max(row.std for rows in networks.values() for row in rows)
    for axes in (upper, lower):
        axes.set_ylim(0, 1.08 * highest)
    numbers = [(name, *row) for name, rows in networks.items() for row in rows]
    return Chart(figure, ("network", *responses.LayerResponse._fields), numbers)


def gradients_chart(states: Mapping[str, Sequence[responses.GradientNorm]]) -> Chart:
    """Gradients by depth: do they vanish, explode, or neither?

    Args:
        states: such as "at initialization" -> `gradient_norms` then.
    """
    figure, axes = _axes("layer, in network order", "gradient's norm")
    for i, (name, rows) in enumerate(states.items()):
        norms = [row.norm for row in rows]
        axes.plot(range(1, len(norms) + 1), norms, marker=".", **series(i, name))
    axes.set_yscale("log")
    figure.legend(loc="outside upper center", ncols=len(states), fontsize=SMALL)
    numbers = [(name, *row) for name, rows in states.items() for row in rows]
    return Chart(figure, ("state", *responses.GradientNorm._fields), numbers)


def _axes(x: str, y: str) -> tuple[Any, Any]:
    figure, axes = new_figure(7.5, 3.6)
    integer_ticks(axes.xaxis)
    axes.set(xlabel=x, ylabel=y)
    return figure, axes


def _chart(rows: Sequence[Any], field: str, label: str) -> Chart:
    """One number of each unit, in network order."""
    figure, axes = _axes("unit, in network order", label)
    values = [getattr(row, field) for row in rows]
    axes.plot(range(1, len(rows) + 1), values, marker="o", color=COLORS[0])
    axes.set_ylim(bottom=0)
    return Chart(figure, rows[0]._fields, rows)


def lesion_chart(rows: Sequence[responses.Lesion]) -> Chart:
    """The error without each unit, and of the whole network."""
    whole, *others = rows
    chart = _chart(others, "error", "error without the unit")
    axes = chart.figure.axes[0]
    axes.axhline(whole.error, color=COLORS[1], linestyle="--", label="whole network")
    axes.legend(fontsize=SMALL)
    return chart._replace(rows=rows)


def explain(model: keras.Model, batches: Sequence[Any], folder: Path) -> list[Path]:
    """Draws all analyses of a model, a figure each (PNG, SVG, CSV).

    Args:
        model: a classifier that our training built.
        batches: of (images, labels), read several times.
        folder: where the figures go.

    Returns:
        the files.

    Raises:
        UserError: no 3x3 or hidden dense layers, no images in the batches, no
            classifier, or a file can't be written.
        OSError: the folder can't be made.
    """
    # With new weights, and of Keras' class also where that recomputes activations.
    fresh = keras.models.clone_model(keras.Model(model.input, model.output))
    charts = {
        "responses": responses_chart(
            {model.name: responses.layer_responses(model, batches)}
        ),
        "gradients": gradients_chart(
            {
                "at initialization": responses.gradient_norms(fresh, *batches[0]),
                "trained": responses.gradient_norms(model, *batches[0]),
            }
        ),
    }
    if responses.merges_of(model):
        shares = responses.shortcut_shares(model, batches)
        charts["shortcuts"] = _chart(shares, "share", "shortcut's share of the signal")
        charts["lesions"] = lesion_chart(responses.lesions(model, batches))
    if any(isinstance(layer, MergeGate) for layer in model.layers):
        gates = responses.gate_openness(model, batches)
        charts["gates"] = _chart(gates, "mean", "mean openness of the gate")
    folder.mkdir(parents=True, exist_ok=True)
    return [
        path for name, chart in charts.items() for path in save(chart, folder / name)
    ]
