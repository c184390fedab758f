"""Inference: images a second of our exports, of stock Keras, torch and OpenVINO.

    python -m benchmarks.inference [--case NAME] [--peer NAME] [--batch N]

"ours" and "stock-export" are serving signatures, "openvino" reads our SavedModel,
"ours-unfolded" has its batch norms by themselves, and "stock-predict" is
`predict_on_batch`. "litert", "onnxruntime" and "openvino-file" run our files of these
formats. All compute in float32, but for "-int8": that is quantized, by noise, which is
no measure of accuracy.
"""

from __future__ import annotations

from pathlib import Path

import click

from benchmarks import harness, options, report
from benchmarks.harness import Task
from benchmarks.peers import INFERENCE
from benchmarks.report import Bars
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
@options.cases(CASES, CASES)
@options.peers(INFERENCE, INFERENCE)
@click.option(
    "--batch", "batches", multiple=True, type=click.IntRange(1), default=BATCHES
)
@options.repeats(5)
@options.limit
@options.out()
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
                peer: Task(INFERENCE[peer], arguments, steps, repeats) for peer in peers
            }
            records += harness.throughputs(
                f"{case}, batch {batch}",
                tasks,
                passes=1,
                side=4096,
                repeats=repeats,
                limit=limit,
            )
    note = harness.conditions(repeats, 4096)
    bars = Bars("images a second", "images_per_second", "{images_per_second:.3g}")
    report.publish(out, "Inference", COLUMNS, records, note, bars=bars)


if __name__ == "__main__":
    main()
