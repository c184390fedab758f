"""The charts of Canziani 2016 (1605.07678), and the lecture's others.

Each is a PNG, an SVG and a CSV of the numbers in it. Families differ by marker and by
color, from a palette that the color-blind can tell apart (Okabe and Ito 2008).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from math import sqrt
from pathlib import Path
from typing import Any, NamedTuple

from keras_resnet import runfolder
from keras_resnet.analysis import labels
from keras_resnet.analysis.comparing import Comparison, Entry, Timing, write_csv
from keras_resnet.analysis.published import LECTURE_NOTE, WINNERS, reduction_cost
from keras_resnet.errors import UserError

MIB = 2**20


class Family(NamedTuple):
    """How the networks whose names match are drawn."""

    pattern: str
    label: str
    color: str
    marker: str


FAMILIES = (
    Family(r"(bn_)?alexnet.*", "AlexNet", "#D55E00", "s"),
    Family(r"(bn_)?nin", "NiN", "#F0E442", "^"),
    Family(r"vgg.*", "VGG", "#CC79A7", "v"),
    Family(r"googlenet|inception.*", "Inception", "#E69F00", "D"),
    Family(r".*resnext.*", "ResNeXt", "#56B4E9", "p"),
    Family(r"wrn.*|wide.*", "Wide ResNet", "#009E73", "h"),
    Family(r".*", "ResNet", "#0072B2", "o"),
)
OWN = Family("", "own runs", "#000000", "*")


_TWO = ("#0072B2", "#E69F00")


class Chart(NamedTuple):
    """A figure, and the numbers in it."""

    figure: Any
    columns: Sequence[str]
    rows: Sequence[Sequence[object]]


def _family(entry: Entry) -> Family:
    if entry.own:
        return OWN
    return next(f for f in FAMILIES if re.fullmatch(f.pattern, entry.network))


def _by_name(comparison: Comparison) -> dict[str, Entry]:
    return {entry.network: entry for entry in comparison.entries if not entry.own}


def _figure(width: float = 7.5, height: float = 5.0) -> tuple[Any, Any]:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)  # it knows the sizes of texts
    return figure, figure.subplots()


def _note(entries: Sequence[Entry]) -> str:
    """Under which protocol the accuracies were measured; of own runs, on what."""
    own = sorted({entry.test_set for entry in entries if entry.own})
    stars = f"\nStars: own runs, on another test set: {', '.join(own)}." if own else ""
    return LECTURE_NOTE + stars


def _bars(
    entries: Sequence[Entry], value: Callable[[Entry], float], form: str, label: str
) -> Any:
    """Horizontal bars, the largest on top."""
    entries = sorted(entries, key=value)
    figure, axes = _figure(7.5, 0.27 * len(entries) + 1.6)
    bars = axes.barh(
        [entry.title for entry in entries],
        [value(entry) for entry in entries],
        color=[_family(entry).color for entry in entries],
        edgecolor="black",
        linewidth=0.6,
    )
    axes.bar_label(
        bars, [form.format(value(e)) for e in entries], padding=3, fontsize=8
    )
    axes.margins(x=0.1, y=0.02)
    axes.set_xlabel(label)
    axes.grid(axis="x", alpha=0.3)
    axes.set_axisbelow(True)
    figure.supxlabel(_note(entries), fontsize=7, x=0.01, ha="left")
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


def _size_rows(entries: Sequence[Entry]) -> list[tuple[object, ...]]:
    return [tuple(entry[:8]) for entry in entries]


def accuracy(comparison: Comparison) -> Chart:
    """Top-1 accuracy by network (Figure 1)."""
    entries = comparison.entries
    figure = _bars(entries, lambda e: e.accuracy, "{:.1f}", "top-1 accuracy (%)")
    return Chart(figure, _SIZES, _size_rows(entries))


def density(comparison: Comparison) -> Chart:
    """Accuracy per parameter (Figure 10)."""

    def per_million(entry: Entry) -> float:
        return entry.accuracy / (entry.params / 1e6)

    entries = comparison.entries
    label = "top-1 accuracy per million parameters (%/M)"
    figure = _bars(entries, per_million, "{:.2f}", label)
    rows = [(e.network, e.title, e.accuracy, e.params, per_million(e)) for e in entries]
    return Chart(
        figure,
        ("network", "title", "top1_accuracy", "params", "percent_per_million"),
        rows,
    )


def accuracy_by_operations(comparison: Comparison) -> Chart:
    """Top-1 accuracy against multiply-adds; a bubble's area: parameters (Figure 2)."""
    entries = comparison.entries
    figure, axes = _figure(8.0, 5.8)
    scale = 1600 / max(entry.params for entry in entries)  # points^2 a parameter
    points = []
    for entry in sorted(entries, key=lambda e: -e.params):
        family = _family(entry)
        area = max(entry.params * scale, 16)
        x = entry.macs / 1e9
        axes.scatter(
            x, entry.accuracy, s=area, color=family.color, alpha=0.55, lw=0, zorder=2
        )
        axes.scatter(
            x, entry.accuracy, s=40 if entry.own else 18, color=family.color,
            marker=family.marker, edgecolor="black", linewidth=0.6, zorder=3,
        )  # fmt: skip
        points.append(labels.Point(x, entry.accuracy, entry.title, sqrt(area) / 2))
    few = min(entry.macs for entry in entries) * 100 < max(e.macs for e in entries)
    if few:
        axes.set_xscale("log")  # small networks beside those of ImageNet
        axes.margins(x=0.12, y=0.12)
    else:
        axes.margins(y=0.12)
        axes.set_xlim(-0.9, 1.12 * max(entry.macs for entry in entries) / 1e9)
    axes.set(
        xlabel="multiply-adds of an image (G-MACs; Canziani's G-Ops are twice)",
        ylabel="top-1 accuracy (%)",
    )
    axes.grid(alpha=0.3)
    axes.set_axisbelow(True)
    _legends(axes, entries, scale)
    figure.supxlabel(_note(entries), fontsize=7, x=0.01, ha="left")
    labels.place(axes, points)
    return Chart(figure, _SIZES, _size_rows(entries))


def _legends(axes: Any, entries: Sequence[Entry], scale: float) -> None:
    """What markers and areas mean, beside the axes."""
    families = [
        axes.scatter(
            [], [], s=30, color=family.color, marker=family.marker,
            edgecolor="black", linewidth=0.6, label=family.label,
        )
        for family in dict.fromkeys(_family(entry) for entry in entries)
    ]  # fmt: skip
    most = max(entry.params for entry in entries)
    sizes = [
        axes.scatter(
            [], [], s=params * scale, color="lightgray", edgecolor="gray",
            label=f"{params / 1e6:g} M",
        )
        for params in (1e5, 1e6, 5e6, 25e6, 140e6)
        if most / 40 < params <= 1.1 * most
    ]  # fmt: skip
    legend = axes.figure.legend
    legend(handles=families, loc="outside right upper", fontsize=8, frameon=False)
    # Lines as high as the largest bubble.
    legend(
        handles=sizes, loc="outside right lower", title="parameters", fontsize=8,
        title_fontsize=8, frameon=False, labelspacing=3.2, handlelength=5,
        borderpad=2.4,
    )  # fmt: skip


def _by_batch(
    comparison: Comparison, value: Callable[[Any], float], column: str, label: str
) -> Chart:
    """A line for each network over the batch sizes."""
    from matplotlib.ticker import LogLocator, NullFormatter

    names = _by_name(comparison)
    figure, axes = _figure(8.0, 5.0)
    rows = []
    styles = ("-", "--", ":", "-.")
    seen: dict[str, int] = {}
    batches = sorted({timing.batch for timing in comparison.timings})
    by_network: dict[str, list[Timing]] = {}
    for timing in sorted(comparison.timings, key=lambda timing: timing.batch):
        by_network.setdefault(timing.network, []).append(timing)
    # The legend's order is that of the lines' ends.
    order = sorted(by_network, key=lambda network: -value(by_network[network][-1]))
    for network in order:
        timings = by_network[network]
        entry = names.get(network)
        title = entry.title if entry else network
        family = next(f for f in FAMILIES if re.fullmatch(f.pattern, network))
        number = seen[family.label] = seen.get(family.label, -1) + 1
        values = [value(timing) for timing in timings]
        axes.plot(
            [t.batch for t in timings], values, styles[number % len(styles)],
            color=family.color, marker=family.marker, markeredgecolor="black",
            markeredgewidth=0.5, label=title,
            fillstyle="full" if number < 4 else "none",
        )  # fmt: skip
        rows += [(network, t.batch, v) for t, v in zip(timings, values, strict=True)]
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    axes.set_xticks(batches, [str(batch) for batch in batches])
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.set(xlabel="batch size (images)", ylabel=label)
    axes.grid(alpha=0.3, which="both")
    figure.legend(loc="outside right upper", fontsize=8, frameon=False)
    figure.supxlabel(_machine(comparison), fontsize=7, x=0.01, ha="left")
    return Chart(figure, ("network", "batch", column), rows)


def _machine(comparison: Comparison) -> str:
    return f"float32 inference, measured on {comparison.machine}"


def time_by_batch(comparison: Comparison) -> Chart:
    """Inference time of an image, by batch size (Figure 3)."""
    return _by_batch(
        comparison,
        lambda timing: 1000 * timing.seconds_min / timing.batch,
        "milliseconds_per_image",
        "time of an image (ms)",
    )


def memory_by_batch(comparison: Comparison) -> Chart:
    """Memory at its peak, by batch size (Figure 5)."""
    return _by_batch(
        comparison,
        lambda timing: timing.peak_bytes / MIB,
        "peak_mib",
        "memory at the peak, weights included (MiB)",
    )


def images_by_batch(comparison: Comparison) -> Chart:
    """Images a second, by batch size."""
    return _by_batch(
        comparison,
        lambda t: t.images_per_second,
        "images_per_second",
        "images a second",
    )


def _against(
    comparison: Comparison,
    x: Callable[[Entry], float],
    y: Callable[[Any], float],
    columns: tuple[str, str],
    names: tuple[str, str],
) -> Chart:
    """A point for each network that was measured, at its smallest batch."""
    smallest = min(timing.batch for timing in comparison.timings)
    entries = _by_name(comparison)
    figure, axes = _figure(7.5, 5.2)
    rows, points = [], []
    for timing in comparison.timings:
        entry = entries.get(timing.network)
        if timing.batch != smallest or entry is None:
            continue
        family = _family(entry)
        axes.scatter(
            x(entry), y(timing), s=45, color=family.color, marker=family.marker,
            edgecolor="black", linewidth=0.6, zorder=3,
        )  # fmt: skip
        points.append(labels.Point(x(entry), y(timing), entry.title, 4))
        rows.append((entry.network, smallest, x(entry), y(timing)))
    # From zero, with room for a point at it.
    for limit, values in (
        (axes.set_xlim, [point.x for point in points]),
        (axes.set_ylim, [point.y for point in points]),
    ):
        limit(-0.05 * max(values), 1.15 * max(values))
    axes.set(xlabel=names[0], ylabel=f"{names[1]}, batch {smallest}")
    axes.grid(alpha=0.3)
    figure.supxlabel(_machine(comparison), fontsize=7, x=0.01, ha="left")
    labels.place(axes, points)
    return Chart(figure, ("network", "batch", *columns), rows)


def memory_by_parameters(comparison: Comparison) -> Chart:
    """Memory at its peak against parameters (Figure 6)."""
    return _against(
        comparison,
        lambda entry: entry.params / 1e6,
        lambda timing: timing.peak_bytes / MIB,
        ("million_params", "peak_mib"),
        ("parameters (M)", "memory at the peak (MiB)"),
    )


def time_by_operations(comparison: Comparison) -> Chart:
    """Inference time against multiply-adds (Figure 7)."""
    return _against(
        comparison,
        lambda entry: entry.macs / 1e9,
        lambda timing: 1000 * timing.seconds_min / timing.batch,
        ("gmacs", "milliseconds_per_image"),
        ("multiply-adds of an image (G-MACs)", "time of an image (ms)"),
    )


def winners(comparison: Comparison) -> Chart:
    """The winners of ILSVRC by year, as the lecture opens: error and depth."""
    figure, axes = _figure(7.5, 4.2)
    names = [f"{winner.year}\n{winner.name}" for winner in WINNERS]
    bars = axes.bar(
        names, [winner.top5_error for winner in WINNERS], width=0.62, edgecolor="black",
        color=["#0072B2" if winner.depth else "#BBBBBB" for winner in WINNERS],
        linewidth=0.6,
    )  # fmt: skip
    for bar, winner in zip(bars, WINNERS, strict=True):
        if not winner.won:
            bar.set(hatch="//", facecolor="#9CC7E2")
        depth = f"{winner.depth} layers" if winner.depth else "not learned"
        axes.annotate(
            f"{winner.top5_error:g} %\n{depth}",
            (bar.get_x() + bar.get_width() / 2, winner.top5_error),
            xytext=(0, 3), textcoords="offset points", ha="center", fontsize=8,
        )  # fmt: skip
    axes.set(ylabel="top-5 error (%), test set", ylim=(0, 33))
    axes.tick_params(axis="x", labelsize=8)
    axes.grid(axis="y", alpha=0.3)
    axes.set_axisbelow(True)
    figure.supxlabel(
        "ILSVRC classification, as entered (ensembles, many crops); hatched: "
        "runner-up. Russakovsky 2015 (1409.0575), He 2015 (1512.03385)",
        fontsize=7, x=0.01, ha="left",
    )  # fmt: skip
    return Chart(figure, WINNERS[0]._fields, WINNERS)


def one_by_one(comparison: Comparison) -> Chart:
    """What a 1x1 convolution saves before a 5x5 one (GoogLeNet's module)."""
    cost = reduction_cost()
    figure, axes = _figure(7.5, 2.4)
    names = ["5x5 from 192 channels", "1x1 to 16, then 5x5"]
    parts = ((cost.direct, cost.after), (0, cost.reduction))
    style = {"edgecolor": "black", "linewidth": 0.6}
    left = [0.0, 0.0]
    for part, label, color in zip(parts, ("5x5", "1x1"), _TWO, strict=True):
        widths = [multiplications / 1e6 for multiplications in part]
        axes.barh(names, widths, left=left, color=color, label=label, **style)
        left = widths
    for i, total in enumerate((cost.direct, cost.reduced)):
        axes.text(total / 1e6 + 1, i, f"{total / 1e6:.1f} M", va="center", fontsize=9)
    axes.invert_yaxis()
    axes.margins(x=0.12)
    axes.set_xlabel("multiplications from 28x28x192 to 28x28x32 (M)")
    axes.legend(loc="lower right", fontsize=8)
    rows = [
        ("direct", cost.direct),
        ("1x1", cost.reduction),
        ("5x5 after it", cost.after),
    ]
    return Chart(figure, ("part", "multiplications"), rows)


ALWAYS = (accuracy, accuracy_by_operations, density, winners, one_by_one)
OF_TIMINGS = (
    time_by_batch,
    memory_by_batch,
    images_by_batch,
    memory_by_parameters,
    time_by_operations,
)


def draw(comparison: Comparison, folder: Path) -> list[Path]:
    """All charts, each as PNG, SVG and CSV; those of timings where there are any.

    Raises:
        UserError: the folder can't be written.
    """
    charts = ALWAYS + (OF_TIMINGS if comparison.timings else ())
    try:
        folder.mkdir(parents=True, exist_ok=True)
        return [
            path
            for make in charts
            for path in save(make(comparison), folder / make.__name__)
        ]
    except OSError as error:
        raise UserError(f"out: can't write to {folder}: {error.strerror}") from None


def save(chart: Chart, stem: Path) -> list[Path]:
    """A chart's files: stem.png, stem.svg and stem.csv."""
    import matplotlib

    paths = [stem.with_name(f"{stem.name}.{kind}") for kind in ("png", "svg", "csv")]
    # Equal numbers make equal files.
    with matplotlib.rc_context({"svg.hashsalt": stem.name, "svg.fonttype": "path"}):
        for path, metadata in zip(paths[:2], ({}, {"Date": None}), strict=True):
            with runfolder.replacing(path) as temporary:
                chart.figure.savefig(temporary, dpi=100, metadata=metadata)
    write_csv(paths[2], chart.columns, chart.rows)
    return paths
