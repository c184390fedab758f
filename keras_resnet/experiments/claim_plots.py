"""The figures of the experiments, a function each: outcomes in, a chart out."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from statistics import mean
from typing import Any

from keras_resnet.analysis.explaining import responses_chart
from keras_resnet.analysis.responses import LayerResponse
from keras_resnet.experiments.results import MEASURES, Outcome, Row, by_arm, summarize
from keras_resnet.figures import (
    COLORS,
    SMALL,
    Chart,
    Label,
    integer_ticks,
    new_figure,
    percent_ticks,
    place_labels,
    points,
    series,
)
from keras_resnet.statistics import pareto_front

Maker = Callable[[Sequence[Outcome]], Chart | None]


def curves(outcomes: Sequence[Outcome]) -> Chart | None:
    """Training and validation error by epoch, means over the seeds (He 2015, Fig 6)."""
    figure, panels = new_figure(10, 4.4, columns=2, sharey=True)
    rows: list[tuple[object, ...]] = []
    for i, runs in enumerate(by_arm(outcomes)):
        histories = [run.history for run in runs if run.history]
        if not histories:
            continue
        epochs = range(1, min(map(len, histories)) + 1)
        for axes, key in zip(panels, ("accuracy", "val_accuracy"), strict=True):
            means = [
                100 * mean(1 - history[epoch - 1][key] for history in histories)
                for epoch in epochs
            ]
            axes.plot(epochs, means, **series(i, runs[0].arm.label))
            name = "training" if key == "accuracy" else "validation"
            rows += [
                (runs[0].arm.name, name, epoch, value)
                for epoch, value in zip(epochs, means, strict=True)
            ]
    for axes, what in zip(panels, ("training", "validation"), strict=True):
        axes.set(xlabel="epoch", title=f"{what} error (%)")
        integer_ticks(axes.xaxis)
        # So that neither the first epochs nor the last ones are flattened.
        percent_ticks(axes.yaxis)
    drawn = [
        error for axes in panels for line in axes.lines for error in line.get_ydata()
    ]
    panels[0].set_ylim(0.8 * min(drawn, default=0), 1.1 * max(drawn, default=1) or 1)
    handles = panels[0].get_legend_handles_labels()
    figure.legend(*handles, loc="outside lower center", ncols=4, fontsize=SMALL)
    return Chart(figure, ("arm", "images", "epoch", "error_percent"), rows)


def errors(outcomes: Sequence[Outcome]) -> Chart | None:
    """Test error of each run, and each arm's mean."""
    return _strip(outcomes, "test_error")


def _strip(outcomes: Sequence[Outcome], key: str) -> Chart | None:
    """A line of points for each arm; a bar through their mean."""
    measure = MEASURES[key]
    groups = by_arm(outcomes)
    figure, axes = new_figure(7.5, 1.4 + 0.36 * len(groups))
    rows: list[tuple[object, ...]] = []
    for i, runs in enumerate(groups):
        values = [measure.scale * run.measures[key] for run in runs]
        finite = [value for value in values if math.isfinite(value)]
        rows += [(r.arm.name, r.seed, v) for r, v in zip(runs, values, strict=True)]
        axes.plot(finite, [i] * len(finite), "o", color=COLORS[0], alpha=0.7)
        if finite:
            axes.plot([mean(finite)] * 2, [i - 0.3, i + 0.3], color="black")
        if len(finite) < len(values):
            axes.annotate(
                f"{len(values) - len(finite)} of {len(values)} diverged",
                (0.99, i), xycoords=("axes fraction", "data"), ha="right",
                va="center", fontsize=SMALL, color=COLORS[1],
            )  # fmt: skip
    axes.set_yticks(range(len(groups)), [runs[0].arm.label for runs in groups])
    axes.set_ylim(len(groups) - 0.5, -0.5)
    axes.set_xlabel(f"{measure.label} ({measure.unit}); a point a seed, a bar the mean")
    return Chart(figure, ("arm", "seed", f"{key}_in_{measure.unit}"), rows)


def times(outcomes: Sequence[Outcome]) -> Chart | None:
    """Test error against the time of a training step, means over the seeds."""
    rows = [row for row in _decided(outcomes) if "step_seconds" in row.means]
    if not rows:
        return None
    places = [(1000 * r.means["step_seconds"], _percent(r)) for r in rows]
    figure, axes = new_figure(8, 5.4)
    axes.plot(*zip(*places, strict=True), "o", color=COLORS[0])
    axes.set(xlabel="time of a training step (ms)", ylabel="test error (%)")
    axes.margins(0.16)
    place_labels(
        axes,
        [Label(x, y, row.arm.label, 3)
         for row, (x, y) in zip(rows, places, strict=True)],
    )  # fmt: skip
    numbers = [(r.arm.name, *place) for r, place in zip(rows, places, strict=True)]
    return Chart(figure, ("arm", "milliseconds", "test_error_percent"), numbers)


def pareto(outcomes: Sequence[Outcome]) -> Chart | None:
    """Test error against multiply-adds, and the front: no net is better and cheaper.

    Networks of the front are named, the others shown by the experiment they are of.
    """
    from matplotlib.ticker import NullFormatter, NullLocator

    rows = [row for row in _decided(outcomes) if row.macs]
    if not rows:
        return None
    places = [(row.macs / 1e6, _percent(row)) for row in rows]
    groups: dict[str, list[tuple[float, float]]] = {}
    for row, place in zip(rows, places, strict=True):
        groups.setdefault(row.arm.name.partition(".")[0], []).append(place)
    figure, axes = new_figure(8, 5.4)
    for i, (group, own) in enumerate(groups.items()):
        axes.plot(*zip(*own, strict=True), alpha=0.8, **points(i, group))
    front = pareto_front(
        rows, cost=lambda row: row.macs, quality=lambda row: -_percent(row)
    )
    best = [(row.macs / 1e6, _percent(row)) for row in front]
    axes.step(*zip(*best, strict=True), where="post", color="black", zorder=1)
    axes.set_yscale("log")
    errors = [error for _, error in places]
    low, high = min(errors) / 1.15, max(errors) * 1.15
    ticks = [tick for tick in (1, 2, 3, 5, 7, 10, 15, 20, 30, 50, 70, 100)
             if low <= tick <= high]  # fmt: skip
    axes.set_ylim(low, high)
    axes.set_yticks(ticks, [str(tick) for tick in ticks])
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.set(xlabel="multiply-adds of an image (M)", ylabel="test error (%)")
    axes.margins(x=0.1)
    if len(groups) > 1:
        axes.legend(fontsize=SMALL)
    for place, row in zip(best, front, strict=True):  # below it there is nothing
        axes.annotate(
            row.arm.label, place, (5, -11), textcoords="offset points", fontsize=SMALL
        )
    numbers = [(r.arm.name, *place) for r, place in zip(rows, places, strict=True)]
    return Chart(figure, ("arm", "mega_macs", "test_error_percent"), numbers)


def _decided(outcomes: Sequence[Outcome]) -> list[Row]:
    """Arms of which no run diverged."""
    rows = summarize(outcomes)
    return [row for row in rows if math.isfinite(row.means["test_error"])]


def _percent(row: Row) -> float:
    return 100 * row.means["test_error"]


def responses(outcomes: Sequence[Outcome]) -> Chart | None:
    """Figure 7 of He 2015, of each arm's first seed."""
    found = _probed(outcomes, "responses")
    if not found:
        return None
    return responses_chart(
        {
            label: [LayerResponse(layer, std, None) for layer, std in rows]
            for label, rows in found.items()
        }
    )


def gradients(outcomes: Sequence[Outcome]) -> Chart | None:
    """Gradient norms by depth before training, of each arm's first seed."""
    found = _probed(outcomes, "gradients")
    if not found:
        return None
    figure, axes = new_figure(7.5, 4)
    for i, (label, rows) in enumerate(found.items()):
        places = [place / max(len(rows) - 1, 1) for place in range(len(rows))]
        axes.plot(places, [value for _, value in rows], **series(i, label))
    axes.set_yscale("log")
    axes.set(
        xlabel="place in the network (0: first convolution, 1: last)",
        ylabel="gradient's norm over the kernel's",
    )
    figure.legend(loc="outside lower center", ncols=4, fontsize=SMALL)
    numbers = [(label, *row) for label, rows in found.items() for row in rows]
    return Chart(figure, ("arm", "layer", "relative_norm"), numbers)


def forms(outcomes: Sequence[Outcome]) -> Chart | None:
    """Time a batch of a ResNeXt's three forms."""
    rows = [row for row in summarize(outcomes) if "form_a_seconds" in row.means]
    if not rows:
        return None
    figure, axes = new_figure(7.5, 3.6, grid="")
    numbers: list[tuple[object, ...]] = []
    for i, form in enumerate("abc"):
        values = [1000 * row.means[f"form_{form}_seconds"] for row in rows]
        numbers += [(r.arm.name, form, v) for r, v in zip(rows, values, strict=True)]
        bars = axes.bar(
            [place + 0.27 * (i - 1) for place in range(len(rows))],
            values, 0.25, color=COLORS[i], label=f"form ({form})",
        )  # fmt: skip
        axes.bar_label(bars, fmt="{:.0f}", fontsize=SMALL)
    axes.set_xticks(range(len(rows)), [row.arm.label for row in rows], fontsize=SMALL)
    axes.set_ylabel("ms a batch, inference")
    axes.legend(fontsize=SMALL)
    return Chart(figure, ("arm", "form", "milliseconds"), numbers)


FIGURES: dict[str, Maker] = {
    make.__name__: make
    for make in (curves, errors, times, pareto, responses, gradients, forms)
}


def _probed(outcomes: Sequence[Outcome], probe: str) -> dict[str, Any]:
    """Label -> rows that a probe found, of each arm's first seed."""
    return {
        runs[0].arm.label: runs[0].probes[probe]["rows"]
        for runs in by_arm(outcomes)
        if runs[0].probes.get(probe, {}).get("rows")
    }
