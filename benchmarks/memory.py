"""Memory: what an image of a batch costs in training, against the estimate.

    python -m benchmarks.memory [--case NAME] [--peer NAME]

The peak of a fresh process (its resident set) after a few steps, at several batch
sizes; the slope of the line through them is an image's.
"""

from __future__ import annotations

import statistics
from pathlib import Path
from typing import Any

import click

from benchmarks import harness, options, report
from benchmarks.harness import Task
from benchmarks.peers import TRAINING
from benchmarks.report import Bars
from keras_resnet.cost import estimate_cost
from keras_resnet.presets import get_spec

CASES = {
    "resnet50_v1_5": (8, 16, 24),
    "wrn_28_10": (8, 16, 24),
    "cifar_resnet110": (32, 64, 128),
}
PEERS = ("ours", "ours+recompute", "stock", "torch")
STEPS = 2  # after the first
MIB = 2**20
COLUMNS = {
    "network": ("case", ""),
    "peer": ("peer", ""),
    "MiB an image": ("slope", ".1f"),
    "estimate": ("estimate", ".1f"),
    "of the estimate": ("estimate_ratio", ".2f"),
    "it / ours": ("it_over_ours", ".2f"),
    "MiB without images": ("intercept", ".0f"),
    "note": ("note", ""),
}


@click.command()
@options.cases(CASES, CASES)
@options.peers(TRAINING, PEERS)
@click.option(
    "--batch", "batches", multiple=True, type=click.IntRange(1), help="Two or more."
)
@options.limit
@options.out()
def main(
    cases: tuple[str, ...],
    peers: tuple[str, ...],
    batches: tuple[int, ...],
    limit: float,
    out: Path,
) -> None:
    """Compare the memory that an image takes in training."""
    if len(set(batches)) == 1:
        raise click.UsageError("--batch: a slope needs two sizes or more")
    records = []
    for case in cases:
        found = [_measure(case, peer, batches or CASES[case], limit) for peer in peers]
        slopes = {record["peer"]: record.get("slope") for record in found}
        for record in found:
            if slopes.get("ours") and "slope" in record:
                record["it_over_ours"] = record["slope"] / slopes["ours"]
        records += found
    note = (
        f"Slope of the peak resident set over the batch size, after {STEPS + 1} steps, "
        "a fresh process each."
    )
    label = "{slope:.1f} MiB, {estimate_ratio:.2f} of the estimate"
    bars = Bars("MiB an image", "slope", label)
    title = "Memory of an image in training"
    report.publish(out, title, COLUMNS, records, note, bars=bars)


def _estimate(case: str, peer: str) -> float:
    recompute = TRAINING[peer].options.get("recompute", False)
    return estimate_cost(get_spec(case), recompute=recompute).training_memory / MIB


def _measure(
    case: str, peer: str, batches: tuple[int, ...], limit: float
) -> dict[str, Any]:
    """A record of one peer: its line through the peaks."""
    peaks: dict[int, float] = {}
    record: dict[str, Any] = {"case": case, "peer": peer, "peaks": peaks}
    for batch in batches:
        arguments = {"spec": get_spec(case), "batch": batch}
        task = Task(TRAINING[peer], arguments, STEPS)
        [result] = harness.race(f"{case}, batch {batch}", {peer: task}, limit).values()
        if result.error:
            return record | {"note": result.error}
        peaks[batch] = result.peak / MIB
    slope, intercept = statistics.linear_regression(list(peaks), list(peaks.values()))
    return record | {
        "slope": slope,
        "intercept": intercept,
        "estimate": _estimate(case, peer),
        "estimate_ratio": slope / _estimate(case, peer),
    }


if __name__ == "__main__":
    main()
