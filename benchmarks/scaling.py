"""Training time of a multiply-add as networks grow deep, wide, or into groups.

    python -m benchmarks.scaling [--sweep NAME] [--peer NAME] [--repeats N]

A network that scales ideally takes the same time for each multiply-add everywhere.
"""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any, NamedTuple

import click

from benchmarks import harness, options, report
from benchmarks.harness import Task
from benchmarks.peers import TRAINING
from keras_resnet.cost import estimate_cost
from keras_resnet.presets import cifar_resnet, get_spec, wide_resnet
from keras_resnet.spec import ResNetSpec


class Sweep(NamedTuple):
    """Networks that differ in one thing.

    Attributes:
        abscissa: what they differ in.
        batch: images in a step.
        points: its value and the network.
    """

    abscissa: str
    batch: int
    points: dict[str, ResNetSpec]


def _groups(name: str) -> ResNetSpec:
    return get_spec(name, input_shape=(64, 64, 3))


SWEEPS = {
    "depth, basic units": Sweep(
        "layers", 64, {str(n): cifar_resnet(n) for n in (20, 32, 56, 110)}
    ),
    "depth, pre-activated bottlenecks": Sweep(
        "layers",
        32,
        {
            str(n): cifar_resnet(n, "bottleneck", order="pre", project_norm=False)
            for n in (29, 56, 110, 164)
        },
    ),
    "width, WRN-16-k": Sweep(
        "k", 16, {str(k): wide_resnet(16, k) for k in (1, 2, 4, 8, 10)}
    ),
    "groups, ResNeXt-50": Sweep(
        "groups x channels of one",
        16,
        {
            "1x64d": _groups("resnet50_v1_5"),
            **{f"{c}d": _groups(f"resnext50_{c}d") for c in ("2x40", "4x24", "8x14")},
            "32x4d": _groups("resnext50_32x4d"),
        },
    ),
}
COLUMNS = {
    "growing": ("case", ""),
    "peer": ("peer", ""),
    "size": ("point", ""),
    "GMACs": ("gmacs", ".3f"),
    "ps / MAC": ("picoseconds", ".1f"),
    "of the first": ("first_ratio", ".2f"),
    "of GEMM": ("gemm_share", ".0%"),
    "note": ("note", ""),
}


@click.command()
@options.several("--sweep", "names", SWEEPS, SWEEPS)
@options.peers(TRAINING, ["ours"])
@options.repeats(5)
@options.count("--batch", text="For all sweeps.")
@options.count("--steps", 3, "In a repeat.")
@options.limit
@options.out()
def main(
    names: tuple[str, ...],
    peers: tuple[str, ...],
    repeats: int,
    batch: int | None,
    steps: int,
    limit: float,
    out: Path,
) -> None:
    """Compare training time per multiply-add along sizes."""
    records = []
    panels = {}
    for name in names:
        sweep = SWEEPS[name]
        measured = _measure(name, sweep, peers, repeats, batch, steps, limit)
        records += measured
        panels[name, sweep.abscissa] = {
            peer: [
                (record["point"], record["picoseconds"])
                for record in measured
                if record["peer"] == peer and "picoseconds" in record
            ]
            for peer in peers
        }
    title = "Training in float32: time of a multiply-add"
    notes = harness.conditions(repeats, 4096), harness.TRAINING_STEP
    report.publish(out, title, COLUMNS, records, *notes)
    report.draw_lines(out, title, "picoseconds per multiply-add", panels)


def _measure(
    name: str,
    sweep: Sweep,
    peers: tuple[str, ...],
    repeats: int,
    batch: int | None,
    steps: int,
    limit: float,
) -> list[dict[str, Any]]:
    """Records of a sweep: all its networks in turns."""
    sides = list(itertools.product(peers, sweep.points))
    tasks = {
        f"{peer} {point}": Task(
            TRAINING[peer],
            {"spec": sweep.points[point], "batch": batch or sweep.batch},
            steps,
            repeats,
        )
        for peer, point in sides
    }
    records = harness.throughputs(
        name, tasks, passes=3, side=4096, repeats=repeats, limit=limit
    )
    firsts: dict[str, float] = {}
    for record, (peer, point) in zip(records, sides, strict=True):
        gmacs = estimate_cost(sweep.points[point]).macs / 1e9
        record |= {"peer": peer, "point": point, "gmacs": gmacs}
        if record["seconds_per_mac"]:
            record["picoseconds"] = record["seconds_per_mac"] * 1e12
            first = firsts.setdefault(peer, record["picoseconds"])
            record["first_ratio"] = record["picoseconds"] / first
    return records


if __name__ == "__main__":
    main()
