"""Training: images a second of our networks, of stock Keras' and of torch's.

    python -m benchmarks.training [--short] [--case NAME] [--peer NAME] [--repeats N]

Every peer does the same step in float32: forward, backward, SGD with momentum and
weight decay. Beside it stands the share of the float32 rate that this machine shows,
measured between the peers' turns.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import click

from benchmarks import harness, options, report
from benchmarks.harness import Task
from benchmarks.peers import TRAINING
from benchmarks.report import Bars
from keras_resnet.presets import get_spec


class Load(NamedTuple):
    """Images in a step and steps in a repeat."""

    batch: int
    steps: int


CASES = {
    "resnet50_v1_5": Load(32, 2),
    "resnext50_32x4d": Load(32, 2),
    "wide_resnet50_2": Load(16, 1),
    "wrn_28_10": Load(16, 2),
    "cifar_resnet20": Load(128, 20),
    "cifar_resnet110": Load(128, 4),
    "cifar_resnet164_v2": Load(64, 5),
}
SHORT = {
    "cifar_resnet20": Load(64, 10),
    "resnet50_v1_5": Load(8, 1),
    "resnext50_32x4d": Load(8, 1),
}
# Stock Keras takes about ten seconds an image to train grouped convolutions on CPU:
# one repeat of this.
STOCK_GROUPED = Load(2, 1)
PEERS = ("ours", "stock", "stock+onednn", "torch", "torch.compile")
COLUMNS = {
    "network": ("case", ""),
    "peer": ("peer", ""),
    "batch": ("batch", ""),
    "images/s": ("images_per_second", ".3g"),
    "ours / it": ("ours_over_it", ".2f"),
    "of GEMM": ("gemm_share", ".0%"),
    "note": ("note", ""),
}


@click.command()
@options.cases(CASES)
@options.peers(TRAINING, PEERS)
@click.option("--short", is_flag=True, help="Three networks, in small batches.")
@options.count("--repeats", text="5 by default, 2 if short.")
@options.count("--batch", text="For all cases.")
@options.count("--steps", text="In a repeat, for all cases.")
@options.limit
@options.out()
def main(
    cases: tuple[str, ...],
    peers: tuple[str, ...],
    short: bool,
    repeats: int | None,
    batch: int | None,
    steps: int | None,
    limit: float,
    out: Path,
) -> None:
    """Compare images a second in training."""
    repeats = repeats or (2 if short else 5)
    side = 2048 if short else 4096
    chosen = list(peers)
    notes = [harness.conditions(repeats, side), harness.TRAINING_STEP]
    if {"stock", "stock+onednn"} <= set(chosen) and harness.onednn_by_itself():
        chosen.remove("stock+onednn")
        notes.append("stock+onednn: TensorFlow uses oneDNN here by itself; see stock.")
    records = []
    for case in cases or (SHORT if short else CASES):
        load = SHORT.get(case, CASES[case]) if short else CASES[case]
        load = Load(batch or load.batch, steps or load.steps)
        spec = get_spec(case)
        tasks = {}
        for peer in chosen:
            slow = spec.cardinality > 1 and peer.startswith("stock")
            own = STOCK_GROUPED if slow else load
            tasks[peer] = Task(
                TRAINING[peer],
                {"spec": spec, "batch": own.batch},
                own.steps,
                1 if slow else repeats,
            )
            if slow:
                notes.append(
                    f"{case}, {peer}: batch {own.batch}, once; its grouped "
                    "convolutions train very slowly on CPU."
                )
        records += harness.throughputs(
            case, tasks, passes=3, side=side, repeats=repeats, limit=limit
        )
        report.write(out, records)  # lest an interruption cost it all
    bars = Bars(
        "share of this machine's float32 matrix product rate",
        "gemm_share",
        "{gemm_share:.0%}, {images_per_second:.3g} images/s",
    )
    report.publish(out, "Training in float32", COLUMNS, records, *notes, bars=bars)


if __name__ == "__main__":
    main()
