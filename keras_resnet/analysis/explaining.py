"""A trained network's responses, shortcuts, gates and lesions as figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import keras

from keras_resnet.analysis import responses
from keras_resnet.analysis.charts import Chart, save
from keras_resnet.layers import MergeGate

COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00")
STYLES = ("-", "--", ":", "-.")


def responses_chart(
    networks: Mapping[str, Sequence[responses.LayerResponse]],
) -> Chart:
    """Figure 7 of He 2015: above in network order, below sorted.

    Args:
        networks: name -> `layer_responses` of it.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.5, 5.5), layout="constrained")
    upper, lower = figure.subplots(2, 1)
    for i, (name, rows) in enumerate(networks.items()):
        stds = [row.std for row in rows]
        style = {"color": COLORS[i % 5], "linestyle": STYLES[i % 4], "label": name}
        upper.plot(range(1, len(stds) + 1), stds, marker=".", **style)
        lower.plot(range(1, len(stds) + 1), sorted(stds, reverse=True), **style)
    upper.set(xlabel="layer, in network order", ylabel="standard deviation")
    lower.set(xlabel="layer, sorted", ylabel="standard deviation")
    figure.legend(*upper.get_legend_handles_labels(), loc="outside upper center",
                  ncols=5, fontsize=8)  # fmt: skip
    highest = max(row.std for rows in networks.values() for row in rows)
    for axes in (upper, lower):
        axes.grid(alpha=0.3)
        axes.set_ylim(0, 1.08 * highest)
    numbers = [(name, *row) for name, rows in networks.items() for row in rows]
    return Chart(figure, ("network", *responses.LayerResponse._fields), numbers)


def _chart(rows: Sequence[Any], field: str, label: str, *, log: bool = False) -> Chart:
    """One number of each layer or unit, in network order."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    figure = Figure(figsize=(7.5, 3.6), layout="constrained")
    axes = figure.subplots()
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    values = [getattr(row, field) for row in rows]
    axes.plot(range(1, len(rows) + 1), values, marker="o", color=COLORS[0])
    if log:
        axes.set_yscale("log")
    else:
        axes.set_ylim(bottom=0)
    axes.set(xlabel=f"{rows[0]._fields[0]}, in network order", ylabel=label)
    axes.grid(alpha=0.3)
    return Chart(figure, rows[0]._fields, rows)


def lesion_chart(rows: Sequence[responses.Lesion]) -> Chart:
    """The error without each unit, and of the whole network."""
    whole, *others = rows
    chart = _chart(others, "error", "error without the unit")
    axes = chart.figure.axes[0]
    axes.axhline(whole.error, color=COLORS[1], linestyle="--", label="whole network")
    axes.legend(fontsize=8)
    return chart._replace(rows=rows)


def explain(model: keras.Model, batches: Sequence[Any], folder: Path) -> list[Path]:
    """All that there is to see in a model, a figure each (PNG, SVG, CSV).

    Args:
        model: a classifier that our training built.
        batches: of (images, labels), read several times.
        folder: where the figures go.
    """
    charts = {
        "responses": responses_chart(
            {model.name: responses.layer_responses(model, batches)}
        ),
        "gradients": _chart(
            responses.gradient_norms(model, *batches[0]),
            "norm",
            "gradient's norm",
            log=True,
        ),
    }
    try:
        shares = responses.shortcut_shares(model, batches)
    except responses.ResponseError:
        pass  # a plain network has no more to show
    else:
        charts["shortcuts"] = _chart(shares, "share", "shortcut's share of the signal")
        charts["lesions"] = lesion_chart(responses.lesions(model, batches))
    if any(isinstance(layer, MergeGate) for layer in model.layers):
        gates = responses.gate_openness(model, batches)
        charts["gates"] = _chart(gates, "mean", "mean openness of the gate")
    folder.mkdir(parents=True, exist_ok=True)
    return [
        path for name, chart in charts.items() for path in save(chart, folder / name)
    ]
