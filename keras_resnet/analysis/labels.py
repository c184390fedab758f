"""Labels of points in a chart, where they hide nothing."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

# Directions in the order of preference: right, up right, down right, up, down, left ...
_ANGLES = (0, 35, -35, 90, -90, 145, -145, 180, 60, -60, 120, -120)
_STEPS = (2, 8, 16, 28, 42)  # pixels from the point's edge, at 100 dpi
_FONT_SIZE = 8  # typographic points


class Point(NamedTuple):
    """A point, its label, and its radius in typographic points."""

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


def place(axes: Any, points: Sequence[Point]) -> None:
    """Writes the labels, each where it overlaps points and labels the least.

    Call it last: it needs the axes' final limits and size.
    """
    figure = axes.figure
    figure.canvas.draw()
    figure.set_layout_engine("none")  # labels lie inside; nothing may move any more
    renderer = figure.canvas.get_renderer()
    pixel = figure.dpi / 72
    centers = [axes.transData.transform((p.x, p.y)) for p in points]
    taken = []
    for (x, y), point in zip(centers, points, strict=True):
        # The square inside the bubble: its corners are free.
        side = max(0.8 * point.radius * pixel, 3)
        taken.append(_Box(x - side, y - side, x + side, y + side))
    frame = axes.get_window_extent(renderer)
    inside = _Box(frame.x0 + 2, frame.y0 + 2, frame.x1 - 2, frame.y1 - 2)
    for i in sorted(range(len(points)), key=lambda i: -centers[i][1]):
        (x, y), point = centers[i], points[i]
        text = axes.text(point.x, point.y, point.text, fontsize=_FONT_SIZE, zorder=6)
        extent = text.get_window_extent(renderer)
        width, height = extent.width, extent.height
        best = None
        for step in _STEPS:
            for preference, angle in enumerate(_ANGLES):
                distance = point.radius * pixel + step * figure.dpi / 100
                dx, dy = math.cos(math.radians(angle)), math.sin(math.radians(angle))
                left = x + dx * distance - (0.5 - 0.5 * dx) * width
                bottom = y + dy * distance - (0.5 - 0.5 * dy) * height
                box = _Box(left, bottom, left + width, bottom + height)
                area = width * height
                outside = area - box.overlap(inside)
                hidden = sum(box.overlap(other) for other in taken)
                cost = 100 * (hidden + outside) / area + step / 10 + preference / 20
                if best is None or cost < best[0]:
                    best = (cost, box, step)
        assert best is not None  # noqa: S101  # there are always candidates
        _, box, step = best
        taken.append(box)
        corner = axes.transData.inverted().transform((box.left, box.bottom))
        text.set_position(corner)
        text.set(ha="left", va="bottom")
        if step > 16:
            near = min(max(x, box.left), box.right), min(max(y, box.bottom), box.top)
            end = axes.transData.inverted().transform(near)
            axes.plot(
                [point.x, end[0]], [point.y, end[1]], color="gray", lw=0.6, zorder=4
            )
