"""What can be built, and on what: list, show, doctor."""

from __future__ import annotations

from math import prod
from pathlib import Path
from typing import Any

import click

from keras_resnet import runtime
from keras_resnet.cli import options
from keras_resnet.cli.group import main
from keras_resnet.cli.output import (
    macs_text,
    print_json,
    print_table,
    save_text,
    shape_text,
    table_of,
)
from keras_resnet.cost import Cost, cost_of, estimate_cost
from keras_resnet.errors import SpecError
from keras_resnet.plan import Conv, Plan, Pool, Shape, make_plan
from keras_resnet.presets import PRESETS, get_spec, list_networks


@main.command("list")
@click.argument("pattern", default="*")
@options.as_json
def list_command(pattern: str, as_json: bool) -> None:
    """Show the networks that can be built by name.

    PATTERN is a shell pattern.

    Example: keras-resnet list 'wrn_*'
    """
    names = list_networks(pattern)
    if not names:
        raise SpecError(f"pattern: no network matches {pattern!r}")
    rows = [(name, PRESETS[name], estimate_cost(PRESETS[name].spec)) for name in names]
    if as_json:
        fields = [
            {
                "name": name,
                "depth": preset.depth,
                "params": cost.params,
                "total_params": cost.total_params,
                "macs": cost.macs,
                "source": preset.source,
            }
            for name, preset, cost in rows
        ]
        print_json(fields)
        return
    table = table_of("name", "depth>", "trainable>", "total>", "MACs>", "source")
    for name, preset, cost in rows:
        table.add_row(
            name,
            str(preset.depth),
            f"{cost.params:,}",
            f"{cost.total_params:,}",
            macs_text(cost.macs),
            preset.source,
        )
    print_table(table)


@main.command()
@click.argument("name", required=False)
@click.option("--spec", "spec_file", type=options.PATH, help="JSON spec.")
@options.json_option("Print JSON: spec, cost, parts.")
@click.option("--save-spec", type=options.PATH, help="Write the spec, to edit it.")
@click.option("--diagram", type=options.PATH, help="Draw it into an SVG file.")
def show(
    name: str | None,
    spec_file: Path | None,
    as_json: bool,
    save_spec: Path | None,
    diagram: Path | None,
) -> None:
    """Show a network unit by unit.

    Example: keras-resnet show resnext50_32x4d
    """
    spec = options.spec_from(name, spec_file)
    if spec is None:
        raise SpecError("network: name a preset or give --spec FILE")
    if diagram and diagram.suffix != ".svg":
        raise SpecError(f"diagram: {diagram} is no .svg file")
    plan = make_plan(spec)
    cost = estimate_cost(plan)
    if save_spec:
        save_text(save_spec, spec.to_json())
    if diagram:
        from keras_resnet.analysis.diagrams import draw_plan

        save_text(diagram, draw_plan(plan))
    if as_json:
        fields = {
            "spec": spec.to_dict(),
            "weighted_layers": plan.depth,
            "cost": cost._asdict(),
            "parts": _rows(plan),
        }
        print_json(fields)
        return
    from rich.markup import escape

    title = escape(f"{spec.name}: {plan.depth} weighted layers")
    table = table_of(
        "part", "in", "out", "stride>", "groups>", "shortcut", "merge", "survival>",
        "trainable>", "MACs>", title=title,
    )  # fmt: skip
    for row in _rows(plan):
        table.add_row(
            row["name"],
            shape_text(row["in_shape"]),
            shape_text(row["shape"]),
            str(row["stride"]),
            str(row["groups"]),
            row["shortcut"],
            row["merge"],
            f"{row['survival']:.4g}",
            f"{row['params']:,}",
            macs_text(row["macs"]),
        )
    print_table(table)
    click.echo(
        f"{cost.params:,} trainable parameters, {cost.total_params:,} in all; "
        f"{macs_text(cost.macs)} MACs an image"
    )


def _rows(plan: Plan) -> list[dict[str, Any]]:
    """Stem, units and head with their costs."""
    last = plan.units[-1].shape

    def row(name: str, in_shape: Shape, ops: Any, **rest: Any) -> dict[str, Any]:
        ops = list(ops)
        cost: Cost = cost_of(ops)
        groups = max((op.groups for op in ops if isinstance(op, Conv)), default=1)
        fields = {"stride": 1, "shortcut": "", "merge": "", "survival": 1.0} | rest
        return {
            "name": name,
            "in_shape": list(in_shape),
            "shape": list(ops[-1].shape),
            "groups": groups,
            "params": cost.params,
            "macs": cost.macs,
            **fields,
        }

    stem_stride = prod(op.stride for op in plan.stem if isinstance(op, Conv | Pool))
    rows = [row("stem", plan.spec.input_shape, plan.stem, stride=stem_stride)]
    for unit in plan.units:
        merge = unit.merge
        rows.append(
            row(
                unit.name,
                unit.in_shape,
                unit.ops,
                stride=unit.stride,
                shortcut=unit.shortcut_kind,
                merge=merge.kind if merge else "none",
                survival=merge.survival if merge else 1.0,
            )
        )
    return [*rows, row("head", last, plan.head)]


@main.command()
@click.argument("names", nargs=-1)
@options.as_json
def doctor(names: tuple[str, ...], as_json: bool) -> None:
    """Show what networks run on here, how, and what to change.

    For each of NAMES, the convolutions are counted by the way in which this machine
    trains them: by TensorFlow's native op, by Winograd's method, or by a split of
    groups.

    Example: keras-resnet doctor resnet50
    """
    names = names or ("resnet50", "resnext50_32x4d", "wrn_28_10", "cifar_resnet20")
    plans = {name: make_plan(get_spec(name)) for name in names}
    runtime.prepare()
    from keras_resnet.convolution import PATHS, count_paths

    versions = runtime.versions()
    facts = runtime.describe()
    paths = {name: count_paths(plan) for name, plan in plans.items()}
    advice = runtime.bfloat16_advice()
    remedies = [*runtime.remedies(), *([advice] if advice else [])]
    if as_json:
        fields = {"versions": versions, "convolutions": paths, "remedies": remedies}
        print_json(facts | fields)
        return
    table = table_of("", "")
    table.show_header = False
    for key, value in (facts | versions).items():
        if isinstance(value, bool):
            value = "on" if value else "off"
        elif isinstance(value, list):
            value = ", ".join(value)
        table.add_row(key.replace("_", " "), str(value))
    print_table(table)
    table = table_of("convolutions in training", *(f"{path}>" for path in PATHS))
    for name, counts in paths.items():
        table.add_row(name, *(str(counts[path]) for path in PATHS))
    print_table(table)
    for remedy in remedies or ["nothing to change"]:
        click.echo(remedy)
