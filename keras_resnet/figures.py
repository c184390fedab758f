"""The style that all figures share: palette, canvas, labels of points, and files.

Colors are those that the color-blind can tell apart (Okabe and Ito 2008); what differs
by color differs by line style or marker too. What is drawn stays with its owners.
"""

from __future__ import annotations

import functools
import math
import warnings
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

from keras_resnet import files

DPI = 120  # of pixels' files
SMALL, TINY = 8, 7  # typographic points: labels and legends, captions
COLORS = (
    "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#F0E442",
    "#000000",
)  # fmt: skip
GRAY = "#7F7F7F"  # what is there to compare with
STYLES = ("-", "--", ":", "-.")
MARKERS = "osD^vPX*h<>"
_DARK = 5  # of the colors, from the first, are dark enough for lines
OUTLINE: dict[str, Any] = {"edgecolor": "black", "linewidth": 0.6}


def series(i: int, name: str) -> dict[str, Any]:
    """How the i-th of some lines is drawn."""
    return {"color": COLORS[i % _DARK], "linestyle": STYLES[i % 4], "label": name}


def points(i: int, name: str) -> dict[str, Any]:
    """How the i-th of some groups of points is drawn."""
    return {
        "color": COLORS[i % _DARK],
        "marker": MARKERS[i % len(MARKERS)],
        "linestyle": "",
        "label": name,
    }


class Chart(NamedTuple):
    """A figure, and the numbers in it."""

    figure: Any
    columns: Sequence[str]
    rows: Sequence[Sequence[object]]


def new_figure(
    width: float = 7.5,
    height: float = 5.0,
    rows: int = 1,
    columns: int = 1,
    *,
    grid: Literal["x", "y", "both", ""] = "both",
    **options: Any,
) -> tuple[Any, Any]:
    """A figure without a window, and its axes: one, or an array of them.

    Args:
        width: in inches.
        height: in inches.
        rows: of axes.
        columns: of axes.
        grid: lines across "x", "y" or "both", or "" for none.
        **options: of `Figure.subplots`, such as sharey.
    """
    figure = bare_figure(width, height)
    axes = figure.subplots(rows, columns, **options)
    if grid:
        for each in figure.axes:
            each.grid(axis=grid, alpha=0.3)
    return figure, axes


def percent_ticks(axis: Any) -> None:
    """Ticks of an axis from 0 to 100 on which small numbers are told apart too."""
    axis.axes.set_yscale("symlog", linthresh=1, linscale=0.4)
    ticks = (0, 1, 2, 3, 5, 7, 10, 15, 20, 30, 50, 70, 100)
    axis.set_ticks(ticks, [str(tick) for tick in ticks], minor=False)
    axis.set_ticks((), minor=True)


def name_ticks(axis: Any, names: Sequence[str]) -> None:
    """Names at 1, 2, 3 ..., as many as there is room for."""
    step = math.ceil(len(names) / 30)
    shown = names[::step]
    turned = 90 if sum(map(len, shown)) > 90 else 0
    axis.set_ticks(
        range(1, len(names) + 1, step), shown, rotation=turned, fontsize=TINY
    )


def bare_figure(width: float, height: float) -> Any:
    """A figure without a window and without axes; sizes in inches."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)  # it knows the sizes of texts
    return figure


def integer_ticks(axis: Any) -> None:
    """Ticks of an axis that counts."""
    from matplotlib.ticker import MaxNLocator

    axis.set_major_locator(MaxNLocator(integer=True))


def legend_above(figure: Any, axes: Any, columns: int = 5) -> None:
    """The legend of some axes above the figure, where it hides nothing."""
    figure.legend(
        *axes.get_legend_handles_labels(),
        loc="outside upper center", ncols=columns, fontsize=SMALL,
    )  # fmt: skip


def caption(figure: Any, text: str) -> None:
    """What to know of a figure, below it."""
    figure.supxlabel(text, fontsize=TINY, x=0.01, ha="left")


def short_name(name: str, length: int) -> str:
    """At most `length` characters: what tells long names apart is often their end."""
    head = (length - 1) // 2
    if len(name) > length:
        name = f"{name[:head]}…{name[head + 1 - length :]}"
    return name.replace("$", r"\$")  # no formula


class FontWarning(UserWarning):
    """A text with characters that no installed font has."""


@functools.cache
def _characters(file: str) -> frozenset[int]:
    from matplotlib.ft2font import FT2Font

    return frozenset(FT2Font(file).get_charmap())


def set_fonts(figure: Any) -> None:
    """Lets installed fonts help out where a text has other scripts than Latin.

    Warns of characters that none has.
    """
    from matplotlib import font_manager, rcParams
    from matplotlib.text import Text

    texts = figure.findobj(Text)
    usual = rcParams["font.family"]
    missing = {ord(c) for text in texts for c in text.get_text() if not c.isspace()}
    missing -= _characters(font_manager.findfont(font_manager.FontProperties()))
    families = []
    # Sans serif first, and of these Noto, which is made to go with others.
    for font in sorted(
        font_manager.fontManager.ttflist if missing else (),
        key=lambda font: ("Noto" not in font.name, "Sans" not in font.name, font.name),
    ):
        if font.name.startswith("Last Resort"):
            continue  # it has boxes for all
        found = missing & _characters(font.fname)
        if found:
            families.append(font.name)
            missing -= found
    if missing:
        shown = "".join(map(chr, sorted(missing)[:10]))
        warnings.warn(
            f"figures: no installed font has {shown}; install one that does, such as "
            "Noto Sans CJK",
            FontWarning,
            stacklevel=3,
        )
    for text in texts if families else ():
        text.set_fontfamily([*usual, *families])


def write_figure(path: Path, figure: Any, **options: Any) -> None:
    """Writes a figure, of the kind that the file's suffix says, by renaming."""
    set_fonts(figure)
    with files.replacing(path) as temporary, warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from font")
        figure.savefig(temporary, dpi=DPI, **options)


def write_note(path: Path, text: str) -> None:
    """Writes a figure that says why there is nothing to draw."""
    figure = bare_figure(5, 1.2)
    figure.text(0.5, 0.5, text, ha="center", va="center", wrap=True)
    write_figure(path, figure)


def save(chart: Chart, stem: Path) -> list[Path]:
    """A chart's files: stem.png, stem.svg and stem.csv."""
    import matplotlib

    paths = [stem.with_name(f"{stem.name}.{kind}") for kind in ("png", "svg", "csv")]
    # Equal numbers make equal files.
    with matplotlib.rc_context({"svg.hashsalt": stem.name, "svg.fonttype": "path"}):
        for path, metadata in zip(paths[:2], ({}, {"Date": None}), strict=True):
            write_figure(path, chart.figure, metadata=metadata)
    files.write_csv(paths[2], chart.columns, chart.rows)
    return paths


class Label(NamedTuple):
    """The label of a point, and the point's radius in typographic points."""

    x: float
    y: float
    text: str
    radius: float


class _Box(NamedTuple):
    left: float
    bottom: float
    right: float
    top: float

    def overlap(self, other: _Box) -> float:
        width = min(self.right, other.right) - max(self.left, other.left)
        height = min(self.top, other.top) - max(self.bottom, other.bottom)
        return width * height if width > 0 and height > 0 else 0.0


# Where labels are tried: directions in the order of preference (right, up right, down
# right, up, down, left ...), and pixels from the point's edge at 100 dpi.
_ANGLES = (0, 35, -35, 90, -90, 145, -145, 180, 60, -60, 120, -120)
_STEPS = (2, 8, 16, 28, 42)
_FAR = 16  # from which on a line leads to the point


def place_labels(axes: Any, labels: Sequence[Label]) -> None:
    """Writes labels, each where it overlaps points and other labels the least.

    Call it last: it needs the axes' final limits and size.
    """
    figure = axes.figure
    figure.canvas.draw()
    figure.set_layout_engine("none")  # labels lie inside; nothing may move any more
    renderer = figure.canvas.get_renderer()
    pixel = figure.dpi / 72
    centers = [axes.transData.transform((label.x, label.y)) for label in labels]
    taken = []
    for (x, y), label in zip(centers, labels, strict=True):
        # The square inside the bubble: its corners are free.
        side = max(0.8 * label.radius * pixel, 3)
        taken.append(_Box(x - side, y - side, x + side, y + side))
    frame = axes.get_window_extent(renderer)
    inside = _Box(frame.x0 + 2, frame.y0 + 2, frame.x1 - 2, frame.y1 - 2)
    for (x, y), label in sorted(
        zip(centers, labels, strict=True), key=lambda pair: -pair[0][1]
    ):
        text = axes.text(label.x, label.y, label.text, fontsize=SMALL, zorder=6)
        extent = text.get_window_extent(renderer)
        area = extent.width * extent.height

        def cost(candidate: tuple[float, int, _Box], area: float = area) -> float:
            step, preference, box = candidate
            hidden = sum(box.overlap(other) for other in taken)
            outside = area - box.overlap(inside)
            return 100 * (hidden + outside) / area + step / 10 + preference / 20

        step, _, box = min(
            _candidates(x, y, label.radius * pixel, extent, figure.dpi), key=cost
        )
        taken.append(box)
        to_data = axes.transData.inverted().transform
        text.set_position(to_data((box.left, box.bottom)))
        text.set(ha="left", va="bottom")
        if step > _FAR:
            near = min(max(x, box.left), box.right), min(max(y, box.bottom), box.top)
            end = to_data(near)
            axes.plot(
                [label.x, end[0]], [label.y, end[1]], color="gray", lw=0.6, zorder=4
            )


def _candidates(
    x: float, y: float, radius: float, extent: Any, dpi: float
) -> Iterable[tuple[float, int, _Box]]:
    """Boxes around a point: distance from its edge, preference, and the box."""
    for step in _STEPS:
        distance = radius + step * dpi / 100
        for preference, angle in enumerate(map(math.radians, _ANGLES)):
            dx, dy = math.cos(angle), math.sin(angle)
            left = x + dx * distance - (0.5 - 0.5 * dx) * extent.width
            bottom = y + dy * distance - (0.5 - 0.5 * dy) * extent.height
            box = _Box(left, bottom, left + extent.width, bottom + extent.height)
            yield step, preference, box
