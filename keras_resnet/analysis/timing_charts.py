"""Charts of measured time and memory of inference."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

from keras_resnet.analysis.comparing import Comparison
from keras_resnet.analysis.families import Family, family_of
from keras_resnet.analysis.published import NetworkResult
from keras_resnet.analysis.timings import Timing
from keras_resnet.figures import (
    OUTLINE,
    SMALL,
    STYLES,
    Chart,
    Label,
    caption,
    new_figure,
    place_labels,
)

MIB = 2**20


def _by_name(comparison: Comparison) -> dict[str, NetworkResult]:
    return {result.network: result for result in comparison.results if not result.own}


def _by_batch(
    comparison: Comparison, value: Callable[[Any], float], column: str, label: str
) -> Chart:
    """A line for each network over the batch sizes."""
    from matplotlib.ticker import LogLocator, NullFormatter

    names = _by_name(comparison)
    figure, axes = new_figure(8.0, 5.0, grid="")
    rows = []
    batches = sorted({timing.batch for timing in comparison.timings})
    by_network: dict[str, list[Timing]] = {}
    for timing in sorted(comparison.timings, key=lambda timing: timing.batch):
        by_network.setdefault(timing.network, []).append(timing)
    # Which of its family each is: so it has one style in all charts.
    numbers, seen = {}, Counter[Family]()
    for network in by_network:
        family = family_of(network)
        numbers[network] = seen[family]
        seen[family] += 1
    # The legend's order is that of the lines' ends.
    order = sorted(by_network, key=lambda network: -value(by_network[network][-1]))
    for network in order:
        timings = by_network[network]
        result = names.get(network)
        title = result.title if result else network
        family, number = family_of(network), numbers[network]
        values = [value(timing) for timing in timings]
        axes.plot(
            [t.batch for t in timings], values, STYLES[number % len(STYLES)],
            color=family.color, marker=family.marker, markeredgecolor="black",
            markeredgewidth=0.5, label=title,
            fillstyle="full" if number < 4 else "none",
        )  # fmt: skip
        rows += [(network, t.batch, v) for t, v in zip(timings, values, strict=True)]
    axes.grid(alpha=0.3, which="both")
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    axes.set_xticks(batches, [str(batch) for batch in batches])
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.set(xlabel="batch size (images)", ylabel=label)
    figure.legend(loc="outside right upper", fontsize=SMALL, frameon=False)
    caption(figure, _machine(comparison))
    return Chart(figure, ("network", "batch", column), rows)


def _machine(comparison: Comparison) -> str:
    machines = sorted({timing.machine for timing in comparison.timings})
    return f"float32 inference, measured on {' and '.join(machines)}"


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
    x: Callable[[NetworkResult], float],
    y: Callable[[Any], float],
    columns: tuple[str, str],
    names: tuple[str, str],
) -> Chart:
    """A point for each network that was measured, at its smallest batch."""
    smallest = min(timing.batch for timing in comparison.timings)
    results = _by_name(comparison)
    figure, axes = new_figure(7.5, 5.2)
    rows, points = [], []
    for timing in comparison.timings:
        result = results.get(timing.network)
        if timing.batch != smallest or result is None:
            continue
        family = family_of(result.network)
        axes.scatter(
            x(result), y(timing), s=45, color=family.color, marker=family.marker,
            zorder=3, **OUTLINE,
        )  # fmt: skip
        points.append(Label(x(result), y(timing), result.title, 5))
        rows.append((result.network, smallest, x(result), y(timing)))
    # From zero, with room for a point at it.
    for limit, values in (
        (axes.set_xlim, [point.x for point in points]),
        (axes.set_ylim, [point.y for point in points]),
    ):
        limit(-0.05 * max(values), 1.15 * max(values))
    axes.set(xlabel=names[0], ylabel=f"{names[1]}, batch {smallest}")
    caption(figure, _machine(comparison))
    place_labels(axes, points)
    return Chart(figure, ("network", "batch", *columns), rows)


def memory_by_parameters(comparison: Comparison) -> Chart:
    """Memory at its peak against parameters (Figure 6)."""
    return _against(
        comparison,
        lambda result: result.params / 1e6,
        lambda timing: timing.peak_bytes / MIB,
        ("million_params", "peak_mib"),
        ("parameters (M)", "memory at the peak (MiB)"),
    )


def time_by_operations(comparison: Comparison) -> Chart:
    """Inference time against multiply-adds (Figure 7)."""
    return _against(
        comparison,
        lambda result: result.macs / 1e9,
        lambda timing: 1000 * timing.seconds_min / timing.batch,
        ("gmacs", "milliseconds_per_image"),
        ("multiply-adds of an image (G-MACs)", "time of an image (ms)"),
    )


CHARTS = (
    time_by_batch,
    memory_by_batch,
    images_by_batch,
    memory_by_parameters,
    time_by_operations,
)
