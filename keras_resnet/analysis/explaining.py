"""A trained network's responses, shortcuts, gates and lesions as figures."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import keras

from keras_resnet.analysis import responses
from keras_resnet.analysis.ablation import Lesion, lesions
from keras_resnet.figures import (
    COLORS,
    Chart,
    caption,
    integer_ticks,
    legend_above,
    name_ticks,
    new_figure,
    save,
    series,
)
from keras_resnet.graphs import flat
from keras_resnet.layers import MergeGate
from keras_resnet.plan import unit_of


def responses_chart(
    networks: Mapping[str, Sequence[responses.LayerResponse]],
) -> Chart:
    """Figure 7 of He 2015: above in network order, below sorted.

    Args:
        networks: name -> `layer_responses` of it.
    """
    figure, (upper, lower) = new_figure(7.5, 5.8, rows=2)
    for i, (name, rows) in enumerate(networks.items()):
        places = range(1, len(rows) + 1)
        stds = [row.std for row in rows]
        upper.plot(places, stds, marker=".", **series(i, name))
        lower.plot(places, sorted(stds, reverse=True), marker=".", **series(i, name))
    upper.set(xlabel="layer, in network order", ylabel="standard deviation")
    lower.set(xlabel="layer, sorted", ylabel="standard deviation")
    highest = max(row.std for rows in networks.values() for row in rows)
    for axes in (upper, lower):
        axes.set_ylim(0, 1.08 * highest)
        integer_ticks(axes.xaxis)
    if len(networks) == 1:
        _name_layers(upper, rows)
    legend_above(figure, upper)
    numbers = [(name, *row) for name, rows in networks.items() for row in rows]
    return Chart(figure, ("network", *responses.LayerResponse._fields), numbers)


def gradients_chart(states: Mapping[str, Sequence[responses.GradientNorm]]) -> Chart:
    """Gradients by depth: do they vanish, explode, or neither?

    Args:
        states: such as "at initialization" -> `gradient_norms` then.
    """
    figure, axes = new_figure(7.5, 4.4)
    positive = [row.norm for rows in states.values() for row in rows if row.norm]
    floor = min(positive, default=1.0) / 3
    for i, (name, rows) in enumerate(states.items()):
        norms = [row.norm or math.nan for row in rows]
        axes.plot(range(1, len(norms) + 1), norms, marker=".", **series(i, name))
        zeros = [place for place, row in enumerate(rows, start=1) if not row.norm]
        axes.plot(
            zeros, [floor] * len(zeros), "v", markerfacecolor="none", clip_on=False,
            color=series(i, name)["color"],
        )  # fmt: skip
    axes.set_yscale("log")
    axes.set_ylabel("gradient's norm")
    _name_layers(axes, rows)
    legend_above(figure, axes)
    if any(not row.norm for rows in states.values() for row in rows):
        axes.set_ylim(bottom=floor)
        caption(
            figure,
            "Triangles: no gradient, such as before a batch norm whose gamma is 0, as "
            "it starts with zero_gamma, or in a unit that was dropped.",
        )
    numbers = [(name, *row) for name, rows in states.items() for row in rows]
    return Chart(figure, ("state", *responses.GradientNorm._fields), numbers)


def _name_layers(axes: Any, rows: Sequence[Any]) -> None:
    axes.set_xlabel("layer")
    name_ticks(axes.xaxis, [row.layer for row in rows])


def _chart(rows: Sequence[Any], field: str, label: str) -> Chart:
    """A share (%) of each unit, in network order."""
    figure, axes = new_figure(7.5, 4.0)
    values = [100 * getattr(row, field) for row in rows]
    axes.plot(range(1, len(rows) + 1), values, marker="o", color=COLORS[0])
    axes.set(xlabel="unit", ylabel=f"{label} (%)")
    name_ticks(axes.xaxis, [unit_of(row.unit) or row.unit for row in rows])
    top = max(values) or 1.0
    axes.set_ylim(-0.04 * top, 1.08 * top)  # points at 0 are drawn whole
    return Chart(figure, rows[0]._fields, rows)


def lesion_chart(rows: Sequence[Lesion]) -> Chart:
    """The error without each unit, and of the whole network."""
    whole, *others = rows
    chart = _chart(others, "error", "error without the unit")
    (axes,) = chart.figure.axes
    axes.axhline(
        100 * whole.error,
        color=COLORS[1],
        linestyle="--",
        label=f"whole network: {whole.error:.1%}",
    )
    legend_above(chart.figure, axes)
    return chart._replace(rows=rows)


def explain(
    model: keras.Model,
    batches: Sequence[Any],
    folder: Path,
    task: str | None = None,
) -> list[Path]:
    """Draws all analyses of a model, a figure each (PNG, SVG, CSV).

    Args:
        model: a classifier that our training built.
        batches: of (images, labels), read several times.
        folder: where the figures go.
        task: what the model does, where its loss doesn't say.

    Returns:
        the files.

    Raises:
        UserError: no 3x3 or hidden dense layers, no images in the batches, no
            classifier, or a file can't be written.
        OSError: the folder can't be made.
    """
    model = flat(model)
    # With new weights, and of Keras' class also where that recomputes activations.
    fresh = keras.models.clone_model(keras.Model(model.input, model.output))
    pixels, labels = batches[0]
    norms = {
        state: responses.gradient_norms(network, pixels, labels, task)
        for state, network in (("at initialization", fresh), ("trained", model))
    }
    charts = {
        "responses": responses_chart(
            {model.name: responses.layer_responses(model, batches)}
        ),
        "gradients": gradients_chart(norms),
    }
    if responses.merges_of(model):
        shares = responses.shortcut_shares(model, batches)
        charts["shortcuts"] = _chart(shares, "share", "shortcut's share of the signal")
        charts["lesions"] = lesion_chart(lesions(model, batches, task))
    if any(isinstance(layer, MergeGate) for layer in model.layers):
        gates = responses.gate_openness(model, batches)
        charts["gates"] = _chart(gates, "mean", "mean openness of the gate")
    folder.mkdir(parents=True, exist_ok=True)
    return [
        path for name, chart in charts.items() for path in save(chart, folder / name)
    ]
