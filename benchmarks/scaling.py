"""Training time of a multiply-add as networks grow deep, wide, or into groups.

    python -m benchmarks.scaling [--sweep NAME] [--peer NAME] [--repeats N]

A network that scales ideally takes the same time for each multiply-add everywhere.
"""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any, NamedTuple

import click

from benchmarks import harness, report
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
@click.option(
    "--sweep",
    "names",
    multiple=True,
    type=click.Choice(list(SWEEPS)),
    default=list(SWEEPS),
)
@click.option(
    "--peer",
    "peers",
    multiple=True,
    type=click.Choice(list(TRAINING)),
    default=["ours"],
    help="ours by default.",
)
@click.option("--repeats", type=click.IntRange(1), default=5, show_default=True)
@click.option("--batch", type=click.IntRange(1), help="For all sweeps.")
@click.option(
    "--steps", type=click.IntRange(1), default=3, show_default=True, help="In a repeat."
)
@click.option(
    "--limit",
    default=600.0,
    show_default=True,
    help="Seconds for a network's start or repeat.",
)
@report.out_option
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
    report.show(
        "Training time of a multiply-add",
        COLUMNS,
        records,
        f"Least of {repeats} interleaved repeats, float32; a step counts as 3 times "
        "the multiply-adds of the forward pass. GEMM: the product of two 4096x4096 "
        "matrices, in the faster of torch and TensorFlow.",
    )
    report.write(out, "scaling", records)
    report.lines(
        out,
        "scaling",
        "Training in float32: time of a multiply-add",
        "picoseconds per multiply-add",
        panels,
    )


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
