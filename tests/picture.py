"""The picture of docs/architecture.md: rooms, and what they import, as `imports` reads.

`pytest tests/test_structure.py --update-golden` draws it anew. An arrow that others
imply is left out.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from statistics import mean

import imports

from keras_resnet.figures import COLORS

PICTURE = imports.ROOT / "docs" / "figures" / "rooms.svg"
# What a room is about -> rooms. Others serve them all.
NOUNS = {
    "Spec": "spec presets plan cost",
    "Recipe": "recipe recipes",
    "Run": "run training",
    "Study": "experiments tuning",
    "Export": "serving prediction",
}
COLOR = {
    room: color
    for rooms, color in zip(NOUNS.values(), COLORS, strict=False)
    for room in rooms.split()
}
WIDTH, HEIGHT, GAP, STEP = 92, 24, 14, 58  # pixels: a box, between boxes, a layer

Arrows = dict[str, set[str]]


def shown() -> Arrows:
    """Arrows that no others imply, without the package's `__init__`."""
    arrows = {room: set(others) for room, others in imports.rooms().items()}
    del arrows["keras_resnet"]
    reached = {room: imports.reachable(arrows, room) for room in arrows}
    return {
        room: {
            other
            for other in others
            if not any(other in reached[between] for between in others - {other})
        }
        for room, others in arrows.items()
    }


def layers_of(arrows: Arrows) -> dict[str, int]:
    """Room -> its layer from the top: all that it imports lies below."""
    users: Arrows = {room: set() for room in arrows}
    for room, others in arrows.items():
        for other in others:
            users[other].add(room)
    found: dict[str, int] = {}

    def layer(room: str) -> int:
        if room not in found:
            found[room] = 1 + max(map(layer, users[room]), default=-1)
        return found[room]

    return {room: layer(room) for room in sorted(arrows)}


def paths(arrows: Arrows, layer: Mapping[str, int]) -> list[list[str]]:
    """Each arrow as nodes, one a layer: its ends, and bends named for these."""
    found = []
    for room, others in sorted(arrows.items()):
        for other in sorted(others):
            between = range(layer[room] + 1, layer[other])
            found.append([room, *(f"{room} {other} {i}" for i in between), other])
    return found


def places(lines: list[list[str]], layer: Mapping[str, int]) -> dict[str, float]:
    """Node -> its abscissa: near what it is joined with, and nothing overlaps."""
    joined: dict[str, list[str]] = {}
    rows: list[list[str]] = [[] for _ in range(max(layer.values()) + 1)]
    for room in layer:
        rows[layer[room]].append(room)
    for line in lines:
        for depth, node in enumerate(line, layer[line[0]]):
            if node not in layer:
                rows[depth].append(node)
        for one, other in pairwise(line):
            joined.setdefault(one, []).append(other)
            joined.setdefault(other, []).append(one)
    x = {node: float(i * WIDTH) for row in rows for i, node in enumerate(sorted(row))}
    for turn in range(60):
        for row in rows if turn % 2 else rows[::-1]:
            wish = {n: mean(x[other] for other in joined.get(n, [n])) for n in row}
            order = sorted(row, key=lambda node: (wish[node], node))
            x |= _apart(order, wish, layer)
    least = min(x.values())
    return {node: at - least + WIDTH for node, at in x.items()}


def _apart(
    order: list[str], wish: Mapping[str, float], layer: Mapping[str, int]
) -> dict[str, float]:
    """Places as near to the wishes as room for boxes allows, in this order."""
    size = [WIDTH + GAP if node in layer else GAP for node in order]
    # Blocks of neighbours that touch, each at the mean of its nodes' wishes.
    blocks: list[list[float]] = []  # sum of wishes of its start, count, width
    offset = 0.0
    for node, own in zip(order, size, strict=True):
        blocks.append([wish[node] - own / 2, 1, own])
        while len(blocks) > 1:
            (s, n, w), (t, m, v) = blocks[-2:]
            if s / n + w <= t / m:
                break
            blocks[-2:] = [[s + t - m * w, n + m, w + v]]
    found, index = {}, 0
    for total, count, _ in blocks:
        offset = total / count
        for _ in range(int(count)):
            found[order[index]] = offset + size[index] / 2
            offset += size[index]
            index += 1
    return found


def draw() -> str:
    """The picture as SVG."""
    arrows = shown()
    layer = layers_of(arrows)
    lines = paths(arrows, layer)
    x = places(lines, layer)
    width = max(x.values()) + WIDTH
    height = (max(layer.values()) + 2.5) * STEP
    parts = []
    for line in lines:
        points: list[tuple[float, float]] = [
            (round(x[node]), STEP * (depth + 1.5))
            for depth, node in enumerate(line, layer[line[0]])
        ]
        parts.append(_arrow(points, COLOR.get(line[0], "#999999")))
    for room, depth in layer.items():
        left, top = round(x[room] - WIDTH / 2), round(STEP * (depth + 1.5) - HEIGHT / 2)
        stroke = f'stroke="{COLOR.get(room, "#666666")}"'
        if room in COLOR:
            stroke += ' stroke-width="2"'
        parts.append(
            f'<rect x="{left}" y="{top}" width="{WIDTH}" height="{HEIGHT}" rx="5" '
            f'fill="white" {stroke}/>'
            f'<text x="{round(x[room])}" y="{top + 16}">{room}</text>'
        )
    for number, (noun, color) in enumerate(zip(NOUNS, COLORS, strict=False)):
        parts.append(
            f'<text x="{60 + 80 * number}" y="28" fill="{color}" '
            f'font-weight="bold">{noun}</text>'
        )
    inside = "\n".join(parts)
    size = f"{width:.0f} {height}"
    return f"""<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {size}"
  font-family="sans-serif" font-size="12" text-anchor="middle">
<title>Rooms of the package, and what each imports</title>
<rect width="100%" height="100%" fill="white"/>
{inside}
</svg>
"""


def _arrow(points: list[tuple[float, float]], color: str) -> str:
    """A smooth curve down through the points, with a head at its end."""
    (x, y), (u, v) = points[0], points[-1]
    head = v - HEIGHT / 2 - 4
    points = [(x, y + HEIGHT / 2), *points[1:-1], (u, head)]
    # Each point's slope is that between its neighbours; the ends are upright.
    slopes = [(b[0] - a[0]) / 6 for a, b in zip(points, points[2:], strict=False)]
    slopes = [0, *slopes, 0]
    path = f"M{x} {y + HEIGHT / 2:g}"
    for ((x, y), (u, v)), (s, t) in zip(
        pairwise(points), pairwise(slopes), strict=True
    ):
        third = (v - y) / (2 if len(points) == 2 else 3)
        path += f" C{x + s:.0f} {y + third:.0f} {u - t:.0f} {v - third:.0f} {u} {v:g}"
    return (
        f'<path d="{path}" fill="none" stroke="{color}"/>'
        f'<path d="M{u - 3} {head - 2:g}l3 6l3 -6z" fill="{color}"/>'
    )
