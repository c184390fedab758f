"""Drawings of a network and its units from the plan, as the papers draw them (SVG).

On the left a unit of each kind in detail (He 2015, Figures 2 and 5), on the right all
weighted layers with their shortcuts (Figure 3): a solid arc is an identity, a dashed
one changes the shape. Standard library only.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from xml.sax.saxutils import escape

from keras_resnet.plan import (
    Conv,
    Dense,
    Dropout,
    Norm,
    Op,
    Pad,
    PadChannels,
    Plan,
    Pool,
    Relu,
    Skip,
    Unit,
)
from keras_resnet.spec import ResNetSpec

WIDTH, HEIGHT, GAP = 170, 24, 16  # of a box, and between boxes
SHOWN = 8  # units of a stage; of more, the first three and the last
# Light enough for black text; stages differ in lightness too, for print.
STAGES = ("#D6E9F8", "#B7D7F0", "#93C1E4", "#F7E3B5", "#F1CE85", "#E6B65A")
KINDS = {"stem": "#E8E8E8", "conv": "#B7D7F0", "norm": "#FFFFFF", "merge": "#F7E3B5"}


class _Sheet:
    """The parts of a drawing, and its size so far."""

    def __init__(self) -> None:
        self.parts: list[str] = []
        self.width = self.height = 0.0

    def add(self, part: str, right: float, bottom: float) -> None:
        self.parts.append(part)
        self.width, self.height = max(self.width, right), max(self.height, bottom)

    def box(self, x: float, y: float, text: str, color: str, height: float) -> None:
        """A box whose middle is x and whose top is y."""
        self.add(
            f'<rect x="{x - WIDTH / 2:g}" y="{y:g}" width="{WIDTH}" '
            f'height="{height:g}" rx="3" fill="{color}" stroke="#333"/>',
            x + WIDTH / 2,
            y + height,
        )
        self.text(x, y + height / 2 + 4, text)

    def text(self, x: float, y: float, text: str, anchor: str = "middle") -> None:
        length = 6.6 * len(text) * (1 if anchor == "start" else 0.5)
        self.add(
            f'<text x="{x:g}" y="{y:g}" text-anchor="{anchor}">{escape(text)}</text>',
            x + length,
            y,
        )

    def path(self, points: str, *, arrow: bool = False, dashed: bool = False) -> None:
        marks = ' marker-end="url(#head)"' if arrow else ""
        marks += ' stroke-dasharray="5 4"' if dashed else ""
        self.parts.append(f'<path d="{points}" fill="none" stroke="#333"{marks}/>')

    def line(self, x: float, top: float, bottom: float, *, arrow: bool = True) -> None:
        self.path(f"M {x:g} {top:g} V {bottom:g}", arrow=arrow)

    def svg(self, title: str) -> str:
        width, height = self.width + 20, self.height + 20
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:.0f}" '
            f'height="{height:.0f}" viewBox="0 0 {width:.0f} {height:.0f}" '
            'font-family="DejaVu Sans, Arial, sans-serif" font-size="11">\n'
            f"<title>{escape(title)}</title>\n"
            '<defs><marker id="head" viewBox="0 0 8 8" refX="7" refY="4" '
            'markerWidth="7" markerHeight="7" orient="auto">'
            '<path d="M 0 0 L 8 4 L 0 8 z" fill="#333"/></marker></defs>\n'
            '<rect width="100%" height="100%" fill="white"/>\n'
            + "\n".join(self.parts)
            + "\n</svg>\n"
        )


def draw_plan(plan: Plan) -> str:
    """The network and its units as SVG text."""
    sheet = _Sheet()
    sheet.text(20, 24, f"{plan.spec.name}: {plan.depth} weighted layers", "start")
    y = 60.0
    for unit in _kinds(plan.units):
        y = _draw_unit(sheet, unit, plan.spec, y) + 50
    _draw_network(sheet, plan, max(sheet.width, 420) + 190)
    return sheet.svg(plan.spec.name)


def _kinds(units: Sequence[Unit]) -> list[Unit]:
    """The first unit of each kind: what happens in it, and whether it changes shape."""
    seen: dict[object, Unit] = {}
    for unit in units:
        key = (
            unit.shortcut_kind,
            tuple(type(op) for op in unit.shared),
            tuple(type(op) for op in unit.shortcut),
            tuple(type(op) for op in unit.residual if not isinstance(op, Pad)),
        )
        seen.setdefault(key, unit)
    # Units that keep the shape first: most are such.
    return sorted(seen.values(), key=lambda unit: unit.in_shape != unit.shape)


def _label(op: Op) -> str:
    match op:
        case Conv():
            text = f"{op.kernel}x{op.kernel} conv, {op.shape[-1]}"
            text += f", {op.groups} groups" if op.groups > 1 else ""
            text += f", dilated {op.dilation}" if op.dilation > 1 else ""
            return text + (" /2" if op.stride > 1 else "")
        case Dense():
            return f"dense, {op.shape[-1]}"
        case Norm():
            return "batch norm" + (" (gamma 0)" if op.zero_gamma else "")
        case Relu():
            return "ReLU"
        case Pool(kind="global"):
            return "global average pool"
        case Pool(size=1):
            return "every second pixel"
        case Pool():
            text = f"{op.size}x{op.size} {op.kind} pool"
            text += f", dilated {op.dilation}" if op.dilation > 1 else ""
            return text + (f" /{op.stride}" if op.stride > 1 else "")
        case PadChannels():
            return f"{op.extra} zero channels"
        case Dropout():
            return f"dropout {op.rate:g}"
        case Skip():
            return f"kept with p = {op.survival:.3g}"
    return ""


def _shown(ops: Iterable[Op]) -> list[Op]:
    return [op for op in ops if not isinstance(op, Pad)]


def _shape(unit_shape: Sequence[int | None]) -> str:
    return "x".join("?" if side is None else str(side) for side in unit_shape)


def _sum(unit: Unit, spec: ResNetSpec) -> str:
    """How shortcut x and residual F are merged."""
    assert unit.merge is not None  # noqa: S101  # plain units aren't asked
    first, second = spec.merge_scales
    text = {
        "add": "x + F(x)",
        "scale": f"{first:g} x + {second:g} F(x)",
        "exclusive_gate": "(1 - g) x + g F(x), g = sigmoid(W x + b)",
        "shortcut_gate": "(1 - g) x + F(x), g = sigmoid(W x + b)",
        "dropout": "dropout(x) + F(x)",
        "dropout_inverted": "dropout(x) + F(x)",
    }[unit.merge.kind]
    if unit.merge.survival < 1:
        text = (
            text.replace("F(x)", "b F(x)") + f", b = 1 with {unit.merge.survival:.3g}"
        )
    return text


def _stack(sheet: _Sheet, x: float, y: float, ops: Iterable[Op]) -> float:
    """Boxes one below the other, with arrows into them; returns the last's bottom."""
    for op in _shown(ops):
        sheet.line(x, y, y + GAP)
        color = KINDS["conv" if isinstance(op, Conv | Dense) else "norm"]
        sheet.box(x, y + GAP, _label(op), color, HEIGHT)
        y += GAP + HEIGHT
    return y


def _draw_unit(sheet: _Sheet, unit: Unit, spec: ResNetSpec, y: float) -> float:
    """A unit in detail; returns its bottom."""
    x, side = 110.0, 110.0 + WIDTH + 40
    sheet.text(20, y, f"{unit.name} ({unit.shortcut_kind} shortcut)", "start")
    sheet.text(x, y + 24, f"x: {_shape(unit.in_shape)}")
    y = _stack(sheet, x, y + 30, unit.shared)
    fork = y + 8
    sheet.line(x, y, fork, arrow=False)
    y = _stack(sheet, x, fork, unit.residual)
    if unit.merge:
        joint = y + GAP + 10
        sheet.path(f"M {x:g} {fork:g} H {side:g} V {fork + 12:g}")
        below = fork + 12
        if unit.shortcut:
            below = _stack(sheet, side, below, unit.shortcut)
        else:
            sheet.text(side + 8, (fork + joint) / 2, "identity", "start")
        joint = max(joint, below + 10)
        sheet.path(f"M {side:g} {below:g} V {joint:g} H {x + 10:g}", arrow=True)
        sheet.line(x, y, joint - 10)
        sheet.add(
            f'<circle cx="{x:g}" cy="{joint:g}" r="10" fill="{KINDS["merge"]}" '
            f'stroke="#333"/>',
            x + 10,
            joint + 10,
        )
        sheet.text(x, joint + 4, "+")
        sheet.text(x + 16, joint + 20, _sum(unit, spec), "start")
        y = joint + 10
    y = _stack(sheet, x, y, unit.after)
    sheet.line(x, y, y + GAP)
    sheet.text(x, y + GAP + 14, _shape(unit.shape))
    return y + GAP + 14


def _draw_legend(sheet: _Sheet, x: float, plan: Plan) -> None:
    """What the arcs mean that there are."""
    kinds = {unit.shortcut_kind == "identity" for unit in plan.units if unit.merge}
    y = 46.0
    for identity, text in ((True, "identity"), (False, "changes the shape")):
        if identity in kinds:
            left = x + WIDTH / 2 + 60
            sheet.path(f"M {left:g} {y - 4:g} h 26", arrow=True, dashed=not identity)
            sheet.text(left + 34, y, f"shortcut: {text}", "start")
            y += 18


def _draw_network(sheet: _Sheet, plan: Plan, x: float) -> None:
    """Weighted layers and pools in a column, with the shortcuts' arcs beside it."""
    height, gap = 18, 9

    def column(ops: Iterable[Op], y: float, color: str) -> float:
        for op in ops:
            if isinstance(op, Conv | Dense) or (isinstance(op, Pool) and op.size != 1):
                sheet.line(x, y, y + gap)
                sheet.box(x, y + gap, _label(op), color, height)
                y += gap + height
        return y

    _draw_legend(sheet, x, plan)
    sheet.text(x, 46, f"image: {_shape(plan.spec.input_shape)}")
    y = column(plan.stem, 52, KINDS["stem"])
    for stage in range(1, len(plan.spec.depths) + 1):
        units = [unit for unit in plan.units if unit.stage == stage]
        color = STAGES[(stage - 1) % len(STAGES)]
        left = x - WIDTH / 2 - 12
        sheet.add(
            f'<text x="{left:g}" y="{y + 24:g}" text-anchor="end">'
            f"{len(units)} units, {_shape(units[0].shape[:-1]) or 'dense'}</text>",
            x,
            y,
        )
        hidden = len(units) - 4 if len(units) > SHOWN else 0
        for i, unit in enumerate(units):
            if hidden and 3 <= i < 3 + hidden:
                if i == 3:
                    sheet.text(x, y + 22, f"... {hidden} more units ...")
                    y += 30
                continue
            top = y
            y = column(unit.residual, y, color)
            if unit.merge:
                start, right = top + 4, x + WIDTH / 2
                end = y + 4
                sheet.path(
                    f"M {x:g} {start:g} H {right:g} C {right + 34:g} {start:g} "
                    f"{right + 34:g} {end:g} {right:g} {end:g} H {x:g}",
                    arrow=True,
                    dashed=unit.shortcut_kind != "identity",
                )
    y = column(plan.head, y, KINDS["stem"])
    sheet.add("", x + WIDTH / 2 + 40, y + 10)
