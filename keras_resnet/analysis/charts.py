"""The charts of Canziani 2016 (1605.07678), and the lecture's others.

Each is a PNG, an SVG and a CSV of the numbers in it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import sqrt
from pathlib import Path
from typing import Any

from keras_resnet.analysis import timing_charts
from keras_resnet.analysis.comparing import Comparison
from keras_resnet.analysis.families import Family, family_of
from keras_resnet.analysis.published import (
    LECTURE_NOTE,
    WINNERS,
    NetworkResult,
    reduction_cost,
)
from keras_resnet.errors import UserError
from keras_resnet.figures import (
    COLORS,
    OUTLINE,
    SMALL,
    Chart,
    Label,
    caption,
    new_figure,
    place_labels,
    save,
)


def _panels(results: Sequence[NetworkResult]) -> dict[str, list[NetworkResult]]:
    """Results that can be compared, under a title: the published, own by test set."""
    panels: dict[str, list[NetworkResult]] = {}
    for result in sorted(results, key=lambda result: result.own):
        title = f"own runs, {result.test_set}" if result.own else result.test_set
        panels.setdefault(title, []).append(result)
    return panels


def _note(figure: Any, results: Sequence[NetworkResult]) -> None:
    """Says under which protocol the published accuracies were measured."""
    if not all(result.own for result in results):
        caption(figure, LECTURE_NOTE)


def _families(results: Sequence[NetworkResult]) -> list[Family]:
    return list(dict.fromkeys(family_of(result.network) for result in results))


def _bars(
    results: Sequence[NetworkResult],
    value: Callable[[NetworkResult], float],
    form: str,
    label: str,
) -> Any:
    """Horizontal bars, the largest on top."""
    from matplotlib.patches import Patch

    panels = _panels(results)
    figure, grid = new_figure(
        7.5, 0.27 * len(results) + 0.6 * len(panels) + 1.4, rows=len(panels), grid="x",
        squeeze=False, height_ratios=[len(panel) + 0.5 for panel in panels.values()],
    )  # fmt: skip
    for axes, (title, panel) in zip(grid[:, 0], panels.items(), strict=True):
        panel = sorted(panel, key=value)
        places = range(len(panel))  # not the titles: runs may have equal ones
        bars = axes.barh(
            places,
            [value(result) for result in panel],
            color=[family_of(result.network).color for result in panel],
            **OUTLINE,
        )
        axes.set_yticks(places, [result.title for result in panel])
        axes.bar_label(
            bars, [form.format(value(e)) for e in panel], padding=3, fontsize=SMALL
        )
        axes.margins(x=0.1)
        axes.set_ylim(-0.6, len(panel) - 0.4)
        axes.set_title(title, fontsize=SMALL, loc="left")
        axes.set_axisbelow(True)
    axes.set_xlabel(label)
    figure.legend(
        handles=[
            Patch(facecolor=family.color, label=family.label, **OUTLINE)
            for family in _families(results)
        ],
        loc="outside upper center", ncols=7, fontsize=SMALL,
    )  # fmt: skip
    _note(figure, results)
    return figure


_SIZES = (
    "network",
    "title",
    "top1_accuracy",
    "params",
    "macs",
    "test_set",
    "crop",
    "source",
)


def _size_rows(results: Sequence[NetworkResult]) -> list[tuple[object, ...]]:
    return [
        (r.network, r.title, r.accuracy, r.params, r.macs, r.test_set, r.crop, r.source)
        for r in results
    ]


def accuracy(comparison: Comparison) -> Chart:
    """Top-1 accuracy by network (Figure 1)."""
    results = comparison.results
    figure = _bars(results, lambda e: e.accuracy, "{:.1f}", "top-1 accuracy (%)")
    return Chart(figure, _SIZES, _size_rows(results))


def density(comparison: Comparison) -> Chart:
    """Accuracy per parameter (Figure 10)."""

    def per_million(result: NetworkResult) -> float:
        return result.accuracy / (result.params / 1e6)

    results = comparison.results
    label = "top-1 accuracy per million parameters (%/M)"
    figure = _bars(results, per_million, "{:.2f}", label)
    rows = [(e.network, e.title, e.accuracy, e.params, per_million(e)) for e in results]
    return Chart(
        figure,
        ("network", "title", "top1_accuracy", "params", "percent_per_million"),
        rows,
    )


def accuracy_by_operations(comparison: Comparison) -> Chart:
    """Top-1 accuracy against multiply-adds; a bubble's area: parameters (Figure 2)."""
    results = comparison.results
    panels = _panels(results)
    own = sum(title.startswith("own") for title in panels)
    figure, grid = new_figure(
        8.0 + 2.6 * own, 5.8, columns=len(panels), squeeze=False,
        width_ratios=[1 if title.startswith("own") else 2.6 for title in panels],
    )  # fmt: skip
    scale = 1600 / max(result.params for result in results)  # points^2 a parameter
    labels = [
        _bubbles(axes, panel, scale)
        for axes, panel in zip(grid[0], panels.values(), strict=True)
    ]
    for axes, title in zip(grid[0], panels, strict=True):
        axes.set_title(title, fontsize=SMALL, loc="left")
    grid[0][0].set_ylabel("top-1 accuracy (%)")
    _legends(grid[0][0], results, scale)
    _note(figure, results)
    for axes, points in zip(grid[0], labels, strict=True):
        place_labels(axes, points)
    return Chart(figure, _SIZES, _size_rows(results))


def _bubbles(axes: Any, results: Sequence[NetworkResult], scale: float) -> list[Label]:
    """Draws networks that can be compared; returns their labels."""
    labels = []
    most = max(result.macs for result in results)
    unit, name = (1e9, "G") if most >= 1e9 else (1e6, "M")
    for result in sorted(results, key=lambda result: -result.params):
        family = family_of(result.network)
        area = max(result.params * scale, 16)
        place = result.macs / unit, result.accuracy
        axes.scatter(*place, s=area, color=family.color, alpha=0.55, lw=0, zorder=2)
        axes.scatter(
            *place, s=18, color=family.color, marker=family.marker, zorder=3, **OUTLINE
        )
        labels.append(Label(*place, result.title, sqrt(area) / 2))
    accuracies = [result.accuracy for result in results]
    room = max(0.12 * (max(accuracies) - min(accuracies)), 1)
    axes.set_ylim(min(accuracies) - room, min(max(accuracies) + room, 100.5))
    if min(result.macs for result in results) * 100 < most:
        axes.set_xscale("log")
        axes.margins(x=0.12)
    else:
        axes.set_xlim(-0.05 * most / unit, 1.12 * most / unit)
    note = "; Canziani's G-Ops are twice" if name == "G" else ""
    axes.set_xlabel(f"multiply-adds ({name}-MACs{note})")
    axes.set_axisbelow(True)
    return labels


def _legends(axes: Any, results: Sequence[NetworkResult], scale: float) -> None:
    """What markers and areas mean, beside the axes."""
    families = [
        axes.scatter(
            [], [], s=30, color=family.color, marker=family.marker,
            label=family.label, **OUTLINE,
        )
        for family in _families(results)
    ]  # fmt: skip
    most = max(result.params for result in results)
    sizes = [
        axes.scatter(
            [], [], s=params * scale, color="lightgray", edgecolor="gray",
            label=f"{params / 1e6:g} M",
        )
        for params in (1e5, 1e6, 5e6, 25e6, 140e6)
        if most / 40 < params <= 1.1 * most
    ]  # fmt: skip
    legend = axes.figure.legend
    legend(handles=families, loc="outside right upper", fontsize=SMALL, frameon=False)
    # Lines as high as the largest bubble.
    legend(
        handles=sizes, loc="outside right lower", title="parameters", fontsize=SMALL,
        title_fontsize=SMALL, frameon=False, labelspacing=3.2, handlelength=5,
        borderpad=2.4,
    )  # fmt: skip


def winners(comparison: Comparison) -> Chart:
    """The winners of ILSVRC by year, as the lecture opens: error and depth."""
    figure, axes = new_figure(7.5, 4.2, grid="y")
    names = [f"{winner.year}\n{winner.name}" for winner in WINNERS]
    bars = axes.bar(
        names, [winner.top5_error for winner in WINNERS], width=0.62,
        color=[COLORS[0] if winner.depth else "#BBBBBB" for winner in WINNERS],
        **OUTLINE,
    )  # fmt: skip
    for bar, winner in zip(bars, WINNERS, strict=True):
        if not winner.won:
            bar.set(hatch="//", facecolor="#9CC7E2")
        depth = f"{winner.depth} layers" if winner.depth else "not learned"
        axes.annotate(
            f"{winner.top5_error:g} %\n{depth}",
            (bar.get_x() + bar.get_width() / 2, winner.top5_error),
            xytext=(0, 3), textcoords="offset points", ha="center", fontsize=SMALL,
        )  # fmt: skip
    axes.set(ylabel="top-5 error (%), test set", ylim=(0, 33))
    axes.tick_params(axis="x", labelsize=SMALL)
    axes.set_axisbelow(True)
    caption(
        figure,
        "ILSVRC classification, as entered (ensembles, many crops); hatched: "
        "runner-up. Russakovsky 2015 (1409.0575), He 2015 (1512.03385)",
    )
    return Chart(figure, WINNERS[0]._fields, WINNERS)


def one_by_one(comparison: Comparison) -> Chart:
    """What a 1x1 convolution saves before a 5x5 one (GoogLeNet's module)."""
    cost = reduction_cost()
    figure, axes = new_figure(7.5, 2.4, grid="")
    names = ["5x5 from 192 channels", "1x1 to 16, then 5x5"]
    left = [0.0, 0.0]
    for part, label, color in (
        ((cost.direct, cost.after), "5x5", COLORS[0]),
        ((0, cost.reduction), "1x1", COLORS[4]),
    ):
        widths = [multiplications / 1e6 for multiplications in part]
        axes.barh(names, widths, left=left, color=color, label=label, **OUTLINE)
        left = widths
    for i, total in enumerate((cost.direct, cost.reduced)):
        axes.text(total / 1e6 + 1, i, f"{total / 1e6:.1f} M", va="center", fontsize=9)
    axes.invert_yaxis()
    axes.set_xlim(0, 1.12 * cost.direct / 1e6)
    axes.set_xlabel("multiplications from 28x28x192 to 28x28x32 (M)")
    axes.legend(loc="lower right", fontsize=SMALL)
    rows = [
        ("direct", cost.direct),
        ("1x1", cost.reduction),
        ("5x5 after it", cost.after),
    ]
    return Chart(figure, ("part", "multiplications"), rows)


ALWAYS = (accuracy, accuracy_by_operations, density, winners, one_by_one)


def draw(comparison: Comparison, folder: Path) -> list[Path]:
    """All charts, each as PNG, SVG and CSV; those of timings where there are any.

    Raises:
        UserError: the folder can't be written.
    """
    charts = ALWAYS + (timing_charts.CHARTS if comparison.timings else ())
    try:
        folder.mkdir(parents=True, exist_ok=True)
        return [
            path
            for make in charts
            for path in save(make(comparison), folder / make.__name__)
        ]
    except OSError as error:
        raise UserError(f"out: can't write to {folder}: {error.strerror}") from None
