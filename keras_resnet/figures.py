"""What all figures share: families and their colors, a canvas, and the files.

Families differ by marker and by color, from a palette that the color-blind can tell
apart (Okabe and Ito 2008).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from keras_resnet import files

# Series that are not families.
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00")
STYLES = ("-", "--", ":", "-.")


def series(i: int, name: str) -> dict[str, Any]:
    """How the i-th of some series is drawn, which is no family."""
    return {"color": COLORS[i % 5], "linestyle": STYLES[i % 4], "label": name}


class Chart(NamedTuple):
    """A figure, and the numbers in it."""

    figure: Any
    columns: Sequence[str]
    rows: Sequence[Sequence[object]]


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


def family_of(network: str) -> Family:
    """The first family whose pattern a network's name has."""
    return next(f for f in FAMILIES if re.fullmatch(f.pattern, network))


def new_figure(
    width: float = 7.5, height: float = 5.0, columns: int = 1
) -> tuple[Any, Any]:
    """A figure without a window, and its axes: several of one height, or one."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)  # it knows the sizes of texts
    return figure, figure.subplots(1, columns, sharey=True)


def save(chart: Chart, stem: Path) -> list[Path]:
    """A chart's files: stem.png, stem.svg and stem.csv."""
    import matplotlib

    paths = [stem.with_name(f"{stem.name}.{kind}") for kind in ("png", "svg", "csv")]
    # Equal numbers make equal files.
    with matplotlib.rc_context({"svg.hashsalt": stem.name, "svg.fonttype": "path"}):
        for path, metadata in zip(paths[:2], ({}, {"Date": None}), strict=True):
            files.write_figure(path, chart.figure, metadata=metadata)
    files.write_csv(paths[2], chart.columns, chart.rows)
    return paths
