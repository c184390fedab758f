"""Inference: images a second of our SavedModel, of stock Keras, torch and OpenVINO.

    python -m benchmarks.inference [--case NAME] [--peer NAME] [--batch N]

All compute in float32. "ours" and "stock-export" are serving signatures, "openvino"
reads our SavedModel, "ours-unfolded" has its batch norms by themselves, and
"stock-predict" is `predict_on_batch`.
"""

from __future__ import annotations

from pathlib import Path

import click

from benchmarks import harness, report
from benchmarks.harness import Task
from benchmarks.peers import INFERENCE
from keras_resnet.presets import get_spec

CASES = ("resnet50_v1_5", "resnext50_32x4d")
BATCHES = (1, 8)
IMAGES = 16  # of a repeat
COLUMNS = {
    "network": ("case", ""),
    "peer": ("peer", ""),
    "images/s": ("images_per_second", ".3g"),
    "ours / it": ("ours_over_it", ".2f"),
    "of GEMM": ("gemm_share", ".0%"),
    "note": ("note", ""),
}


@click.command()
@click.option("--case", "cases", multiple=True, type=click.Choice(CASES), default=CASES)
@click.option("--peer", "peers", multiple=True, type=click.Choice(list(INFERENCE)))
@click.option(
    "--batch", "batches", multiple=True, type=click.IntRange(1), default=BATCHES
)
@click.option("--repeats", type=click.IntRange(1), default=5, show_default=True)
@click.option(
    "--limit",
    default=600.0,
    show_default=True,
    help="Seconds for a peer's start or repeat.",
)
@report.out_option
def main(
    cases: tuple[str, ...],
    peers: tuple[str, ...],
    batches: tuple[int, ...],
    repeats: int,
    limit: float,
    out: Path,
) -> None:
    """Compare images a second in inference."""
    records = []
    for case in cases:
        for batch in batches:
            arguments = {"spec": get_spec(case), "batch": batch}
            steps = max(1, IMAGES // batch)
            tasks = {
                peer: Task(INFERENCE[peer], arguments, steps, repeats)
                for peer in peers or INFERENCE
            }
            records += harness.throughputs(
                f"{case}, batch {batch}",
                tasks,
                passes=1,
                side=4096,
                repeats=repeats,
                limit=limit,
            )
    report.show(
        "Inference",
        COLUMNS,
        records,
        f"Least of {repeats} interleaved repeats, float32. GEMM: the product of two "
        "4096x4096 matrices, in the faster of torch and TensorFlow.",
    )
    report.write(out, "inference", records)
    report.bars(
        out,
        "inference",
        f"Inference in float32, least of {repeats} interleaved repeats",
        "images a second",
        records,
        "images_per_second",
        "{images_per_second:.3g}",
    )


if __name__ == "__main__":
    main()
