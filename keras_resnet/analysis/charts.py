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
from keras_resnet.analysis.families import OWN, Family, family_of
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


def _family(result: NetworkResult) -> Family:
    return OWN if result.own else family_of(result.network)


def _note(results: Sequence[NetworkResult]) -> str:
    """Under which protocol the accuracies were measured; of own runs, on what."""
    own = sorted({result.test_set for result in results if result.own})
    stars = f"\nStars: own runs, on another test set: {', '.join(own)}." if own else ""
    return LECTURE_NOTE + stars


def _bars(
    results: Sequence[NetworkResult],
    value: Callable[[NetworkResult], float],
    form: str,
    label: str,
) -> Any:
    """Horizontal bars, the largest on top."""
    results = sorted(results, key=value)
    figure, axes = new_figure(7.5, 0.27 * len(results) + 1.6, grid="x")
    places = range(len(results))  # not the titles: runs may have equal ones
    bars = axes.barh(
        places,
        [value(result) for result in results],
        color=[_family(result).color for result in results],
        **OUTLINE,
    )
    axes.set_yticks(places, [result.title for result in results])
    axes.bar_label(
        bars, [form.format(value(e)) for e in results], padding=3, fontsize=SMALL
    )
    axes.margins(x=0.1, y=0.02)
    axes.set_xlabel(label)
    axes.set_axisbelow(True)
    caption(figure, _note(results))
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
    figure, axes = new_figure(8.0, 5.8)
    scale = 1600 / max(result.params for result in results)  # points^2 a parameter
    points = []
    for result in sorted(results, key=lambda e: -e.params):
        family = _family(result)
        area = max(result.params * scale, 16)
        x = result.macs / 1e9
        axes.scatter(
            x, result.accuracy, s=area, color=family.color, alpha=0.55, lw=0, zorder=2
        )
        axes.scatter(
            x, result.accuracy, s=40 if result.own else 18, color=family.color,
            marker=family.marker, zorder=3, **OUTLINE,
        )  # fmt: skip
        points.append(Label(x, result.accuracy, result.title, sqrt(area) / 2))
    few = min(result.macs for result in results) * 100 < max(e.macs for e in results)
    if few:
        axes.set_xscale("log")  # small networks beside those of ImageNet
        axes.margins(x=0.12, y=0.12)
    else:
        axes.margins(y=0.12)
        axes.set_xlim(-0.9, 1.12 * max(result.macs for result in results) / 1e9)
    axes.set(
        xlabel="multiply-adds of an image (G-MACs; Canziani's G-Ops are twice)",
        ylabel="top-1 accuracy (%)",
    )
    axes.set_axisbelow(True)
    _legends(axes, results, scale)
    caption(figure, _note(results))
    place_labels(axes, points)
    return Chart(figure, _SIZES, _size_rows(results))


def _legends(axes: Any, results: Sequence[NetworkResult], scale: float) -> None:
    """What markers and areas mean, beside the axes."""
    families = [
        axes.scatter(
            [], [], s=30, color=family.color, marker=family.marker,
            label=family.label, **OUTLINE,
        )
        for family in dict.fromkeys(_family(result) for result in results)
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
